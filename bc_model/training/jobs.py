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
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import psutil

from bc_model.data.fold_file import read_fold_file
from bc_model.errors import RunError, SettingsError, WeightsError
from bc_model.training.run_folder import ENDED_STATES, RunFolder, list_runs, new_run_id
from bc_model.training.settings import TrainSettings

LOCK_TIMEOUT_S = 30

_children: list[subprocess.Popen] = []
_starting = threading.Lock()


def start_run(settings: TrainSettings, runs: Path) -> RunFolder:
    """Queue a training run, and start it when no others are in its way.

    Parameters
    ----------
    settings : TrainSettings
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
        There is no such weights file.
    SplitError
        The fold file is missing or not one.
    SettingsError
        BC_MAX_RUNS is not a number.
    """
    max_runs()  # a number that is none is said before a run waits for it
    settings = _with_whole_paths(settings)
    _check_weights_file(settings)
    if settings.folds_file:
        read_fold_file(Path(settings.folds_file))
    run = RunFolder.create(_new_folder(Path(runs).resolve(), new_run_id(settings.backbone)))
    run.write_config({"settings": settings.as_dict()})
    run.write_status("queued", message="Waiting for its turn")
    advance_queue(runs)
    return run


def resume_run(run: RunFolder, *, accept_changes: bool = False) -> None:
    """Queue a run that ended before it was done; it goes on after its last whole epoch.

    Raises
    ------
    RunError
        It goes on, or is done.
    """
    with _locked(run.path.parent):
        if not run.can_resume:
            raise RunError(f"The run {run.name} cannot be resumed: it goes on, or it is done.")
        run.request(None)
        run.write_status("queued", message="Waiting for its turn", accept_changes=accept_changes)
    advance_queue(run.path.parent)


def cancel_run(run: RunFolder) -> None:
    """End a run without a model. One that nobody works on is cancelled at once."""
    with _locked(run.path.parent):
        if _state(run) in {"queued", "interrupted"}:
            run.write_status("cancelled", message="Cancelled on request.")
        else:
            run.request("cancel")


def delete_run(run: RunFolder) -> None:
    """Remove a run's folder with all in it.

    Raises
    ------
    RunError
        A process works on it, or will.
    """
    with _locked(run.path.parent):
        if _state(run) not in ENDED_STATES | {""}:
            raise RunError(f"The run {run.name} goes on; cancel it before deleting it.")
        # Out of the list in one step, whatever may interrupt the rest.
        doomed = run.path.with_name(f".deleted-{secrets.token_hex(8)}")
        run.path.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def advance_queue(runs: Path) -> list[str]:
    """Start queued runs, oldest first, while fewer than `max_runs` go on.

    Returns
    -------
    list of str
        The names of the runs started.
    """
    reap_children()
    if not any(_state(run) == "queued" for run in list_runs(runs)):
        return []
    with _locked(runs):
        everyone = list_runs(runs)
        free = max_runs() - sum(_is_going(run) for run in everyone)
        queued = [run for run in reversed(everyone) if _state(run) == "queued"]
        started = queued[: max(0, free)]
        for run in started:
            _spawn(run)
    return [run.name for run in started]


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
def _locked(runs: Path) -> Iterator[None]:
    """Keep other processes, and other users' pages, from starting the same run."""
    Path(runs).mkdir(parents=True, exist_ok=True)
    try:
        with _starting, filelock.FileLock(Path(runs) / ".lock", timeout=LOCK_TIMEOUT_S):
            yield
    except filelock.Timeout as error:
        raise RunError(
            f"The folder of runs {runs} is locked by another process; try again in a minute."
        ) from error


def _spawn(run: RunFolder) -> None:
    command = [sys.executable, "-m", "bc_model", "train", "--run", str(run.path), "--resume"]
    if run.read_status().get("accept_changes"):
        command.append("--accept-changes")
    # On Windows a session of its own has no meaning; a process group is what Ctrl-C stops at.
    windows = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
        subprocess, "CREATE_NO_WINDOW", 0
    )
    with (run.path / "stderr.txt").open("wb") as errors:
        child = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            creationflags=windows,
        )
    _children.append(child)
    try:
        run.write_status("starting", pid=child.pid, message="Starting the training process")
        # Predictions on the page go before training.
        psutil.Process(child.pid).nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10))
    except psutil.Error:
        run.write_status("failed", message="The training process ended before it could speak.")


def _check_weights_file(settings: TrainSettings) -> None:
    if settings.weights not in ("imagenet", "none") and not Path(settings.weights).is_file():
        raise WeightsError(f"There is no weights file {settings.weights}; check its path.")


def _with_whole_paths(settings: TrainSettings) -> TrainSettings:
    weights = settings.weights
    if weights not in ("imagenet", "none"):
        weights = str(Path(weights).resolve())
    folds_file = str(Path(settings.folds_file).resolve()) if settings.folds_file else ""
    data = str(Path(settings.data).resolve())
    return dataclasses.replace(settings, data=data, weights=weights, folds_file=folds_file)


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


def _is_going(run: RunFolder) -> bool:
    return _state(run) not in ENDED_STATES | {"queued", "paused", ""}


def _state(run: RunFolder) -> str:
    """Return the state of a run; empty when its status cannot be read."""
    try:
        return str(run.read_status()["state"])
    except RunError:
        return ""
