"""`jobs`: what the buttons do, from the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bc_model.cli import commands
from bc_model.errors import ConfigError, RunError
from bc_model.training import run_queue as jobs
from bc_model.training.run import Run


def call(*arguments: object) -> str:
    """Run `jobs` and return its stdout; errors of the library are raised."""
    done = CliRunner().invoke(commands, ["jobs", *map(str, arguments)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.stdout


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "runs" / "mine")
    made.write_config({"config": {}})
    made.write_status("running", epoch=2, epochs=9, seconds_left=200)
    return made


def test_the_list_says_where_each_run_stands(run: Run) -> None:
    said = call("list", run.path.parent)
    assert said.strip() == f"{run.path}: running, epoch 2 of 9, about 3 min 20 s left"
    assert json.loads(call("list", run.path.parent, "--json"))[0]["state"] == "running"


def test_a_damaged_run_hides_no_other_from_the_list(run: Run) -> None:
    other = Run.create(run.path.with_name("other"))
    (other.path / "status.json").write_text("")
    said = call("list", run.path.parent)
    assert f"{run.path}: running" in said
    assert f"{other.path}: unreadable: " in said
    assert "`jobs delete` removes it" in said
    call("delete", other.path)
    assert not other.path.exists()


def test_the_list_starts_what_waits_behind_a_killed_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.path / "status.json").write_text('{"state": "running"}')
    waiting = Run.create(run.path.with_name("waiting"))
    jobs.queue_run(waiting)
    monkeypatch.setattr(jobs, "launch_run", lambda one: one.write_status("starting"))
    assert f"{waiting.path}: starting" in call("list", run.path.parent)


def test_the_list_is_there_though_the_queue_cannot_move(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise ConfigError("BC_MAX_RUNS must be a number.")

    monkeypatch.setattr(jobs, "advance_queue", refuse)
    done = CliRunner().invoke(commands, ["jobs", "list", str(run.path.parent)])
    assert "No queued run could be started: BC_MAX_RUNS must" in done.stderr
    assert f"{run.path}: running" in done.stdout


def test_without_a_folder_the_list_is_of_the_one_that_the_app_uses(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_RUNS", str(run.path.parent))
    assert f"{run.path}: running" in call("list")


def test_an_empty_list_says_what_to_do(tmp_path: Path) -> None:
    assert "start one with `train`" in call("list", tmp_path)


@pytest.mark.parametrize("what", ["pause", "stop", "cancel"])
def test_a_going_run_is_asked(run: Run, what: str) -> None:
    call(what, run.path)
    assert run.requested_action() == what


def test_a_paused_run_goes_on(run: Run) -> None:
    call("pause", run.path)
    call("continue", run.path)
    assert run.requested_action() is None


@pytest.mark.parametrize("what", ["pause", "continue", "stop", "cancel"])
@pytest.mark.parametrize("state", ["done", "canceled"])
def test_an_ended_run_is_asked_for_nothing(run: Run, what: str, state: str) -> None:
    run.write_status(state)
    with pytest.raises(RunError, match=f"has already ended with state '{state}'"):
        call(what, run.path)
    assert run.requested_action() is None


def test_a_run_that_is_resumed_is_told_to_wait_for_its_turn(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_status("canceled")
    monkeypatch.setattr(jobs, "advance_queue", lambda _: [])
    said = call("resume", run.path)
    assert said.startswith(f"{run.path}: queued.")
    assert f"`jobs list {run.path.parent}`" in said


def test_a_run_that_goes_on_is_neither_resumed_nor_deleted(run: Run) -> None:
    with pytest.raises(RunError, match="Wait until it finishes"):
        call("resume", run.path)
    with pytest.raises(RunError, match="Cancel it before you delete it"):
        call("delete", run.path)


def test_an_ended_run_is_deleted(run: Run) -> None:
    run.write_status("done")
    call("delete", run.path)
    assert not run.path.exists()


def test_an_unknown_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run in"):
        call("pause", tmp_path / "none")
