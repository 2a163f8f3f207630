"""The run directory: creation, configuration, history, and lists of runs."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.data.registry import datasets_dir
from bc_model.errors import RunError
from bc_model.jobs import STATES, JobSpec, cancel_job, delete_job
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run, find_run, list_runs, new_run_id, runs_dir
from bc_model.utils import io
from bc_model.utils.serialization import to_json

EPOCH = {
    "epoch": 1, "phase": "head", "loss": 0.5, "accuracy": 0.75, "val_loss": 0.5,
    "val_accuracy": 0.75, "learning_rate": 1e-3, "seconds": 2.5, "time": 1.7e9,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "a")


# Create and open


def test_create_makes_parent_directories(tmp_path: Path) -> None:
    assert Run.create(tmp_path / "x" / "y").path.is_dir()


def test_create_uses_an_empty_directory(tmp_path: Path) -> None:
    assert Run.create(tmp_path).path == tmp_path


@pytest.mark.parametrize("state", sorted(STATES))
def test_create_in_the_directory_of_a_run_raises(run: Run, state: str) -> None:
    run.write_status(state)
    with pytest.raises(RunError, match=r"already exists .*, or delete that run first"):
        Run.create(run.path)


def test_create_in_a_directory_with_other_files_raises(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="already exists") as caught:
        Run.create(tmp_path)
    assert "delete" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_create_at_the_path_of_a_file_raises(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="already exists"):
        Run.create(tmp_path / "run")


def test_create_without_permission_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"Run 'run' cannot be created\. File exists \("):
        Run.create(tmp_path / "file" / "run")


def test_create_with_a_configuration_can_be_resumed_from_then_on(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", TrainingConfig("set"))
    assert run.read_status()["state"] == "starting"
    assert run.read_training_config() == TrainingConfig("set")
    run.write_status("failed")
    assert run.can_resume


def test_create_with_a_spec_is_queued(tmp_path: Path) -> None:
    spec = JobSpec(("train",), scheduler="tcp://there:1")
    run = Run.create(tmp_path / "run", TrainingConfig("set"), spec)
    status = run.read_status()
    assert (status["state"], run.read_spec()) == ("queued", spec)
    assert status["message"] == "Waiting in the queue of tcp://there:1"


@pytest.mark.parametrize("n_calls", range(4))
def test_create_that_is_killed_leaves_no_listed_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_calls: int
) -> None:
    """Fail in each write, and in the rename, as a full disk or a signal would."""
    left = iter(range(n_calls))

    def fail_at_last(function: Callable) -> Callable:
        def call(*arguments: object) -> object:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device", "x")
            return function(*arguments)

        return call

    monkeypatch.setattr(io, "write_files_atomic", fail_at_last(io.write_files_atomic))
    monkeypatch.setattr(Path, "rename", fail_at_last(Path.rename))
    with pytest.raises(RunError) as caught:
        Run.create(tmp_path / "runs/a", TrainingConfig("set"), JobSpec(("train",)))
    message = "Run 'a' cannot be created. The disk is full ('x'). Free disk space and try again."
    assert str(caught.value) == message
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["status.json", "config.json", "job.json"])
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_list_runs_lists_damaged_runs_and_delete_job_deletes_them(
    tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / "a" / name
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to("nowhere")
    else:
        path.mkdir() if kind == "directory" else path.write_text("")
    (run,) = list_runs(tmp_path)
    assert find_run(tmp_path, "a") == run
    with pytest.raises(RunError, match=r"no readable status\.json"):
        run.read_status()
    delete_job(run)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_open_without_a_run_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in"):
        Run.open(tmp_path)


def test_runs_dir_is_the_environment_variable_or_in_the_checkout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BC_RUNS", "there")
    assert runs_dir() == Path("there")
    monkeypatch.delenv("BC_RUNS")
    assert runs_dir() == Path(__file__).parents[3] / "runs"


def test_runs_dir_of_an_installed_package_is_in_the_current_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(io, "__file__", str(tmp_path / "site-packages/bc_model/utils/io.py"))
    monkeypatch.delenv("BC_RUNS", raising=False)
    monkeypatch.delenv("BC_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert runs_dir() == tmp_path / "runs"
    assert datasets_dir() == tmp_path / "data"


@pytest.mark.parametrize("name", ["my run", "-x", "ü"])
def test_create_with_an_invalid_name_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="Invalid run name"):
        Run.create(tmp_path / name)


# Configuration and history


def test_read_config_returns_the_written_configuration(run: Run) -> None:
    run.write_config({"config": {"seed": 3}})
    assert run.read_config() == {"config": {"seed": 3}}


def test_read_config_without_a_file_raises(run: Run) -> None:
    with pytest.raises(RunError, match=r"no readable config\.json"):
        run.read_config()


DAMAGED_CONFIGS = [
    "[]", "null", "", "{", '{"config": null}', '{"config": [1]}', '{"versions": {"keras": 3}}',
    '{"data_sha256": ["a"]}', '{"devices": "2"}', "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED_CONFIGS)
def test_read_config_with_a_damaged_file_raises(run: Run, text: str) -> None:
    (run.path / "config.json").write_text(text)
    run.write_status("failed")
    for read in (run.read_config, run.read_training_config):
        with pytest.raises(RunError, match=r"Run 'a' has no readable config\.json"):
            read()
    assert not run.can_resume


@pytest.mark.parametrize("config", [{}, {"data": 5}, {"data": "set", "seed": "0"}])
def test_read_training_config_with_other_values_raises(run: Run, config: dict) -> None:
    run.write_config({"config": config})
    with pytest.raises(RunError, match=r"no readable config\.json"):
        run.read_training_config()


def test_append_history_adds_one_line_per_epoch(run: Run) -> None:
    assert run.read_history() == []
    run.append_history(EPOCH)
    run.append_history(EPOCH | {"epoch": 2})
    assert run.read_history() == [EPOCH, EPOCH | {"epoch": 2}]


def test_read_history_skips_an_incomplete_last_line(run: Run) -> None:
    run.append_history(EPOCH)
    with (run.path / "history.jsonl").open("a") as stream:
        stream.write('{"epoch": 2, "lo')
    assert run.read_history() == [EPOCH]


@pytest.mark.parametrize(
    "line",
    [
        b'{"epo', b"\xff", b"[]", b"1", b"{}", b'{"epoch": 1}', b"[" * 100_000,
        json.dumps(EPOCH | {"epoch": "1"}).encode(), json.dumps(EPOCH | {"epoch": -1}).encode(),
        json.dumps(EPOCH | {"val_loss": None}).encode(),
        json.dumps(EPOCH | {"loss": float("nan")}).encode(),
        json.dumps(EPOCH | {"time": 1e300}).encode(),
    ],
)  # fmt: skip
def test_read_history_with_a_damaged_line_raises(run: Run, line: bytes) -> None:
    run.append_history(EPOCH)
    with (run.path / "history.jsonl").open("ab") as stream:
        stream.write(line + b"\n")
    with pytest.raises(RunError, match=r"Run 'a' has a damaged history\.jsonl"):
        run.read_history()


def test_read_history_that_is_no_regular_file_raises(run: Run) -> None:
    (run.path / "history.jsonl").mkdir()
    with pytest.raises(RunError, match=r"damaged history\.jsonl"):
        run.read_history()


def test_append_history_with_nan_raises_and_writes_nothing(run: Run) -> None:
    with pytest.raises(ValueError, match="JSON"):
        run.append_history({"loss": float("nan")})
    assert run.read_history() == []


def test_truncate_history_deletes_later_epochs(run: Run) -> None:
    for epoch in (1, 2, 3):
        run.append_history(EPOCH | {"epoch": epoch})
    with (run.path / "history.jsonl").open("a") as stream:
        stream.write('{"epoch": 4, "lo')
    run.truncate_history(2)
    run.append_history(EPOCH | {"epoch": 3})
    assert [record["epoch"] for record in run.read_history()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("state", "can"), [("done", False), ("failed", True), ("canceled", True), ("running", False)]
)
def test_can_resume_depends_on_the_state(run: Run, state: str, can: bool) -> None:
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run.write_status(state)
    assert run.can_resume is can


def test_can_resume_without_configuration_is_false(run: Run) -> None:
    run.write_status("failed")
    assert not run.can_resume


def test_has_changed_depends_on_the_error_in_the_status(run: Run) -> None:
    run.write_status("failed", error="RunError")
    assert not run.has_changed
    run.write_status("failed", error="RunChangedError")
    assert run.has_changed


@pytest.mark.parametrize("phase", ["export", "evaluation"])
def test_cancel_job_after_training_raises(run: Run, phase: str) -> None:
    run.write_status("running", phase=phase)
    with pytest.raises(RunError, match=r"Run 'a' is .* its model and can no longer be paused, st"):
        cancel_job(run)
    assert run.requested_action() is None


# Names


def test_find_run_returns_the_run_with_a_name(run: Run) -> None:
    run.write_status("running")
    assert find_run(run.path.parent, "a") == run


@pytest.mark.parametrize(
    "run_id",
    ["../a", "..", ".", "", "x/../a", "a/", "/etc", "a\n", "a\x00", ".hidden", "a" * 101, "\u00e4"],
)
def test_find_run_with_an_invalid_name_raises(run: Run, run_id: str) -> None:
    run.write_status("running")
    with pytest.raises(RunError, match="Invalid run name"):
        find_run(run.path.parent, run_id)


def test_find_run_with_an_unknown_name_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in"):
        find_run(tmp_path, "20261123-181500-resnet50")


def test_new_run_id_is_a_valid_name(tmp_path: Path) -> None:
    run_id = new_run_id("resnet50")
    Run.create(tmp_path / run_id).write_status("queued")
    assert find_run(tmp_path, run_id).name == run_id


def test_list_runs_is_newest_first_and_skips_other_directories(tmp_path: Path) -> None:
    for number, name in enumerate(["old", "new"]):
        run = Run.create(tmp_path / name)
        run.write_status("done")
        run.write_config({})
        os.utime(run.path / "config.json", (number * 1000, number * 1000))
    (tmp_path / "notes").mkdir()
    (tmp_path / "a.txt").write_text("x")
    assert [run.name for run in list_runs(tmp_path)] == ["new", "old"]


def test_list_runs_without_a_directory_is_empty(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "gone") == []
