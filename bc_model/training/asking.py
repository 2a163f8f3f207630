"""What can be asked of a run in the state it is in: a request that nobody heeds is refused."""

from __future__ import annotations

from bc_model.errors import RunError
from bc_model.training.run_folder import ENDED_STATES, RunFolder


def ask_run(run: RunFolder, what: str | None) -> None:
    """Ask a run that goes on for something within one batch.

    Parameters
    ----------
    run : RunFolder
    what : {'pause', 'stop', 'cancel'} or None
        None lets a paused run go on.

    Raises
    ------
    RunError
        Nobody works on the run, it writes its model, or it is not paused.
    """
    status = run.read_status()
    state = status["state"]
    if state in ENDED_STATES:
        raise RunError(
            f"The run {run.name} has ended already: it is {state}. Only a run that goes on can be "
            "asked to pause, to go on, to stop or to cancel."
        )
    if state == "queued":
        raise RunError(
            f"The run {run.name} waits for its turn, so nothing can be asked of it yet; it can "
            "only be cancelled."
        )
    if status.get("phase") in ("export", "evaluation"):
        raise RunError(
            f"The run {run.name} has trained and writes its model: nothing can be asked of it any "
            "more; wait for its end."
        )
    if what is None and run.requested() != "pause":
        raise RunError(f"The run {run.name} is not paused: it is {state} and goes on by itself.")
    run.request(what)
