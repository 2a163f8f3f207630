"""The public names of the library, and the examples of `docs/api.md`."""

import doctest
import importlib
import inspect
import pkgutil
import shutil
from pathlib import Path

import pytest

import bc_model
from bc_model.data import generate_dataset

ROOT = Path(__file__).parents[1]
FACADES = ("bc_model", *(
    f"bc_model.{name}"
    for name in ("data", "inference", "evaluation", "training", "experiments", "distillation",
                 "reporting", "utils")
))  # fmt: skip
PUBLIC_API = {
    "load_dataset", "make_split", "count_leakage", "build_model", "freeze_backbone",
    "unfreeze_from", "train", "TrainingConfig", "load_classifier", "read_image",
    "overlay_heatmap", "evaluate", "evaluate_external", "compare_models", "EvaluationReport",
    "Classifier", "Prediction", "GradCAM", "Heatmap", "grad_cam_from_activations", "Check",
    "Severity", "save_report", "ContributionMap", "overlay_signed_map",
}  # fmt: skip


def test_the_library_lists_its_public_api() -> None:
    assert set(bc_model.__all__) >= PUBLIC_API


@pytest.mark.parametrize("facade", FACADES)
def test_facade_names_are_objects_even_after_all_modules_are_imported(facade: str) -> None:
    package = importlib.import_module(facade)
    for module in pkgutil.iter_modules(package.__path__, f"{facade}."):
        if module.name != "bc_model.__main__":  # It runs the command line.
            importlib.import_module(module.name)
    assert package.__all__
    for name in package.__all__:
        assert not inspect.ismodule(getattr(package, name)), name


def test_public_functions_and_classes_have_docstrings() -> None:
    missing = [
        name
        for name in bc_model.__all__
        if callable(getattr(bc_model, name)) and not inspect.getdoc(getattr(bc_model, name))
    ]
    assert missing == []


@pytest.fixture
def workspace(synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "data"))
    monkeypatch.setenv("BC_RUNS", str(tmp_path / "runs"))
    shutil.copytree(synthetic_dataset, tmp_path / "BreaKHis_v1")
    images = sorted((tmp_path / "BreaKHis_v1").rglob("*.png"))
    shutil.copy(images[0], tmp_path / "field.png")
    generate_dataset(tmp_path / "other", n_cases=8, images_per_case=1, size=(64, 96), seed=1)
    for number, image in enumerate(sorted((tmp_path / "other").rglob("*.png"))):
        folder = tmp_path / "patches" / ("1" if "/malignant/" in image.as_posix() else "0")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / f"{number}.png")
    return tmp_path


@pytest.mark.usefixtures("workspace")
def test_the_examples_of_the_api_page_run() -> None:
    failed, attempted = doctest.testfile(
        str(ROOT / "docs" / "api.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert attempted > 20
    assert failed == 0


MODULES_WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "bc_model").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES_WITH_EXAMPLES)
def test_the_examples_of_docstrings_run(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
