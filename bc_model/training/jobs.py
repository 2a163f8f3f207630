"""Runs as processes of their own: started by the app, watched through their run folders.

The process is the command line's own `train`, in its own session, so that a closed tab, a
refreshed page or a restarted server cannot reach it.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from bc_model.errors import RunError
from bc_model.training.run_folder import FINAL_STATES, RunFolder, list_runs, new_run_id
from bc_model.training.settings import TrainSettings

_children: list[subprocess.Popen] = []
_starting = threading.Lock()


def start_run(settings: TrainSettings, runs: Path) -> RunFolder:
    """Start a training process.

    Parameters
    ----------
    settings : TrainSettings
        Checked already, by having been made. Relative paths count from here.
    runs : Path
        Folder of all runs; made when missing.

    Returns
    -------
    RunFolder
        Its status is 'queued' until the process speaks.

    Raises
    ------
    RunError
        Another run is going on: two would take the processor from each other and from the app.
    """
    with _starting:
        reap_children()
        if going := [run.name for run in list_runs(runs) if _is_going(run)]:
            raise RunError(
                f"The run {going[0]} is still going on; wait for it or stop it before starting "
                "another."
            )
        settings = _with_whole_paths(settings)
        run = RunFolder.create(_new_folder(Path(runs).resolve(), new_run_id(settings.backbone)))
        run.write_config({"settings": settings.as_dict()})
        run.write_status("queued", message="Waiting for the training process")
        child = _spawn(run, settings)
    try:
        run.write_status("queued", pid=child.pid, message="Waiting for the training process")
        # Predictions on the page go before training.
        psutil.Process(child.pid).nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10))
    except psutil.Error:
        return run  # it has ended already: its status and its last words tell of it
    return run


def reap_children() -> None:
    """Collect processes that have ended, so that none stays behind as a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]


def _spawn(run: RunFolder, settings: TrainSettings) -> subprocess.Popen:
    command = [sys.executable, "-m", "bc_model", "train", "--run", str(run.path)]
    # On Windows a session of its own has no meaning; a process group is what Ctrl-C stops at.
    windows = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
        subprocess, "CREATE_NO_WINDOW", 0
    )
    with (run.path / "stderr.txt").open("wb") as errors:
        child = subprocess.Popen(
            [*command, *settings.as_arguments()],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            creationflags=windows,
        )
    _children.append(child)
    return child


def _with_whole_paths(settings: TrainSettings) -> TrainSettings:
    weights = settings.weights
    if weights not in ("imagenet", "none"):
        weights = str(Path(weights).resolve())
    return dataclasses.replace(settings, data=str(Path(settings.data).resolve()), weights=weights)


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
    try:
        return run.read_status()["state"] not in FINAL_STATES
    except RunError:
        return False
