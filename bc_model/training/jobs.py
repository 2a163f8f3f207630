"""Runs as processes of their own: started by the app, watched through their run folders.

The process is the command line's own `train`, in its own session, so that a closed tab, a
refreshed page or a restarted server cannot reach it.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import psutil

from bc_model.errors import RunError
from bc_model.training.run_folder import FINAL_STATES, RunFolder, list_runs, new_run_id
from bc_model.training.settings import TrainSettings

_children: list[tuple[subprocess.Popen, RunFolder]] = []


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
    reap_children()
    if going := [run.name for run in list_runs(runs) if _is_going(run)]:
        raise RunError(
            f"The run {going[0]} is still going on; wait for it or stop it before starting another."
        )
    settings = _with_whole_paths(settings)
    run = RunFolder.create(_free_folder(Path(runs).resolve(), new_run_id(settings.backbone)))
    run.write_config({"settings": settings.as_dict()})
    run.write_status("queued", message="Waiting for the training process")
    command = [sys.executable, "-m", "bc_model", "train", "--run", str(run.path)]
    with (run.path / "stderr.txt").open("wb") as errors:
        child = subprocess.Popen(
            [*command, *settings.as_arguments()],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    _lower_priority(child.pid)
    _children.append((child, run))
    return run


def reap_children() -> None:
    """Collect processes that have ended, so that none stays behind as a zombie.

    One that ended before it could speak has its last words written into its status.
    """
    for child, run in list(_children):
        if child.poll() is None:
            continue
        _children.remove((child, run))
        try:
            if run.read_status()["state"] == "queued":
                run.write_status("failed", message=_last_words(run))
        except (RunError, OSError):
            continue  # the run was deleted meanwhile: nobody is left to be told


def _with_whole_paths(settings: TrainSettings) -> TrainSettings:
    weights = settings.weights
    if weights not in ("imagenet", "none"):
        weights = str(Path(weights).resolve())
    return dataclasses.replace(settings, data=str(Path(settings.data).resolve()), weights=weights)


def _free_folder(runs: Path, run_id: str) -> Path:
    number = 1
    folder = runs / run_id
    while folder.exists():
        number += 1
        folder = runs / f"{run_id}-{number}"
    return folder


def _last_words(run: RunFolder) -> str:
    lines = (run.path / "stderr.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    words = [line for line in lines if line.strip()]
    return words[-1] if words else "The training process ended before it could start."


def _lower_priority(pid: int) -> None:
    """Let predictions on the page go before training."""
    try:
        low = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10)
        psutil.Process(pid).nice(low)
    except psutil.Error:
        return  # it has ended already, and will be told of by its status


def _is_going(run: RunFolder) -> bool:
    try:
        return run.read_status()["state"] not in FINAL_STATES
    except RunError:
        return False
