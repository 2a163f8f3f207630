"""What happens on a worker of a Dask cluster: looking around, and one training at a time.

TensorFlow is never loaded in a worker. A run is trained by the usual process, which goes through
its folder as anywhere else and ends when the worker does.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import bc_model
from bc_model.errors import RunError
from bc_model.training.describe import git_commit
from bc_model.training.jobs import locked
from bc_model.training.launch import launch
from bc_model.training.order import read_order
from bc_model.training.run_folder import FINAL_STATES, RunFolder

_LOOK_EVERY_S = 0.5

_one_training = threading.Lock()
"""Held by the task that trains: one at a time, however many threads a worker has."""


def program() -> tuple[str, str | None]:
    """Return the version of this program and its commit, where git knows it."""
    return bc_model.__version__, git_commit()


def listing(folder: str) -> str:
    """Return a hash of the names in a folder; empty when it cannot be read."""
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except OSError:
        return ""
    return hashlib.sha256("\n".join(names).encode(errors="replace")).hexdigest()


def look_around(needs: dict[str, Any]) -> str:
    """Say what this worker lacks of what runs need; empty when nothing.

    Parameters
    ----------
    needs : dict
        ``probe`` and ``token``, a file in the folder of runs and its content; ``folders`` with
        their `listing`; ``files``; ``program`` as `program` returns it.
    """
    probe = Path(needs["probe"])
    try:
        shared = probe.read_text(encoding="utf-8") == needs["token"]
    except OSError:
        shared = False
    if not shared:
        return f"does not see the folder of runs {probe.parent}; mount it there"
    beside = probe.with_name(f"{probe.name}-{os.getpid()}")
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        return f"cannot write into the folder of runs {probe.parent} ({error.strerror})"
    for folder, names in needs["folders"].items():
        if listing(folder) != names:
            return f"does not see the data set {folder} as it is here; mount it there"
    for file in needs["files"]:
        if not Path(file).is_file():
            return f"does not see the weights file {file}; put it where all machines see it"
    for name, mine, wanted in zip(("version", "commit"), program(), needs["program"], strict=True):
        if mine and wanted and mine != wanted:
            return f"has another {name} of this program ({mine}; here {wanted})"
    return ""


def train_on_worker(path: str, task: str) -> str:
    """Train one run to its end, or what is left of it.

    Parameters
    ----------
    path : str
        The run folder.
    task : str
        Who may start the run, as its order says. When the run was cancelled or given to another
        queue meanwhile, there is nothing to do.

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
    if not (run.path / "status.json").is_file():
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
            if state in FINAL_STATES or read_order(run).get("task") != task:
                return None
            if state in ("queued", "interrupted"):
                return launch(run, tied=True, env=_environment())
        time.sleep(_LOOK_EVERY_S)


def _environment() -> dict[str, str]:
    """Return this process's environment without what Dask's nanny sets for threads of its own.

    A training process alone on a worker takes the threads it would take anywhere.
    """
    import dask

    by_nanny = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {name: v for name, v in os.environ.items() if str(by_nanny.get(name)) != v}
