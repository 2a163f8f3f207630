"""Runs as processes of their own: a queue, and what can be asked of a run.

The process is the command line's own `train`, in its own session, so that a closed tab, a
refreshed page or a restarted server cannot reach it. The queue is the run folders themselves: who
calls `advance_queue`, be it a page or a run that has just ended, starts what may start.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from bc_model.data.fold_file import read_fold_file
from bc_model.errors import RunError, SettingsError
from bc_model.serving.shipped import bundled_model
from bc_model.training.asking import ask_run
from bc_model.training.launch import launch, niceness
from bc_model.training.liveness import is_of_this_host
from bc_model.training.order import read_order, write_order
from bc_model.training.resume import require_resumable
from bc_model.training.run_folder import ENDED_STATES, RunFolder, list_runs, new_run_id
from bc_model.training.settings import TrainingConfig
from bc_model.weights_file import NAMED_WEIGHTS, require_weights_file

LOCK_NAME = ".lock"
LOCK_TIMEOUT_S = 30

_children: list[subprocess.Popen] = []
_starting = threading.Lock()


def start_run(settings: TrainingConfig, runs: Path) -> RunFolder:
    """Queue a training run, and start it when no others are in its way.

    Parameters
    ----------
    settings : TrainingConfig
        Checked already, by having been made. Relative paths count from here.
    runs : Path
        Folder of all runs; made when missing.

    Returns
    -------
    RunFolder
        Queued, or starting.

    Raises
    ------
    WeightsError
        There is no such weights file, or it is none.
    SplitError
        The fold file is missing or not one.
    SettingsError
        BC_MAX_RUNS or BC_NICENESS is not a number.
    """
    require_environment()
    settings = checked_paths(settings)
    run = RunFolder.create(_new_folder(Path(runs).resolve(), new_run_id(settings.backbone)))
    run.write_config({"settings": settings.as_dict()})
    put_in_queue(run)
    advance_queue(runs)
    return run


def checked_paths(settings: TrainingConfig) -> TrainingConfig:
    """Return settings whose paths mean the same to every process.

    Raises
    ------
    WeightsError
        There is no such weights file, or it is none.
    SplitError
        The fold file is missing or not one.
    """
    settings = _with_whole_paths(settings)
    _check_weights_file(settings)
    if settings.official_fold_file:
        read_fold_file(Path(settings.official_fold_file))
    return settings


def put_in_queue(
    run: RunFolder, *, accept_changes: bool = False, cluster: dict[str, Any] | None = None
) -> None:
    """Let a run wait; whoever calls it makes sure that nobody works on the run.

    Parameters
    ----------
    run : RunFolder
        With its settings in `config.json`.
    accept_changes : bool
        See `bc_model.training.fit.train`.
    cluster : dict, optional
        For a run that a cluster is to start, and not this queue: the address of its 'scheduler'
        and the 'task' that may start it.
    """
    run.request(None)
    write_order(run, accept_changes=accept_changes, cluster=cluster)
    message = "Waiting for its turn"
    if cluster:
        message += f" on the cluster {cluster['scheduler']}"
    run.write_status("queued", message=message)


def resume_run(run: RunFolder, *, accept_changes: bool = False) -> None:
    """Queue a run that ended before it was done; it goes on after its last whole epoch.

    Raises
    ------
    RunError
        It goes on, is done, or has lost its settings.
    SettingsError
        BC_MAX_RUNS or BC_NICENESS is not a number.
    """
    require_environment()
    with locked(run.path.parent):
        require_resumable(run)
        put_in_queue(run, accept_changes=accept_changes)
    advance_queue(run.path.parent)


def cancel_run(run: RunFolder) -> None:
    """End a run without a model. One that nobody works on is cancelled at once.

    Raises
    ------
    RunError
        It has ended already, or writes its model.
    """
    with locked(run.path.parent):
        if _state(run) in {"queued", "interrupted"}:
            run.write_status("cancelled", message="Cancelled on request.")
        else:
            ask_run(run, "cancel")


def delete_run(run: RunFolder) -> None:
    """Remove a run's folder with all in it.

    Raises
    ------
    RunError
        A process works on it, or will.
    """
    with locked(run.path.parent):
        if _state(run) not in ENDED_STATES | {""}:
            raise RunError(f"The run {run.name} goes on; cancel it before deleting it.")
        # Out of the list in one step, whatever may interrupt the rest.
        doomed = run.path.with_name(f".deleted-{secrets.token_hex(8)}")
        run.path.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def advance_queue(runs: Path) -> list[str]:
    """Start queued runs, oldest first, while fewer than `max_runs` go on here.

    Returns
    -------
    list of str
        The names of the runs started.
    """
    reap_children()
    if not any(_is_waiting(run) for run in list_runs(runs)):
        return []
    with locked(runs):
        everyone = list_runs(runs)
        free = max_runs() - sum(_is_going(run) for run in everyone)
        queued = [run for run in reversed(everyone) if _is_waiting(run)]
        started = queued[: max(0, free)]
        for run in started:
            _children.append(launch(run))
    return [run.name for run in started]


def require_environment() -> None:
    """Say that a number is none before a run waits for it; see `max_runs` and `niceness`."""
    max_runs()
    niceness()


def max_runs() -> int:
    """Return how many runs may go on at a time: BC_MAX_RUNS, or one.

    Raises
    ------
    SettingsError
        BC_MAX_RUNS is not a number from 1 to 64.
    """
    said = os.environ.get("BC_MAX_RUNS", "1")
    if not said.isdecimal() or not 1 <= int(said) <= 64:
        raise SettingsError(f"BC_MAX_RUNS must be a number from 1 to 64; it is '{said}'.")
    return int(said)


def reap_children() -> None:
    """Collect processes that have ended, so that none stays behind as a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]


