"""Whether a run's process lives: known by its number here, by its heartbeat on other machines.

The number of a process means nothing on another machine that sees the same folder of runs. So a
trainer touches its `status.json` every few seconds whatever it is doing, and a run of another
machine counts as alive while that file is fresh. Machines need names and clocks of their own.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil

TOUCH_EVERY_S = 10.0
ALIVE_S = 120.0
"""Longer than a network file system keeps the age of a file to itself (a minute, as a rule)."""

logger = logging.getLogger("bc_model.training")


def process_fields(pid: int | None = None) -> dict[str, Any]:
    """Return what `is_alive` knows a process by: number, start time and machine.

    Parameters
    ----------
    pid : int, optional
        Of a process on this machine; default is this one.
    """
    process = psutil.Process(pid)
    return {"pid": process.pid, "pid_started": process.create_time(), "host": platform.node()}


def is_of_this_host(status: dict[str, Any]) -> bool:
    """Return whether a run's process is, or was, on this machine."""
    return status.get("host", platform.node()) == platform.node()


def is_alive(status: dict[str, Any], status_file: Path) -> bool:
    """Return whether the process that wrote a status still works on its run.

    Parameters
    ----------
    status : dict
        With the keys of `process_fields`; one that lacks them is nobody's.
    status_file : Path
        Where it was read.
    """
    if not is_of_this_host(status):
        try:
            return time.time() - status_file.stat().st_mtime < ALIVE_S
        except OSError:
            return False
    try:
        process = psutil.Process(int(status["pid"]))
        same = abs(process.create_time() - float(status["pid_started"])) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


@contextmanager
def touched(status_file: Path, every_s: float = TOUCH_EVERY_S) -> Iterator[None]:
    """Keep a status fresh for the length of a block, through steps that write none.

    A trainer that was frozen for so long that another has its run ends as soon as it wakes, as by
    a kill: whatever it wrote from then on would be into the other's files.
    """
    over = threading.Event()

    def touch() -> None:
        while not over.wait(every_s):
            if is_replaced(status_file):
                _end_replaced(status_file)
            _set_time(status_file, None)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def is_replaced(status_file: Path) -> bool:
    """Return whether a status names another process than this one.

    One that names nobody, or cannot be read for the moment, does not.
    """
    try:
        status = json.loads(status_file.read_text(encoding="utf-8"))
        pid = status.get("pid")
    except (OSError, ValueError, AttributeError):
        return False
    # In a virtual environment on Windows who starts a trainer knows the number of our parent.
    ours = is_of_this_host(status) and pid in (os.getpid(), os.getppid())
    return pid is not None and not ours


def end_with_stdin(status_file: Path) -> None:
    """End this process as soon as its standard input ends, as a kill would.

    Who starts a trainer holds the other end of a pipe. The system closes it however that process
    ends, on Windows too, so none leaves a trainer behind that nobody knows of.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held by a thread, would keep the interpreter from ending.
        while os.read(0, 1024):
            pass
        os.write(2, b"the process that started this one has ended\n")
        _set_time(status_file, 0.0)  # other machines need not wait until it has aged
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _end_replaced(status_file: Path) -> NoReturn:
    try:
        logger.error(
            "Another process works on the run %s since this one stood still: this one ends.",
            status_file.parent.name,
        )
    finally:
        os._exit(1)  # no step of this run, not even its last words, is to be written


def _set_time(path: Path, seconds: float | None) -> None:
    # Deleted, or a disk that is away: who watches sees it age.
    with suppress(OSError):
        os.utime(path, None if seconds is None else (seconds, seconds))
