"""What happens on a worker of a Dask cluster: one training at a time.

TensorFlow is never loaded in a worker. A run is trained by the usual process, which goes through
its folder as anywhere else and ends when the worker does.
"""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import time
from pathlib import Path

from bc_model.errors import RunError
from bc_model.jobs import FINAL_STATES, locked
from bc_model.training.jobs import launch
from bc_model.training.run_folder import RunFolder

_LOOK_EVERY_S = 0.5

_one_training = threading.Lock()
"""Held by the task that trains: one at a time, however many threads a worker has."""


def train_on_worker(path: str, task: str) -> str:
    """Train one run to its end, or what is left of it.

    Parameters
    ----------
    path : str
        The run folder.
    task : str
        The task that may start the run, as in its ``job.json``. If the run was canceled or given
        to another queue in the meantime, there is nothing to do.

    Returns
    -------
    str
        The state that the run is in.

    Raises
    ------
    RunError
        The training process is gone without a word; trying again may help.
    """
    run = RunFolder(Path(path))
    if not run.status_file.is_file():
        raise RunError(f"{platform.node()} does not see the run {path}; mount its folder there.")
    with _one_training:
        child = _start(run, task)
        if child is not None:
            try:
                child.wait()
            finally:
                child.stdin.close()  # type: ignore[union-attr]
    status = run.read_status()
    if child is not None and status["state"] not in FINAL_STATES:
        raise RunError(status.get("message") or f"The run {run.name} ended as {status['state']}.")
    return str(status["state"])


def _start(run: RunFolder, task: str) -> subprocess.Popen | None:
    """Start the training process; None when the run has ended or is not this task's any more.

    A task that Dask gave to another worker may find the old process not known to be dead yet: it
    waits, so that no two ever work on one run.
    """
    while True:
        with locked(run.path.parent):
            state = run.read_status()["state"]
            if state in FINAL_STATES or run.read_spec().task != task:
                return None
            if state in ("queued", "interrupted"):
                return launch(run, tied=True, environment=_environment())
        time.sleep(_LOOK_EVERY_S)


def _environment() -> dict[str, str]:
    """Return this process's environment without what Dask's nanny sets for threads of its own.

    A training process alone on a worker takes the threads it would take anywhere.
    """
    import dask

    by_nanny = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {name: v for name, v in os.environ.items() if str(by_nanny.get(name)) != v}
