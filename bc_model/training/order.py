"""How a run is to be started: by whom, and whether changes are accepted.

`order.json` in the run folder, replaced when the run is queued. It outlives the statuses, which
the trainer replaces: who looks later still finds the task of a run that goes on, and a run whose
process was lost is started again as it was first.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from bc_model.errors import RunError
from bc_model.files import write_text_atomic
from bc_model.training.run_folder import RunFolder

_NAME = "order.json"


def write_order(
    run: RunFolder, *, accept_changes: bool = False, cluster: dict[str, Any] | None = None
) -> None:
    """Say how a run is to be started, before it is queued.

    Parameters
    ----------
    run : RunFolder
    accept_changes : bool
        Go on with the run as its `config.json` is now, though data or code are not what they were.
    cluster : dict, optional
        The 'scheduler' and the 'task' that starts it; default is the queue of this machine.
    """
    accepted = {"accepted": _config_sha256(run)} if accept_changes else {}
    text = json.dumps({**accepted, **(cluster or {})}, allow_nan=False)
    write_text_atomic(run.path / _NAME, text + "\n")


def read_order(run: RunFolder) -> dict[str, Any]:
    """Return the 'scheduler' and the 'task' that start a run; a run of no cluster has none.

    Raises
    ------
    RunError
        The file is damaged.
    """
    try:
        order = json.loads((run.path / _NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"The run in {run.path} has no readable {_NAME}.") from error
    if not isinstance(order, dict):
        raise RunError(f"The run in {run.path} has no readable {_NAME}.")
    return order


def accepts_changes(run: RunFolder) -> bool:
    """Return whether changes since `config.json` was written are accepted.

    The trainer replaces that file once it has seen the data: what changes after that is news, and
    nobody has accepted it.
    """
    accepted = read_order(run).get("accepted")
    return accepted is not None and accepted == _config_sha256(run)


def _config_sha256(run: RunFolder) -> str:
    try:
        return hashlib.sha256((run.path / "config.json").read_bytes()).hexdigest()
    except OSError:
        return ""
