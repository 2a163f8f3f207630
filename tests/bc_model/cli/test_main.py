"""The command line: JSON that is only JSON, and bad input that ends in one line and code 2."""

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

from bc_model.data.dataset import read_dataset
from bc_model.data.splits import read_split
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import to_json
from tests.bc_model.conftest import Command
from tests.bc_model.reporting.examples import report


@pytest.fixture
def one_class(drawn_set: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn_set / "histology_slides/breast/malignant", tmp_path / "one/malignant")
    return tmp_path / "one"


# What goes well


def test_json_of_an_audit_is_all_of_stdout(command: Command, drawn_set: Path) -> None:
    code, out, err = command("audit", drawn_set, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["images"], found["cases"], found["benign_cases"]) == (30, 10, 5)


def test_an_audit_tells_files_left_out(command: Command, one_class: Path) -> None:
    first = next(one_class.rglob("*.png"))
    first.write_bytes(b"")
    code, out, _ = command("audit", one_class)
    assert code == 0
    assert "14 pictures" in out
    assert f"{first.name}: empty." in out


def test_a_split_is_written_and_proven_clean(
    command: Command, drawn_set: Path, tmp_path: Path
) -> None:
    code, out, err = command("split", drawn_set, "--out", tmp_path / "new/split.csv", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["shared"]["test_pictures"] == told["shared"]["pixels"] == 0
    # 10 cases of 3 pictures in 5 folds: one benign and one malignant case each.
    assert told["parts"]["test"] == {
        "images": 6, "benign": 3, "malignant": 3,
        "cases": 2, "benign_cases": 1, "malignant_cases": 1,
    }  # fmt: skip
    assert len(read_split(tmp_path / "new/split.csv")) == 30


def test_a_split_by_image_is_called_leakage(
    command: Command, drawn_set: Path, tmp_path: Path
) -> None:
    out_file = tmp_path / "split.csv"
    _, out, _ = command("split", drawn_set, "--protocol", "image", "--out", out_file)
    assert "LEAKY" in out


def test_a_drawn_set_is_made(command: Command, tmp_path: Path) -> None:
    code, out, _ = command(
        "data", "synthetic", tmp_path / "set",
        "--cases", 2, "--pictures-per-case", 1, "--image-size", "32x48",
    )  # fmt: skip
    assert (code, out[:16]) == (0, "2 drawn pictures")
    assert len(read_dataset(tmp_path / "set").images) == 2


def test_a_run_is_evaluated_on_its_own_test_part(
    command: Command, tiny_run: Run, drawn_set: Path, tmp_path: Path
) -> None:
    code, out, _ = command("evaluate", tiny_run.path, drawn_set, "--out", tmp_path / "e", "--json")
    assert code == 0
    assert isinstance(json.loads(out), dict)
    assert (tmp_path / "e/report.json").is_file()


def test_help_does_not_wait_for_tensorflow() -> None:
    code = (
        "import sys; from bc_model import cli; sys.argv = ['bc_model', 'train', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


# Bad data


@pytest.mark.parametrize(
    "rest", [("audit",), ("split", "--out", "s.csv"), ("train", "--run", "r")], ids=lambda r: r[0]
)
def test_no_such_folder(refused: Callable[..., str], tmp_path: Path, rest: tuple[str, ...]) -> None:
    name, *options = rest
    options = [
        str(tmp_path / subset) if "." in subset or subset == "r" else subset for subset in options
    ]
    assert "no folder" in (line := refused(name, tmp_path / "gone", *options))
    assert str(tmp_path / "gone") in line


@pytest.mark.parametrize("name", ["audit", "split"])
def test_a_folder_without_images(refused: Callable[..., str], tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/readme.txt").write_text("x")
    options = ["--out", tmp_path / "s.csv"] if name == "split" else []
    assert "set holds no PNG" in refused(name, tmp_path / "set", *options)


def test_one_class_only(refused: Callable[..., str], one_class: Path, tmp_path: Path) -> None:
    line = refused("split", one_class, "--out", tmp_path / "new/s.csv")
    assert "All 15 pictures under" in line
    assert "are malignant" in line


def test_fewer_cases_than_folds(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path
) -> None:
    line = refused("split", drawn_set, "--out", tmp_path / "s.csv", "--n-folds", 6)
    assert "at least 6 benign cases" in line
    assert "this data has 5" in line


# Bad models, runs and outputs


@pytest.mark.parametrize("name", ["evaluate", "explain"])
def test_a_file_that_is_not_a_model(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path, name: str
) -> None:
    model = tmp_path / "model.keras"
    model.write_text("not a model")
    if name == "evaluate":
        line = refused("evaluate", model, drawn_set, "--out", tmp_path / "e")
    else:
        image = next(drawn_set.rglob("*.png"))
        line = refused("explain", image, "--model", model, "--out", tmp_path / "e")
    assert "model.keras is not a model" in line


def test_a_folder_that_is_not_a_model(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    line = refused("evaluate", tmp_path / "empty", drawn_set, "--out", tmp_path / "e")
    assert str(tmp_path / "empty") in line


def test_a_run_folder_that_is_taken(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("x")
    assert "already exists" in refused("train", drawn_set, "--run", tmp_path / "run")


def test_a_split_of_other_data(
    refused: Callable[..., str], tiny_run: Run, one_class: Path, tmp_path: Path
) -> None:
    line = refused("evaluate", tiny_run.path, one_class, "--out", tmp_path / "e")
    assert "pictures of the split are not under" in line


@pytest.mark.parametrize("name", ["evaluate", "explain", "split"])
def test_an_output_that_is_in_the_way(
    refused: Callable[..., str], tiny_run: Run, drawn_set: Path, tmp_path: Path, name: str
) -> None:
    taken = tmp_path / "taken"
    if name == "split":
        taken.mkdir()
        line = refused("split", drawn_set, "--out", taken)
    else:
        taken.write_text("x")
        image = next(drawn_set.rglob("*.png"))
        arguments = {
            "evaluate": ["evaluate", tiny_run.path, drawn_set],
            "explain": ["explain", image, "--model", tiny_run.path],
        }[name]
        line = refused(*arguments, "--out", taken)
    assert str(taken) in line


def test_a_drawn_set_into_a_folder_that_holds_something(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert "is not an empty folder" in refused("data", "synthetic", tmp_path)


# Bad options


def test_an_unknown_option(refused: Callable[..., str], drawn_set: Path) -> None:
    line = refused("audit", drawn_set, "--jsno")
    assert "--jsno" in line
    assert "audit --help" in line


def test_an_unknown_command(refused: Callable[..., str]) -> None:
    assert "predict" in refused("predict")


def test_a_missing_argument(refused: Callable[..., str]) -> None:
    assert "DATA" in refused("audit")


@pytest.mark.parametrize(
    "size", ["abc", "224", "224x", "224x224x3", "10x10", "-32x32", "9999x9999"]
)
def test_a_bad_image_size(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path, size: str
) -> None:
    line = refused("train", drawn_set, "--run", tmp_path / "run", f"--image-size={size}")
    assert "image-size" in line.replace("_", "-")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--backbone", "resnet18", "resnet18"),
        ("--dense-units", "256;64", "256;64"),
        ("--dropout", "1.5", "dropout"),
        ("--batch-size", "many", "--batch-size"),
        ("--protocol", "random", "--protocol"),
        ("--test-fold", "5", "test_fold"),
    ],
)
def test_a_bad_option_of_a_training(
    refused: Callable[..., str], drawn_set: Path, tmp_path: Path, option: str, value: str, said: str
) -> None:
    assert said in refused("train", drawn_set, "--run", tmp_path / "run", option, value)


# What is nobody's input


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped."),
        (RuntimeError("odd\nthing"), 1, "a fault in the program"),
    ],
    ids=["Ctrl-C", "a fault"],
)
def test_other_endings_are_one_line_too(
    command: Command,
    drawn_set: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("bc_model.data.dataset.read_manifest", fail)
    found, out, err = command("audit", drawn_set)
    # Click puts an empty line behind the terminal's own "^C".
    assert (found, out, err.strip().count("\n")) == (code, "", 0)
    assert said in err


def test_data_and_weights_are_kept_by_their_whole_paths(
    drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The run may be resumed, and its pictures looked at, from another folder.
    module = importlib.import_module("bc_model.cli.train")
    seen: list[TrainingConfig] = []
    monkeypatch.setattr(module, "_work_on", lambda _, config: seen.append(config))
    monkeypatch.chdir(drawn_set.parent)
    Path("mine.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    arguments = ["set", "--run", str(tmp_path / "run"), "--weights", "mine.h5"]
    assert CliRunner().invoke(module.train, arguments).exit_code == 0
    assert seen[0].data == str(drawn_set.resolve())
    assert seen[0].weights == str(drawn_set.parent.resolve() / "mine.h5")


# Going on with a run


@pytest.fixture
def canceled_run(tiny_config: TrainingConfig, tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(tiny_config)})
    run.write_status("canceled")
    return run


def test_settings_beside_resume_are_refused(refused: Callable[..., str], canceled_run: Run) -> None:
    line = refused(
        "train", "--run", canceled_run.path, "--resume", "--backbone", "resnet50",
        "--image-size", "999999x2", "--no-cache-features",
    )  # fmt: skip
    assert "Expected none, got --backbone, --image-size, --cache-features." in line


def test_a_run_goes_on_though_its_data_was_moved(
    canceled_run: Run,
    tiny_config: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("bc_model.cli.train")
    seen: list[TrainingConfig] = []
    monkeypatch.setattr(module, "_work_on", lambda _, config, **how: seen.append(config))
    monkeypatch.chdir(tmp_path)
    Path("moved").mkdir()
    arguments = ["moved", "--run", str(canceled_run.path), "--resume"]
    assert CliRunner().invoke(module.train, arguments).exit_code == 0
    assert seen == [dataclasses.replace(tiny_config, data=str((tmp_path / "moved").resolve()))]


def test_data_that_is_nowhere_is_refused_before_a_run_goes_on(
    refused: Callable[..., str], canceled_run: Run, tmp_path: Path
) -> None:
    line = refused("train", tmp_path / "gone", "--run", canceled_run.path, "--resume")
    assert "There is no folder" in line


def test_a_run_without_a_model_ends_with_a_word_and_another_code(
    command: Command, drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel(_: TrainingConfig, run: Run) -> None:
        run.write_status("canceled", message="Canceled on request; no model was made.")

    monkeypatch.setattr("bc_model.training.trainer.train", cancel)
    code, out, _ = command("train", drawn_set, "--run", tmp_path / "run", "--weights", "none")
    assert (code, out.splitlines()[-1]) == (1, "Canceled on request; no model was made.")
    assert "no model was made" in Run(tmp_path / "run").read_log()


def test_train_writes_the_plots_of_its_report(
    command: Command, drawn_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(_: TrainingConfig, run: Run) -> None:
        report().write(run.evaluation_dir)
        run.write_status("done")

    monkeypatch.setattr("bc_model.training.trainer.train", train)
    code, _, _ = command("train", drawn_set, "--run", tmp_path / "run", "--weights", "none")
    assert code == 0
    assert {"confusion.png", "roc.png"} <= {
        file.name for file in (tmp_path / "run" / "evaluation").iterdir()
    }
