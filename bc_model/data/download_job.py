"""A download in a process of its own: it outlives the page, the tab and the server.

The process is the command line's own `data download`. How far it is stands in a file beside what
has come, for whoever looks; a download that was started in a terminal is seen there too. The file
is gone once the set is on the shelf.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import filelock
import psutil

from bc_model.data.download import OFFICIAL_URL, check_address, check_pin, forget_part
from bc_model.data.download_record import (
    Download,
    list_records,
    read_record,
    record_file,
    who,
    write_record,
)
from bc_model.data.intake import DOWNLOADS_FOLDER, Added, Progress, add_download
from bc_model.data.set_names import check_name
from bc_model.data.sets import datasets_folder, free_place
from bc_model.errors import BcModelError, DownloadError

_TOLD_EVERY_S = 0.5
_PATIENCE_S = 10.0

_children: list[subprocess.Popen] = []


def start_download(
    name: str, *, url: str = OFFICIAL_URL, sha256: str = "", shelf: Path | None = None
) -> None:
    """Start a download, or go on with one, and return at once.

    Parameters
    ----------
    name, url, sha256, shelf
        See `bc_model.data.intake.add_download`.

    Raises
    ------
    DataError
        The name is taken or cannot be one.
    DownloadError
        `sha256` or `url` is none, or it goes on already.
    """
    told = Download(name, check_address(url), check_pin(sha256), "starting")
    shelf = free_place(name, shelf).parent.resolve()
    known = read_record(shelf, name)
    if known and known.is_going:
        raise DownloadError(f"{name} is being downloaded already; wait until it is here.")
    (shelf / DOWNLOADS_FOLDER).mkdir(exist_ok=True)
    # On Windows a session of its own has no meaning; a process group is what Ctrl-C stops at.
    windows = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
        subprocess, "CREATE_NO_WINDOW", 0
    )
    command = [sys.executable, "-m", "bc_model", "data", "download", "--name", name]
    with record_file(shelf, name, ".job.log").open("wb") as errors:
        child = subprocess.Popen(
            [*command, "--url", url, "--sha256", told.sha256],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"BC_DATASETS": str(shelf)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            creationflags=windows,
        )
    _children.append(child)
    known = read_record(shelf, name)
    if known is None or known.pid != child.pid:  # else it was quicker than we are
        write_record(shelf, replace(told, **who(child.pid)))


def run_download(
    name: str,
    *,
    url: str = OFFICIAL_URL,
    sha256: str = "",
    shelf: Path | None = None,
    progress: Progress | None = None,
) -> Added:
    """Download in this process, and write down how far it is.

    Parameters, what is returned and what is raised: see `bc_model.data.intake.add_download`.
    Whoever ends the process politely (SIGTERM, Ctrl-C) cancels the download.
    """
    told = Download(name, check_address(url), check_pin(sha256), "downloading", **who())
    shelf = free_place(name, shelf).parent
    (shelf / DOWNLOADS_FOLDER).mkdir(exist_ok=True)
    told_s = 0.0

    def tell(verb: str, done: int, total: int) -> None:
        nonlocal told, told_s
        if verb != told.state or time.monotonic() - told_s > _TOLD_EVERY_S:
            told_s = time.monotonic()
            told = replace(told, state=verb, done=done, total=total)
            write_record(shelf, told)
        if progress:
            progress(verb, done, total)

    with _alone(shelf, name), _polite_end():
        write_record(shelf, told)
        try:
            added = add_download(name, url=url, sha256=sha256, shelf=shelf, progress=tell)
        except BaseException as error:
            asked = isinstance(error, KeyboardInterrupt)
            state = "cancelled" if asked else "failed"
            message = "Stopped on request; what has come is kept." if asked else _words(error)
            write_record(shelf, replace(told, state=state, message=message))
            raise
        record_file(shelf, name).unlink(missing_ok=True)
        with suppress(OSError):  # Windows deletes no file that is open, and we write to this one
            record_file(shelf, name, ".job.log").unlink(missing_ok=True)
    return added


def list_downloads(shelf: Path | None = None) -> list[Download]:
    """Return the downloads that go on or ended without a set, by name."""
    _children[:] = [child for child in _children if child.poll() is None]
    shelf = shelf or datasets_folder()
    return [one for one in list_records(shelf) if not (shelf / one.name).exists()]


def cancel_download(name: str, shelf: Path | None = None) -> None:
    """End the process of a download; what has come is kept, and can be gone on with."""
    shelf = shelf or datasets_folder()
    known = read_record(shelf, check_name(name))
    if known is None or not known.is_going:
        return
    try:
        process = psutil.Process(known.pid)
        process.terminate()
        process.wait(_PATIENCE_S)
    except psutil.NoSuchProcess:
        pass
    except psutil.Error as error:
        raise DownloadError(f"The process {known.pid} of {name} does not end: {error}.") from error
    known = read_record(shelf, name)
    if known and known.state == "interrupted":  # it could not say a last word
        message = "Stopped on request; what has come is kept."
        write_record(shelf, replace(known, state="cancelled", message=message))


def forget_download(name: str, shelf: Path | None = None) -> None:
    """Delete what has come of a download that nobody works on.

    Raises
    ------
    DownloadError
        It goes on, or another one of the same address does.
    """
    shelf = shelf or datasets_folder()
    known = read_record(shelf, check_name(name))
    if known is None:
        return
    if known.is_going:
        raise DownloadError(f"{name} is being downloaded; cancel it before deleting it.")
    forget_part(known.url, shelf / DOWNLOADS_FOLDER)
    record_file(shelf, name).unlink(missing_ok=True)
    for suffix in (".job.log", ".job.lock"):
        record_file(shelf, name, suffix).unlink(missing_ok=True)


@contextmanager
def _alone(shelf: Path, name: str) -> Iterator[None]:
    try:
        with filelock.FileLock(record_file(shelf, name, ".job.lock"), timeout=0):
            yield
    except filelock.Timeout as error:
        raise DownloadError(f"{name} is being downloaded already.") from error


@contextmanager
def _polite_end() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does: what is half unpacked is cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _words(error: BaseException) -> str:
    known = isinstance(error, BcModelError | OSError)
    return str(error) if known else f"A fault in the program ({type(error).__name__}: {error})."
