"""`runs`: list and control training runs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bc_model.cli import commands
from bc_model.errors import ConfigError, FolderNotFoundError, RunError
from bc_model.training import run_queue
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils import to_json


def call(*arguments: object) -> str:
    """Return the stdout of `runs`, or raise its error."""
    result = CliRunner().invoke(commands, ["runs", *map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "runs" / "first")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run.write_status("running", epoch=2, epochs=9, seconds_left=200)
    return run


def test_list_prints_state_epoch_and_time(run: Run) -> None:
    text = call("list", run.path.parent)
    assert text.strip() == f"{run.path}: running, epoch 2 of 9, about 3 min 20 s left"
    assert json.loads(call("list", run.path.parent, "--json"))[0]["state"] == "running"


def test_list_with_a_damaged_run_prints_all_runs(run: Run) -> None:
    other = Run.create(run.path.with_name("other"))
    (other.path / "status.json").write_text("")
    text = call("list", run.path.parent)
    assert f"{run.path}: running" in text
    assert f"{other.path}: unreadable: " in text
    assert "`runs delete` removes it" in text
    call("delete", other.path)
    assert not other.path.exists()


def test_list_after_a_killed_run_starts_the_next_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.path / "status.json").write_text('{"state": "running"}')
    waiting = Run.create(run.path.with_name("waiting"))
    run_queue.queue_run(waiting)
    monkeypatch.setattr(run_queue, "launch_run", lambda run: run.write_status("starting"))
    assert f"{waiting.path}: starting" in call("list", run.path.parent)


def test_list_with_a_queue_error_prints_the_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise ConfigError("BC_MAX_RUNS must be a number.")

    monkeypatch.setattr("bc_model.training.advance_queue", refuse)
    result = CliRunner().invoke(commands, ["runs", "list", str(run.path.parent)])
    assert "No queued run could be started: BC_MAX_RUNS must" in result.stderr
    assert f"{run.path}: running" in result.stdout


def test_list_without_a_directory_uses_bc_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_RUNS", str(run.path.parent))
    assert f"{run.path}: running" in call("list")


def test_list_of_a_missing_directory_raises(run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "nope", run.status_file):
        with pytest.raises(FolderNotFoundError, match=f"There is no folder {path}"):
            call("list", path)


def test_list_of_an_incomplete_status_prints_the_run(run: Run) -> None:
    run.write_status("running", epochs=9)
    assert f"{run.path}: running, epoch 0 of 9" in call("list", run.path.parent)


def test_list_of_an_empty_directory_names_the_next_step(tmp_path: Path) -> None:
    assert "Start one with `train`" in call("list", tmp_path)


@pytest.mark.parametrize("action", ["pause", "stop", "cancel"])
def test_action_on_a_running_run_is_requested(run: Run, action: str) -> None:
    call(action, run.path)
    assert run.requested_action() == action


def test_continue_on_a_paused_run_clears_the_request(run: Run) -> None:
    call("pause", run.path)
    call("continue", run.path)
    assert run.requested_action() is None


@pytest.mark.parametrize("action", ["pause", "continue", "stop", "cancel"])
@pytest.mark.parametrize("state", ["done", "canceled"])
def test_action_on_an_ended_run_raises(run: Run, action: str, state: str) -> None:
    run.write_status(state)
    with pytest.raises(RunError, match=f"has already ended with state '{state}'"):
        call(action, run.path)
    assert run.requested_action() is None


def test_resume_with_a_busy_queue_queues_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_status("canceled")
    monkeypatch.setattr(run_queue, "advance_queue", lambda _: [])
    text = call("resume", run.path)
    assert text.startswith(f"{run.path}: queued.")
    assert f"`runs list {run.path.parent}`" in text


def test_resume_and_delete_on_a_running_run_raise(run: Run) -> None:
    with pytest.raises(RunError, match="Wait until it finishes"):
        call("resume", run.path)
    with pytest.raises(RunError, match="Cancel it before you delete it"):
        call("delete", run.path)


def test_delete_on_an_ended_run_removes_its_directory(run: Run) -> None:
    run.write_status("done")
    call("delete", run.path)
    assert not run.path.exists()


def test_pause_on_an_unknown_run_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run in"):
        call("pause", tmp_path / "none")
