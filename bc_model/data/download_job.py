"""A download as a job: it outlives the page, the tab and the server.

The process is the `data download` command of the command line. A download that was started in a
terminal is a job as well, so that the app shows it. The directory of the job is deleted once the
dataset is in the registry.
"""

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bc_model.data.download import OFFICIAL_URL, check_address, check_pin, forget_part
from bc_model.data.intake import DOWNLOADS_FOLDER, Added, IngestProgress, add_download
from bc_model.data.set_names import check_name
from bc_model.data.sets import datasets_folder, free_place
from bc_model.errors import BcModelError, DownloadError
from bc_model.jobs import (
    ENDED_STATES,
    Job,
    JobSpec,
    delete_job,
    end_process,
    is_own,
    keep_alive,
    launch_job,
    locked,
    reap_children,
)

_WRITE_EVERY_S = 0.5
_CANCELED = "Canceled on request. The downloaded part is kept."


@dataclass(frozen=True)
class DownloadJob(Job):
    """The job of one download, in a directory with the name of the dataset."""

    noun: ClassVar[str] = "Download"
    error: ClassVar[type[DownloadError]] = DownloadError


@dataclass(frozen=True)
class Download:
    """A download that is not a dataset yet, at one moment.

    Attributes
    ----------
    name : str
        Name of the dataset.
    url, sha256 : str
        Address and expected checksum of the archive; see `bc_model.data.intake.add_download`.
    state : str
        One of the states in `bc_model.jobs`.
    phase : {'', 'downloading', 'unpacking'}
        What the process does. Empty before it starts.
    n_bytes, n_total_bytes : int
        Bytes of this phase. The total is 0 if it is unknown.
    message : str
        Why the download ended.
    """

    name: str
    url: str
    sha256: str
    state: str
    phase: str
    n_bytes: int
    n_total_bytes: int
    message: str

    @property
    def is_running(self) -> bool:
        """True while a process works on the download."""
        return self.state not in ENDED_STATES


def start_download(
    name: str, *, url: str = OFFICIAL_URL, sha256: str = "", shelf: Path | None = None
) -> None:
    """Start or resume a download in a separate process, and return at once.

    Parameters
    ----------
    name, url, sha256, shelf
        See `bc_model.data.intake.add_download`.

    Raises
    ------
    DataError
        The name is taken or invalid.
    DownloadError
        `sha256` or `url` is invalid, or the download is already running.
    """
    job, spec = _prepare(name, url, sha256, shelf)
    with locked(job.path.parent):
        _require_ended(job)
        job.path.mkdir(exist_ok=True)
        job.request(None)
        job.write_spec(spec)
        launch_job(job)


def run_download(
    name: str,
    *,
    url: str = OFFICIAL_URL,
    sha256: str = "",
    shelf: Path | None = None,
    progress: IngestProgress | None = None,
) -> Added:
    """Download in this process, and write the progress into the job.

    Parameters, return value and errors: see `bc_model.data.intake.add_download`. SIGTERM and
    Ctrl-C cancel the download.
    """
    job, spec = _prepare(name, url, sha256, shelf)
    with locked(job.path.parent):
        if not _is_started_here(job):
            _require_ended(job)
            job.path.mkdir(exist_ok=True)
            job.request(None)
            job.write_spec(spec)
        job.write_status("running", phase="downloading")
    written_phase, written_s = "downloading", 0.0

    def report(phase: str, n_bytes: int, n_total_bytes: int) -> None:
        nonlocal written_phase, written_s
        if phase != written_phase or time.monotonic() - written_s > _WRITE_EVERY_S:
            written_phase, written_s = phase, time.monotonic()
            job.write_status("running", phase=phase, n_bytes=n_bytes, n_total_bytes=n_total_bytes)
            if job.requested_action() == "cancel":
                raise KeyboardInterrupt
        if progress:
            progress(phase, n_bytes, n_total_bytes)

    with keep_alive(job), _sigterm_as_interrupt():
        try:
            added = add_download(name, url=url, sha256=sha256, shelf=shelf, progress=report)
        except BaseException as error:
            is_canceled = isinstance(error, KeyboardInterrupt)
            job.write_status(
                "canceled" if is_canceled else "failed",
                message=_CANCELED if is_canceled else _describe(error),
            )
            raise
    job.status_file.unlink(missing_ok=True)  # Out of the list at once.
    shutil.rmtree(job.path, ignore_errors=True)  # Windows keeps our open error output.
    return added


def list_downloads(shelf: Path | None = None) -> list[Download]:
    """Return the downloads that are running or ended without a dataset, by name."""
    reap_children()
    shelf = shelf or datasets_folder()
    found = (_read(job) for job in DownloadJob.find_all(shelf / DOWNLOADS_FOLDER))
    return [one for one in found if one and not (shelf / one.name).exists()]


def cancel_download(name: str, shelf: Path | None = None) -> None:
    """End the process of a download; the downloaded part is kept, and a new start resumes it.

    Raises
    ------
    DownloadError
        The process does not end.
    """
    job = _job(name, shelf)
    known = _read(job)
    if known is None or not known.is_running:
        return
    job.request("cancel")  # On another machine, the process obeys at its next report.
    end_process(job)
    known = _read(job)
    if known and known.state == "interrupted":  # It could not write its final status.
        job.write_status("canceled", message=_CANCELED)


def forget_download(name: str, shelf: Path | None = None) -> None:
    """Delete the downloaded part of a download that has ended.

    Raises
    ------
    DownloadError
        The download, or another one from the same address, is running.
    """
    job = _job(name, shelf)
    if known := _read(job):
        if known.is_running:
            raise DownloadError(f"{job.title} is running. Cancel it before you delete it.")
        forget_part(known.url, job.path.parent)
        delete_job(job)


def _job(name: str, shelf: Path | None) -> DownloadJob:
    return DownloadJob((shelf or datasets_folder()) / DOWNLOADS_FOLDER / check_name(name))


def _prepare(name: str, url: str, sha256: str, shelf: Path | None) -> tuple[DownloadJob, JobSpec]:
    """Check what a download needs, before anything is written."""
    config = {"url": check_address(url), "sha256": check_pin(sha256)}
    shelf = free_place(name, shelf).parent.resolve()
    options = [text for key, value in config.items() for text in (f"--{key}", value)]
    command = ("data", "download", "--name", name, *options)
    return _job(name, shelf), JobSpec(command, config, {"BC_DATASETS": str(shelf)})


def _read(job: DownloadJob) -> Download | None:
    """Return the download of a job, or None if its files are missing or damaged."""
    try:
        config, status = job.read_spec().config, job.read_status()
        return Download(
            job.name,
            config["url"],
            config["sha256"],
            status["state"],
            status.get("phase", ""),
            status.get("n_bytes", 0),
            status.get("n_total_bytes", 0),
            status.get("message", ""),
        )
    except (DownloadError, KeyError, TypeError):
        return None


def _require_ended(job: DownloadJob) -> None:
    known = _read(job)
    if known and known.is_running:
        raise DownloadError(f"{job.title} is already running. Wait until it finishes.")


def _is_started_here(job: DownloadJob) -> bool:
    """Return whether the job was started by `start_download` for this process."""
    try:
        status = job.read_status()
    except DownloadError:
        return False
    return status["state"] == "starting" and is_own(status)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that half-unpacked files are deleted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _describe(error: BaseException) -> str:
    if isinstance(error, BcModelError | OSError):
        return str(error)
    return f"Unexpected error ({type(error).__name__}: {error})."
