"""`experiments cv` and `sweep`: table, JSON, exit codes and invalid input."""

import json
import shutil
from pathlib import Path

import pytest

from bc_model.experiments import experiment
from bc_model.training import run_queue
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run, list_runs
from bc_model.utils.serialization import from_json
from tests.bc_model.conftest import Command

TINY = [
    "--backbone", "tiny", "--weights", "none", "--image-size", "32x32", "--batch-size", 8,
    "--head-epochs", 1, "--finetune-epochs", 1, "--dense-units", 8,
]  # fmt: skip


@pytest.fixture
def command(command_line: Command, synthetic_dataset: Path) -> Command:
    """Run `experiments sweep`, or `cv` without ``--set``, on the synthetic dataset."""

    def run(*arguments: object) -> tuple[int, str, str]:
        name = "sweep" if "--set" in arguments else "cv"
        return command_line("experiments", name, synthetic_dataset, *TINY, *arguments)

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_run: Run) -> list[str]:
    """End each run at once with the results of the tiny run; fail runs with seed 9."""
    names: list[str] = []

    def launch(run: Run) -> None:
        names.append(run.name)
        config = run.read_config()["config"]
        if config["seed"] == 9:
            run.write_status("failed", message="The disk is full.")
        else:
            shutil.copytree(tiny_run.evaluation_dir, run.evaluation_dir)
            run.write_status("done")

    monkeypatch.setattr(run_queue, "launch_run", launch)
    monkeypatch.setattr(experiment, "_POLL_INTERVAL_S", 0.01)
    return names


def test_sweep_prints_one_line_per_configuration(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    code, out, err = command(
        "--name", "try", "--runs", tmp_path / "runs", "--test-folds", 0,
        "--set", "head-learning-rate=1e-3,1e-4", "--set", "dense_units=8,8+4",
    )  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "config"
    assert "no result" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "dense_units=8, head_learning_rate=0.001", "dense_units=8+4, head_learning_rate=0.001",
        "dense_units=8, head_learning_rate=0.0001", "dense_units=8+4, head_learning_rate=0.0001",
    ]  # fmt: skip
    assert all("1 of 1" in line and line.split()[-2:] == ["6", "2"] for line in lines[1:5])
    assert "balanced accuracy" in lines[0]
    assert "ROC AUC" in lines[0]
    assert "warning BC248: The 4 configurations were compared on the same test images" in out
    assert err.splitlines()[-1] == "4 done"
    config = from_json(TrainingConfig, Run(tmp_path / "runs" / trained[-1]).read_config()["config"])
    assert (config.head_learning_rate, config.dense_units, config.test_fold) == (
        1e-4,
        (8, 4),
        0,
    )


def test_cv_with_json_prints_only_json(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    code, out, _ = command("--name", "cv", "--runs", tmp_path, "--test-folds", 0, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["runs"] == [
        {"run": "cv-fold0", "group": "", "fold": 0, "state": "done", "message": ""}
    ]
    (group,) = result["groups"]
    assert (group["folds"], group["n_runs"], group["n_failed"]) == ([0], 1, 0)
    assert group["report"]["n_images"] == 6


def test_sweep_with_a_failed_run_prints_the_others_and_exits_with_1(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    code, out, err = command(
        "--name", "cv", "--runs", tmp_path, "--test-folds", 0, "--set", "seed=9,1,2"
    )
    assert code == 1
    assert len(trained) == 3
    assert err.splitlines()[-1] == "cv-seed-9-fold0: failed: The disk is full."
    assert "seed=9: Results are available for 0 of 1 run, and 1 run ended without" in out
    assert [line.split()[1:4] for line in out.splitlines()[1:4]] == [
        ["0", "of", "1"], ["1", "of", "1"], ["1", "of", "1"],
    ]  # fmt: skip


def test_sweep_again_starts_only_unfinished_runs(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    arguments = ("--name", "cv", "--runs", tmp_path, "--test-folds", 0, "--set", "seed=9,1")
    command(*arguments)
    command(*arguments)
    assert trained == ["cv-seed-9-fold0", "cv-seed-1-fold0", "cv-seed-9-fold0"]


def test_command_with_detach_does_not_wait(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_queue, "launch_run", lambda run: run.write_status("running"))
    code, out, err = command("--name", "cv", "--runs", tmp_path, "--n-folds", 3, "--detach")
    assert (code, err) == (0, "")
    assert "Results are available for 0 of 3 runs" in out
    assert out.splitlines()[-1] == f"The runs continue. `runs list {tmp_path}` shows them."
    assert len(list_runs(tmp_path)) == 3


def test_cv_with_ctrl_c_keeps_the_runs_and_exits_with_130(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_queue, "launch_run", lambda run: run.write_status("running"))
    monkeypatch.setattr(experiment.time, "sleep", interrupt)
    code, out, err = command("--name", "cv", "--runs", tmp_path, "--n-folds", 3)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1].startswith(f"The runs continue. `runs list {tmp_path}` shows them")
    assert [run.requested_action() for run in list_runs(tmp_path)] == [None] * 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "epochs=1"], "Unknown option 'epochs'"),
        (["--set", "test_fold=1"], "Test folds are listed separately"),
        (["--set", "dropout=0.1,1.5"], "Invalid dropout 1.5. Expected 0 <= dropout < 1"),
        (["--set", "dropout=x"], "Invalid dropout 'x'. Expected a number"),
        (["--set", "dropout"], "Expected an option and its values"),
        (["--set", "dropout=0", "--set", "dropout=1"], "once per option"),
        (["--set", "dropout=0.5,0.5"], "Repeated value 0.5 in dropout"),
        (["--dropout", "2"], "--dropout"),
        (["--test-folds", "some"], "Expected all, or numbers"),
        (["--test-folds", "5"], "Invalid test_fold 5"),
        (["--set", "seed=" + ",".join(map(str, range(41)))], "Expected at most 200"),
        (["--name", "my study"], "Invalid experiment name 'my study'"),
        (["--set", "weights=gone.h5"], "gone.h5"),
        (["--scheduler", "nonsense"], "No Dask scheduler at nonsense"),
    ],
)
def test_command_with_invalid_input_is_refused_and_starts_nothing(
    command: Command, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    runs = tmp_path / "runs"
    code, out, err = command("--name", "cv", "--runs", runs, *arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert expected in err
    assert not runs.exists()


@pytest.mark.parametrize(
    ("first", "tried"), [("imagenet", "none,bundled"), ("bundled", "imagenet,none")]
)
def test_sweep_with_bundled_and_other_weights_requires_an_image_size(
    command_line: Command, synthetic_dataset: Path, tmp_path: Path, first: str, tried: str
) -> None:
    code, _, err = command_line(
        "experiments", "sweep", synthetic_dataset, "--name", "cv", "--runs", tmp_path / "runs",
        "--weights", first, "--set", f"weights={tried}",
    )  # fmt: skip
    assert code == 2
    assert "Missing --image-size." in err
    assert not (tmp_path / "runs").exists()


def test_cv_with_the_name_of_another_experiment_is_refused(
    command: Command, trained: list[str], tmp_path: Path
) -> None:
    command("--name", "cv", "--runs", tmp_path, "--test-folds", 0)
    code, out, err = command("--name", "cv", "--runs", tmp_path, "--test-folds", 0, "--patience", 3)
    assert (code, out) == (2, "")
    assert "experiment 'cv' already exists with another plan: patience is 6 there and 3 here" in err
    assert trained == ["cv-fold0"]
