"""Going on with a run: what must be as it was, and what is not."""

from __future__ import annotations

from typing import Any

from bc_model.errors import RunError
from bc_model.jobs import ENDED_STATES, is_own
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run

ACCEPT_CHANGES = "Accept the changes to resume the run anyway."
"""The last sentence of the message about a run whose data or code have changed."""

_CONTINUE = " Continue it instead."

_MACHINE = {
    "compute_dtype": "the arithmetic",
    "features_by": "what the features are computed by",
    "devices": "the number of devices that share a batch",
}
"""What another machine may do otherwise, by its key in `config.json`."""


def read_resumable_config(run: Run) -> TrainingConfig:
    """Return the settings of a run that ended before it was done.

    Raises
    ------
    RunError
        The run is running or done, or its settings are missing.
    """
    status = run.read_status()
    state = status["state"]
    # A queued run has no process yet. A starting run may be this process, started for it.
    if state != "queued" and not (state == "starting" and is_own(status)):
        require_resumable(run)
    return TrainingConfig.from_dict(run.read_config()["config"])


def require_resumable(run: Run) -> None:
    """Refuse to resume a run that is queued, running or done, or whose settings are missing.

    Raises
    ------
    RunError
        The message states what to do instead.
    """
    state = run.read_status()["state"]
    if state not in ENDED_STATES - {"done"}:
        instead = {
            "done": "",
            "queued": " It starts as soon as a place is free.",
            "pausing": _CONTINUE,
            "paused": _CONTINUE,
        }.get(state, " Wait until it finishes.")
        raise RunError(
            f"{run.title} is {state}. Only an interrupted, canceled or failed run can be resumed."
            f"{instead}"
        )
    if not run.can_resume:
        raise RunError(
            f"{run.title} cannot be resumed: its settings in {run.path / 'config.json'} are "
            "missing or damaged. Delete the run and start a new one."
        )


def changes_since(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name what a resumed run would find changed; with a change it is no longer the same run.

    Parameters
    ----------
    before, now : dict
        As `describe_run` returns it. A run that never came to its data has no hashes yet.

    Returns
    -------
    list of str
        In words; empty when all is as it was.
    """
    changes = []
    if "data_sha256" in before and before["data_sha256"] != now["data_sha256"]:
        changes.append("the pictures of the data set")
    if "split_sha256" in before and before["split_sha256"] != now["split_sha256"]:
        changes.append("the split into training, validation and test")
    if "weights_sha256" in before and before["weights_sha256"] != now["weights_sha256"]:
        changes.append("the file of initial weights")
    if "versions" in before:
        # What runs of an earlier version did without saying so.
        earlier: dict[str, Any] = {"compute_dtype": "float32", "devices": 1}
        before = earlier | before
    changes += [
        f"{words} (was {before[key]}, is {now[key]})"
        for key, words in _MACHINE.items()
        if key in before and before[key] != now[key]
    ]
    was, here = before.get("versions", {}), now["versions"]
    changes += [
        f"{name} (was {was[name]}, is {here.get(name, 'gone')})"
        for name in was
        if was[name] != here.get(name)
    ]
    if before.get("git_commit") != now["git_commit"] and "versions" in before:
        changes.append("the program's code")
    return changes


def require_unchanged(before: dict[str, Any], now: dict[str, Any], run: Run) -> None:
    """Refuse to resume a run whose data, split or code has changed.

    Raises
    ------
    RunError
        The message lists each change.
    """
    if changes := changes_since(before, now):
        raise RunError(
            f"{run.title} cannot be resumed exactly, because these have changed: "
            f"{', '.join(changes)}. {ACCEPT_CHANGES}"
        )
