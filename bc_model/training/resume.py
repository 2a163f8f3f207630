"""Going on with a run: what must be as it was, and what is not."""

from __future__ import annotations

import os
from typing import Any

from bc_model.errors import RunError
from bc_model.training.run_folder import ENDED_STATES, RunFolder
from bc_model.training.settings import TrainingConfig

_CONTINUE = " To go on after a pause: `jobs continue`, or 'Go on' in the app."

_MACHINE = {
    "arithmetic": "the arithmetic",
    "features_by": "what the features are computed by",
    "devices": "the number of devices that share a batch",
}
"""What another machine may do otherwise, by its key in `config.json`."""


def settings_to_resume(run: RunFolder) -> TrainingConfig:
    """Return the settings of a run that ended before it was done.

    Raises
    ------
    RunError
        It goes on, is done, or has lost its settings.
    """
    status = run.read_status()
    state = status["state"]
    # Queued: nobody's yet. Starting, as this process: the app has just started it for this; in a
    # virtual environment on Windows, it knows the number of the launcher, our parent.
    us = (os.getpid(), os.getppid())
    ours = state == "queued" or (state == "starting" and status.get("pid") in us)
    if not ours:
        require_resumable(run)
    return TrainingConfig.from_dict(run.read_config()["settings"])


def require_resumable(run: RunFolder) -> None:
    """Refuse to resume a run that goes on, is done, or does not know its settings.

    Raises
    ------
    RunError
        The message says what can be done instead.
    """
    state = run.read_status()["state"]
    if state not in ENDED_STATES - {"done"}:
        instead = {
            "done": "",
            "queued": " It starts when its turn has come.",
            "pausing": _CONTINUE,
            "paused": _CONTINUE,
        }.get(state, " It goes on by itself.")
        raise RunError(
            f"The run {run.name} is {state}; only a run that was interrupted, cancelled or failed "
            f"can be resumed.{instead}"
        )
    if not run.can_resume:
        raise RunError(
            f"The run {run.name} cannot be resumed: its settings in {run.path / 'config.json'} "
            "are missing or damaged. Delete the run and train anew."
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
        earlier: dict[str, Any] = {"arithmetic": "float32", "devices": 1}
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


def require_unchanged(before: dict[str, Any], now: dict[str, Any], run: RunFolder) -> None:
    """Refuse to go on with a run whose data, split or code changed.

    Raises
    ------
    RunError
        The message names each change and how to go on all the same.
    """
    if changes := changes_since(before, now):
        raise RunError(
            f"The run {run.name} cannot be resumed as the same run. Changed since: "
            f"{', '.join(changes)}. To go on all the same: --accept-changes, or 'Resume anyway' "
            "in the app."
        )
