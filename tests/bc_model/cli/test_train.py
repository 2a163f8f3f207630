"""`train` on a dataset whose classes and cases come from rules."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.data.splits import read_split
from bc_model.inference.bundle import open_bundle
from bc_model.training.run import Run
from tests.bc_model.conftest import Command

RULES = ("--labels", "0=benign,1=malignant,2=exclude", "--case-from", "folder:2")


@pytest.fixture(scope="module")
def run_options(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """Return a new run directory and the options of a small training."""
    path = tmp_path_factory.mktemp("runs") / "labeled"
    options = (
        "--run", str(path), "--weights", "none", "--backbone", "tiny", "--image-size", "32x32",
        "--head-epochs", "1", "--finetune-epochs", "1",
    )  # fmt: skip
    return path, options


def test_train_and_evaluate_by_patient(
    command: Command,
    labeled_dataset: Path,
    run_options: tuple[Path, tuple[str, ...]],
    tmp_path: Path,
) -> None:
    path, options = run_options
    code, _, error = command("train", labeled_dataset, *RULES, *options)
    assert code == 0, error
    split = read_split(Run(path).split_file)
    assert len(split) == 20
    assert split.groupby("case")["subset"].nunique().eq(1).all()
    assert set(split["case"]) == {f"patient{i}" for i in range(10)}
    data = open_bundle(path).card.data
    assert (data.labels, data.case_from) == (RULES[1], RULES[3])
    # The rules of the run apply to its dataset.
    code, out, error = command("evaluate", path, labeled_dataset, "--out", tmp_path, "--json")
    assert code == 0, error
    assert json.loads(out)["n_images"] == (split["subset"] == "test").sum()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("--labels", "0=benign"), "no label for the class malignant"),
        (("--labels", "0=benign,9=malignant"), "The label '9' matches no image"),
        ((*RULES[:2], "--case-from", "regex:("), "Invalid rule 'regex:(' for the case"),
        ((*RULES[:2], "--case-from", "regex:xyz"), "None of the 21 image files"),
        (("--labels", "0=exclude,1=exclude"), "no label for the class benign"),
    ],
)
def test_train_with_rules_that_do_not_fit_is_refused(
    refused: Callable[..., str],
    labeled_dataset: Path,
    tmp_path: Path,
    rules: tuple[str, ...],
    expected: str,
) -> None:
    line = refused("train", labeled_dataset, *rules, "--run", tmp_path / "run", "--weights", "none")
    assert expected in line
