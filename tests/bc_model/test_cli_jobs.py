"""`jobs`: what the buttons do, from the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bc_model.cli import commands
from bc_model.errors import RunError
from bc_model.training.run_folder import RunFolder


def call(*arguments: object) -> str:
    """Run `jobs` and return its stdout; errors of the library are raised."""
    done = CliRunner().invoke(commands, ["jobs", *map(str, arguments)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.stdout


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "runs" / "mine")
    made.write_config({"settings": {}})
    made.write_status("running", epoch=2, epochs=9, seconds_left=200)
    return made


def test_the_list_says_where_each_run_stands(run: RunFolder) -> None:
    said = call("list", run.path.parent)
    assert said.strip() == f"{run.path}: running, epoch 2 of 9, about 3 min 20 s left"
    assert json.loads(call("list", run.path.parent, "--json"))[0]["state"] == "running"


def test_an_empty_list_says_what_to_do(tmp_path: Path) -> None:
    assert "start one with `train`" in call("list", tmp_path)


@pytest.mark.parametrize("what", ["pause", "stop", "cancel"])
def test_a_going_run_is_asked(run: RunFolder, what: str) -> None:
    call(what, run.path)
    assert run.requested() == what


def test_a_paused_run_goes_on(run: RunFolder) -> None:
    call("pause", run.path)
    call("continue", run.path)
    assert run.requested() is None


def test_a_run_that_goes_on_is_neither_resumed_nor_deleted(run: RunFolder) -> None:
    with pytest.raises(RunError, match="cannot be resumed"):
        call("resume", run.path)
    with pytest.raises(RunError, match="cancel it before deleting"):
        call("delete", run.path)


def test_an_ended_run_is_deleted(run: RunFolder) -> None:
    run.write_status("done")
    call("delete", run.path)
    assert not run.path.exists()


def test_an_unknown_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run in"):
        call("pause", tmp_path / "none")
