"""Runs as processes of their own: started by the app, watched through their run folders.

The process is the command line's own `train`, in its own session, so that a closed tab, a
refreshed page or a restarted server cannot reach it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bc_model.errors import RunError
from bc_model.training.run_folder import FINAL_STATES, RunFolder, list_runs, new_run_id
from bc_model.training.settings import TrainSettings

_children: list[subprocess.Popen] = []


def start_run(settings: TrainSettings, runs: Path) -> RunFolder:
    """Start a training process.

    Parameters
    ----------
    settings : TrainSettings
        Checked already, by having been made.
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
    runs = Path(runs).resolve()
    run_id = new_run_id(settings.backbone)
    run = RunFolder.create(runs / run_id)
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
            preexec_fn=_be_polite if os.name == "posix" else None,
        )
    _children.append(child)
    return run


def reap_children() -> None:
    """Collect processes that have ended, so that none stays behind as a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]


def _is_going(run: RunFolder) -> bool:
    try:
        return run.read_status()["state"] not in FINAL_STATES
    except RunError:
        return False


def _be_polite() -> None:
    # Between fork and exec only calls this plain are safe.
    os.nice(10)
