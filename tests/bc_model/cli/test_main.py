"""The command line: JSON output, invalid input, exit codes, and `train`."""

import dataclasses
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bc_model.data.dataset import load_dataset
from bc_model.data.splits import read_split
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import to_json
from tests.bc_model.conftest import Command
from tests.bc_model.reporting.examples import report


@pytest.fixture
def one_class(synthetic_dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(
        synthetic_dataset / "histology_slides/breast/malignant", tmp_path / "one/malignant"
    )
    return tmp_path / "one"


def test_audit_with_json_prints_only_json(command: Command, synthetic_dataset: Path) -> None:
    code, out, err = command("audit", synthetic_dataset, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["images"], found["cases"], found["benign_cases"]) == (30, 10, 5)


def test_audit_lists_excluded_files(command: Command, one_class: Path) -> None:
    first = next(one_class.rglob("*.png"))
    first.write_bytes(b"")
    code, out, _ = command("audit", one_class)
    assert code == 0
    assert "14 images" in out
    assert f"{first.name}: empty." in out


def test_split_by_case_has_no_leakage(
    command: Command, synthetic_dataset: Path, tmp_path: Path
) -> None:
    code, out, err = command(
        "split", synthetic_dataset, "--out", tmp_path / "new/split.csv", "--json"
    )
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["leakage"]["n_test_images"] == result["leakage"]["n_duplicates"] == 0
    # 10 cases of 3 images in 5 folds: one benign and one malignant case each.
    assert result["subsets"]["test"] == {
        "images": 6, "benign": 3, "malignant": 3,
        "cases": 2, "benign_cases": 1, "malignant_cases": 1,
    }  # fmt: skip
    assert len(read_split(tmp_path / "new/split.csv")) == 30


def test_split_by_image_reports_leakage(
    command: Command, synthetic_dataset: Path, tmp_path: Path
) -> None:
    out_file = tmp_path / "split.csv"
    _, out, _ = command("split", synthetic_dataset, "--protocol", "image", "--out", out_file)
    assert "This split has leakage." in out


def test_data_generate_writes_a_synthetic_dataset(command: Command, tmp_path: Path) -> None:
    code, out, _ = command(
        "data", "generate", tmp_path / "set",
        "--cases", 2, "--images-per-case", 1, "--image-size", "32x48",
    )  # fmt: skip
    assert (code, out[:18]) == (0, "2 synthetic images")
    assert len(load_dataset(tmp_path / "set").images) == 2


def test_evaluate_run_on_its_test_subset_writes_the_report(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    code, out, _ = command(
        "evaluate", tiny_run.path, synthetic_dataset, "--out", tmp_path / "e", "--json"
    )
    assert code == 0
    assert isinstance(json.loads(out), dict)
    assert (tmp_path / "e/report.json").is_file()


def test_help_loads_no_tensorflow() -> None:
    code = (
        "import sys; from bc_model import cli; sys.argv = ['breast-histology', 'train', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "rest", [("audit",), ("split", "--out", "s.csv"), ("train", "--run", "r")], ids=lambda r: r[0]
)
def test_command_with_a_missing_dataset_is_refused(
    refused: Callable[..., str], tmp_path: Path, rest: tuple[str, ...]
) -> None:
    name, *options = rest
    options = [str(tmp_path / text) if text in ("s.csv", "r") else text for text in options]
    assert "folder " in (line := refused(name, tmp_path / "gone", *options))
    assert str(tmp_path / "gone") in line


@pytest.mark.parametrize("name", ["audit", "split"])
def test_command_on_a_folder_without_images_is_refused(
    refused: Callable[..., str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/readme.txt").write_text("x")
    options = ["--out", tmp_path / "s.csv"] if name == "split" else []
    assert "set contains no images" in refused(name, tmp_path / "set", *options)


def test_split_with_one_class_is_refused(
    refused: Callable[..., str], one_class: Path, tmp_path: Path
) -> None:
    line = refused("split", one_class, "--out", tmp_path / "new/s.csv")
    assert "got 15 malignant images" in line


def test_split_with_fewer_cases_than_folds_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, tmp_path: Path
) -> None:
    line = refused("split", synthetic_dataset, "--out", tmp_path / "s.csv", "--n-folds", 6)
    assert "Too few benign cases for 6 folds" in line
    assert "got 5" in line


@pytest.mark.parametrize("name", ["evaluate", "explain"])
def test_command_on_a_file_that_is_not_a_model_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, tmp_path: Path, name: str
) -> None:
    model = tmp_path / "model.keras"
    model.write_text("not a model")
    if name == "evaluate":
        line = refused("evaluate", model, synthetic_dataset, "--out", tmp_path / "e")
    else:
        image = next(synthetic_dataset.rglob("*.png"))
        line = refused("explain", image, "--model", model, "--out", tmp_path / "e")
    assert "model.keras is not a model" in line


def test_evaluate_on_a_folder_without_a_model_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    line = refused("evaluate", tmp_path / "empty", synthetic_dataset, "--out", tmp_path / "e")
    assert str(tmp_path / "empty") in line


def test_train_into_an_existing_directory_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("x")
    assert "already exists" in refused("train", synthetic_dataset, "--run", tmp_path / "run")


def test_evaluate_on_other_data_than_the_split_is_refused(
    refused: Callable[..., str], tiny_run: Run, one_class: Path, tmp_path: Path
) -> None:
    line = refused("evaluate", tiny_run.path, one_class, "--out", tmp_path / "e")
    assert "Use the dataset of the split" in line


@pytest.mark.parametrize("name", ["evaluate", "explain", "split"])
def test_command_with_an_unusable_output_path_is_refused(
    refused: Callable[..., str], tiny_run: Run, synthetic_dataset: Path, tmp_path: Path, name: str
) -> None:
    taken = tmp_path / "taken"
    if name == "split":
        taken.mkdir()
        line = refused("split", synthetic_dataset, "--out", taken)
    else:
        taken.write_text("x")
        image = next(synthetic_dataset.rglob("*.png"))
        arguments = {
            "evaluate": ["evaluate", tiny_run.path, synthetic_dataset],
            "explain": ["explain", image, "--model", tiny_run.path],
        }[name]
        line = refused(*arguments, "--out", taken)
    assert str(taken) in line


def test_data_generate_into_a_folder_with_files_is_refused(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert "is not an empty folder" in refused("data", "generate", tmp_path)


def test_unknown_option_is_refused_with_a_hint(
    refused: Callable[..., str], synthetic_dataset: Path
) -> None:
    line = refused("audit", synthetic_dataset, "--jsno")
    assert "--jsno" in line
    assert "audit --help" in line


def test_unknown_command_is_refused(refused: Callable[..., str]) -> None:
    assert "predict" in refused("predict")


def test_missing_argument_is_refused(refused: Callable[..., str]) -> None:
    assert "DATA" in refused("audit")
    assert "DATA" in refused("split", "--out", "s.csv")


@pytest.mark.parametrize(
    "size", ["abc", "224", "224x", "224x224x3", "10x10", "-32x32", "9999x9999"]
)
def test_train_with_an_invalid_image_size_is_refused(
    refused: Callable[..., str], synthetic_dataset: Path, tmp_path: Path, size: str
) -> None:
    line = refused("train", synthetic_dataset, "--run", tmp_path / "run", f"--image-size={size}")
    assert "image-size" in line.replace("_", "-")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--backbone", "resnet18", "resnet18"),
        ("--dense-units", "256;64", "256;64"),
        ("--dropout", "1.5", "dropout"),
        ("--batch-size", "many", "--batch-size"),
        ("--protocol", "random", "--protocol"),
        ("--test-fold", "5", "test_fold"),
    ],
)
def test_train_with_an_invalid_option_is_refused(
    refused: Callable[..., str],
    synthetic_dataset: Path,
    tmp_path: Path,
    option: str,
    value: str,
    expected: str,
) -> None:
    assert expected in refused("train", synthetic_dataset, "--run", tmp_path / "run", option, value)


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (KeyboardInterrupt(), 130, "Stopped."),
        (RuntimeError("odd\nthing"), 1, "Unexpected error (RuntimeError: odd thing)."),
    ],
    ids=["Ctrl-C", "bug"],
)
def test_audit_that_is_interrupted_or_fails_prints_one_line(
    command: Command,
    synthetic_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    expected: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("bc_model.data.load_dataset", fail)
    exit_code, out, err = command("audit", synthetic_dataset)
    # Click adds an empty line after the "^C" of the terminal.
    assert (exit_code, out, err.strip().count("\n")) == (code, "", 0)
    assert expected in err


def test_train_stores_absolute_paths_of_data_and_weights(
    synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run can be resumed from another directory.
    module = importlib.import_module("bc_model.cli.train")
    seen: list[TrainingConfig] = []
    monkeypatch.setattr(module, "_execute", lambda _, config: seen.append(config))
    monkeypatch.chdir(synthetic_dataset.parent)
    Path("mine.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    arguments = ["set", "--run", str(tmp_path / "run"), "--weights", "mine.h5"]
    assert CliRunner().invoke(module.train, arguments).exit_code == 0
    assert seen[0].data == str(synthetic_dataset.resolve())
    assert seen[0].weights == str(synthetic_dataset.parent.resolve() / "mine.h5")


@pytest.fixture
def canceled_run(tiny_config: TrainingConfig, tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(tiny_config)})
    run.write_status("canceled")
    return run


def test_train_options_with_resume_are_refused(
    refused: Callable[..., str], canceled_run: Run
) -> None:
    line = refused(
        "train", "--run", canceled_run.path, "--resume", "--backbone", "resnet50",
        "--image-size", "999999x2", "--no-cache-features",
    )  # fmt: skip
    assert "Expected none, got --backbone, --image-size, --cache-features." in line


def test_train_resume_with_moved_data_uses_the_new_path(
    canceled_run: Run,
    tiny_config: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("bc_model.cli.train")
    seen: list[TrainingConfig] = []
    monkeypatch.setattr(module, "_execute", lambda _, config, **how: seen.append(config))
    monkeypatch.chdir(tmp_path)
    Path("moved").mkdir()
    arguments = ["moved", "--run", str(canceled_run.path), "--resume"]
    assert CliRunner().invoke(module.train, arguments).exit_code == 0
    assert seen == [dataclasses.replace(tiny_config, data=str((tmp_path / "moved").resolve()))]


def test_commands_accept_the_name_of_a_registered_dataset(
    command: Command, synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "registry"))
    module = importlib.import_module("bc_model.cli.train")
    seen: list[TrainingConfig] = []
    monkeypatch.setattr(module, "_execute", lambda _, config, **how: seen.append(config))
    assert command("data", "add", synthetic_dataset, "--name", "registered")[0] == 0
    assert "30 images" in command("audit", "registered")[1]
    assert command("split", "registered", "--out", tmp_path / "split.csv")[0] == 0
    arguments = ["registered", "--run", str(tmp_path / "run"), "--weights", "none"]
    assert CliRunner().invoke(module.train, arguments).exit_code == 0
    assert [config.data for config in seen] == [str(synthetic_dataset.resolve())]


def test_train_resume_with_missing_data_is_refused(
    refused: Callable[..., str], canceled_run: Run, tmp_path: Path
) -> None:
    line = refused("train", tmp_path / "gone", "--run", canceled_run.path, "--resume")
    assert "There is no folder" in line


def test_train_without_a_model_prints_the_reason_and_exits_with_1(
    command: Command, synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel(_: TrainingConfig, run: Run) -> None:
        run.write_status("canceled", message="Canceled on request, without a model.")

    monkeypatch.setattr("bc_model.training.train", cancel)
    code, out, _ = command(
        "train", synthetic_dataset, "--run", tmp_path / "run", "--weights", "none"
    )
    assert (code, out.splitlines()[-1]) == (1, "Canceled on request, without a model.")
    assert "without a model" in Run(tmp_path / "run").read_log()


def test_train_writes_the_plots_of_the_report(
    command: Command, synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(_: TrainingConfig, run: Run) -> None:
        report().save(run.evaluation_dir)
        run.write_status("done")

    monkeypatch.setattr("bc_model.training.train", train)
    code, _, _ = command("train", synthetic_dataset, "--run", tmp_path / "run", "--weights", "none")
    assert code == 0
    assert {"confusion.png", "roc.png"} <= {
        file.name for file in (tmp_path / "run" / "evaluation").iterdir()
    }
