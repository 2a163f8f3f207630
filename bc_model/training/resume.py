"""Which runs can be resumed, and which changes make an exact resume impossible."""

from __future__ import annotations

from typing import Any

from bc_model.errors import RunChangedError, RunError
from bc_model.jobs import ENDED_STATES, is_own
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.processor import require_tensorflow

_INPUTS = {
    "data_sha256": "images of the dataset",
    "split_sha256": "split",
    "weights_sha256": "file of initial weights",
}
_MACHINE = {
    "compute_dtype": "compute dtype",
    "feature_extractor": "feature extractor",
    "devices": "number of devices",
}


def read_resumable_config(run: Run) -> TrainingConfig:
    """Return the configuration of a run; raises `RunError` if it cannot be resumed."""
    status = run.read_status()
    state = status["state"]
    # A queued run has no process yet. The process of a starting run may be this one.
    if state != "queued" and not (state == "starting" and is_own(status)):
        require_resumable(run)
    return run.read_training_config()


def require_resumable(run: Run) -> None:
    """Raise `RunError` if a run is queued, running or done, or has no configuration."""
    state = run.read_status()["state"]
    if state not in ENDED_STATES - {"done"}:
        advice = {
            "done": "",
            "queued": " It starts as soon as another run finishes.",
            "pausing": " Continue it instead.",
            "paused": " Continue it instead.",
        }.get(state, " Wait until it finishes.")
        raise RunError(
            f"{run.title} is {state}. Only an interrupted, canceled or failed run can be resumed."
            f"{advice}"
        )
    require_tensorflow()
    if not run.can_resume:
        raise RunError(
            f"{run.title} cannot be resumed. Its configuration in {run.path / 'config.json'} is "
            "missing or damaged. Delete the run and start a new one."
        )


def require_unchanged(before: dict[str, Any], now: dict[str, Any], run: Run) -> None:
    """Raise `RunChangedError`, with a list of the changes, if a run cannot be resumed exactly."""
    if changes := list_changes(before, now):
        raise RunChangedError(
            f"{run.title} cannot be resumed exactly, because of changes: {', '.join(changes)}. "
            "Accept the changes to resume the run anyway."
        )


def list_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the changes between two results of `describe_run` that affect an exact resume.

    A run that has not read its data yet has only its configuration, so nothing has changed.
    """
    changes = [name for key, name in _INPUTS.items() if key in before and before[key] != now[key]]
    changes += [
        f"{name} (was {before[key]}, is {now[key]})"
        for key, name in _MACHINE.items()
        if key in before and before[key] != now[key]
    ]
    changes += [
        f"{name} (was {old}, is {now['versions'].get(name, 'missing')})"
        for name, old in before.get("versions", {}).items()
        if old != now["versions"].get(name)
    ]
    if "versions" in before and before.get("git_commit") != now["git_commit"]:
        changes.append("code")
    return changes
