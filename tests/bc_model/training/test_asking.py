"""What is asked of a run arrives, or is refused with its reason: nothing is asked in vain."""

from pathlib import Path

import pytest

from bc_model.errors import RunError
from bc_model.training.asking import ask_run
from bc_model.training.run_folder import ENDED_STATES, RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


@pytest.mark.parametrize("state", ["starting", "running", "pausing", "paused"])
@pytest.mark.parametrize("what", ["pause", "stop", "cancel"])
def test_a_run_that_goes_on_is_asked(run: RunFolder, state: str, what: str) -> None:
    run.write_status(state, phase="head")
    ask_run(run, what)
    assert run.requested() == what


@pytest.mark.parametrize("state", sorted(ENDED_STATES - {"interrupted"}))
@pytest.mark.parametrize("what", ["pause", "stop", "cancel", None])
def test_an_ended_run_is_asked_for_nothing(run: RunFolder, state: str, what: str | None) -> None:
    run.write_status(state)
    with pytest.raises(RunError, match=f"has ended already: it is {state}"):
        ask_run(run, what)
    assert run.requested() is None


def test_a_run_whose_process_is_gone_has_ended(run: RunFolder) -> None:
    (run.path / "status.json").write_text('{"state": "paused"}')
    with pytest.raises(RunError, match="has ended already: it is interrupted"):
        ask_run(run, None)


@pytest.mark.parametrize("phase", ["export", "evaluation"])
def test_a_run_that_writes_its_model_is_not_asked(run: RunFolder, phase: str) -> None:
    run.write_status("running", phase=phase)
    with pytest.raises(RunError, match="writes its model: nothing can be asked"):
        ask_run(run, "cancel")
    assert run.requested() is None


def test_a_queued_run_can_only_be_cancelled(run: RunFolder) -> None:
    run.write_status("queued")
    with pytest.raises(RunError, match=r"waits for its turn.* can only be cancelled"):
        ask_run(run, "pause")


def test_a_pause_is_taken_back_and_nothing_else(run: RunFolder) -> None:
    run.write_status("running")
    with pytest.raises(RunError, match="is not paused: it is running"):
        ask_run(run, None)
    run.request("stop")
    with pytest.raises(RunError, match="is not paused"):
        ask_run(run, None)
    assert run.requested() == "stop"
    run.request("pause")
    ask_run(run, None)
    assert run.requested() is None
