"""The process that trains a run: the command line's own `train`, in a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from bc_model.errors import SettingsError
from bc_model.training.order import accepts_changes
from bc_model.training.run_folder import RunFolder

NICENESS = 10
"""About a tenth of the processor beside somebody who wants all of it."""


def niceness() -> int:
    """Return how far a training process stands back: BC_NICENESS, or 10.

    Raises
    ------
    SettingsError
        BC_NICENESS is not a number from 0 (as anybody else) to 19.
    """
    said = os.environ.get("BC_NICENESS", str(NICENESS))
    if not said.isdecimal() or int(said) > 19:
        raise SettingsError(f"BC_NICENESS must be a number from 0 to 19; it is '{said}'.")
    return int(said)


def launch(
    run: RunFolder, *, tied: bool = False, env: dict[str, str] | None = None
) -> subprocess.Popen:
    """Start the process that trains a queued or interrupted run; the caller holds the lock.

    Parameters
    ----------
    run : RunFolder
    tied : bool
        The process ends when this one does, or when its `stdin` is closed.
    env : dict, optional
        Its environment; default is that of this process.

    Returns
    -------
    Popen
        The run is 'starting', or 'failed' when its process has ended already.

    Raises
    ------
    SettingsError
        BC_NICENESS is no such number.
    """
    nice = niceness()
    command = [sys.executable, "-m", "bc_model", "train", "--run", str(run.path), "--resume"]
    if accepts_changes(run):
        command.append("--accept-changes")
    if tied:
        command.append("--end-with-stdin")
    # On Windows a session of its own has no meaning; a process group is what Ctrl-C stops at.
    windows = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
        subprocess, "CREATE_NO_WINDOW", 0
    )
    with (run.path / "stderr.txt").open("wb") as errors:
        child = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            creationflags=windows,
            env=env,
        )
    _go_second(child.pid, nice)
    try:
        run.write_status("starting", pid=child.pid, message="Starting the training process")
    except psutil.NoSuchProcess:
        run.write_status("failed", message="The training process ended before it could speak.")
    except OSError:
        child.kill()  # nobody would know of it
        raise
    return child


def _go_second(pid: int, nice: int) -> None:
    """Let predictions on the page go before a training process."""
    if nice == 0:
        return
    with suppress(psutil.Error):
        below = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", None)
        if below is None:  # not on Windows; never above a starter that is nicer still
            below = max(nice, psutil.Process().nice())
        psutil.Process(pid).nice(below)
    # Where Linux groups processes by session, niceness counts only within a group, and the trainer
    # has a session of its own: the group needs it, too (sched(7), "The autogroup feature").
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")