@contextmanager
def locked(runs: Path) -> Iterator[None]:
    """Keep other processes, machines and users' pages from starting the same run.

    Raises
    ------
    RunError
        Another one holds the lock for longer than `LOCK_TIMEOUT_S`.
    """
    Path(runs).mkdir(parents=True, exist_ok=True)
    try:
        with _starting, filelock.FileLock(Path(runs) / LOCK_NAME, timeout=LOCK_TIMEOUT_S):
            yield
    except filelock.Timeout as error:
        raise RunError(
            f"The folder of runs {runs} is locked by another process; try again in a minute."
        ) from error


def _check_weights_file(settings: TrainingConfig) -> None:
    if settings.weights == "bundled":
        bundled_model()
    elif settings.weights not in NAMED_WEIGHTS:
        require_weights_file(Path(settings.weights))


def _with_whole_paths(settings: TrainingConfig) -> TrainingConfig:
    weights = settings.weights
    if weights not in NAMED_WEIGHTS:
        weights = str(Path(weights).resolve())
    folds_file = (
        str(Path(settings.official_fold_file).resolve()) if settings.official_fold_file else ""
    )
    data = str(Path(settings.data).resolve())
    return dataclasses.replace(settings, data=data, weights=weights, official_fold_file=folds_file)


def _new_folder(runs: Path, run_id: str) -> Path:
    """Make a folder that was not there before: two starts in one second get two folders."""
    runs.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = runs / (run_id if number == 1 else f"{run_id}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"There are a thousand runs named {run_id} already; delete some.")


def _is_waiting(run: RunFolder) -> bool:
    """Return whether this queue may start a run; one with a task waits for a cluster."""
    try:
        return _state(run) == "queued" and "task" not in read_order(run)
    except RunError:
        return False


def _is_going(run: RunFolder) -> bool:
    status = _status(run)
    # What another machine works on takes no place on this one.
    ours = is_of_this_host(status)
    return ours and status.get("state", "") not in ENDED_STATES | {"queued", "paused", ""}


def _state(run: RunFolder) -> str:
    """Return the state of a run; empty when its status cannot be read."""
    return str(_status(run).get("state", ""))


def _status(run: RunFolder) -> dict[str, Any]:
    try:
        return run.read_status()
    except RunError:
        return {}
