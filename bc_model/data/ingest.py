"""New data sets for the shelf: from an archive, a download, or a folder that is there already.

Pictures are unpacked into a hidden folder on the shelf, which gets its name when it is whole. What
fails or is stopped leaves nothing but, of a download, the part that can be gone on with.
"""

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from bc_model.data.archives import CHUNK, MAX_TOTAL_GB, Unpacked, open_archive, require_room, unpack
from bc_model.data.breakhis import CLASSES, parse_name
from bc_model.data.download import OFFICIAL_URL, check_address, check_pin, discard_partial, fetch
from bc_model.data.registry import (
    IMAGES_FOLDER,
    RegisteredDataset,
    check_name,
    datasets_folder,
    describe_dataset,
    free_place,
    link_folder,
    open_dataset,
    put_in_place,
    staging_folder,
)
from bc_model.data.summary import compare_with_official
from bc_model.data.synthetic import write_synthetic
from bc_model.errors import ArchiveError, BcModelError, DownloadError
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

DOWNLOADS_FOLDER = ".downloads"
_SKIPPED_KEPT = 200

IngestProgress = Callable[[str, int, int], None]
"""Called with ('uploading', 'downloading' or 'unpacking', bytes done, bytes in all or 0)."""


@dataclass(frozen=True)
class Added:
    """A data set that was added, and what is to be told of it.

    Attributes
    ----------
    dataset : RegisteredDataset
    pictures : int
        Files unpacked; 0 for a linked folder, which is not read.
    skipped : list of (str, str)
        Path and reason of each file of the archive that was left out.
    notes : list of str
        Sentences.
    """

    dataset: RegisteredDataset
    images: int
    skipped: list[tuple[str, str]]
    notes: list[str]


def add(
    source: Path, name: str, *, registry: Path | None = None, progress: IngestProgress | None = None
) -> Added:
    """Add a folder by its path, or an archive file by unpacking it.

    Raises
    ------
    FolderNotFoundError, DataError, ArchiveError
        See `link_folder` and `add_archive`.
    """
    source = Path(source)
    if source.is_file():
        return add_archive(source, name, registry=registry, progress=progress)
    return Added(link_folder(source, name, registry), 0, [], [])


def add_archive(
    source: Path | BinaryIO,
    name: str,
    *,
    registry: Path | None = None,
    source_name: str = "",
    progress: IngestProgress | None = None,
) -> Added:
    """Unpack a zip or tar.gz archive of pictures into a new data set.

    Parameters
    ----------
    source : Path or binary stream
        A stream is copied to the disk first, in pieces, whatever its length.
    name : str
        Of the new data set.
    shelf : Path, optional
        Default: `bc_model.data.registry.datasets_folder`.
    source_name : str
        What to call the archive; default its file name.
    progress : callable, optional

    Returns
    -------
    Added

    Raises
    ------
    DataError
        The name is taken or cannot be one, or the disk has no room.
    ArchiveError
        Not an archive, damaged, without a picture, or refused; see `bc_model.data.archives`.
    """
    target = free_place(name, registry)
    with _staging(target) as staging:
        if isinstance(source, Path):
            called, file = source_name or source.name, source
        else:
            called, file = source_name or "The upload", staging / "upload"
            _copy(source, file, called, progress)
        found = _unpack(file, staging, called, progress)
        (staging / "upload").unlink(missing_ok=True)
        return _put_in_place(staging, target, called, found, _notes(found))


def add_download(
    name: str,
    *,
    url: str = OFFICIAL_URL,
    sha256: str = "",
    registry: Path | None = None,
    progress: IngestProgress | None = None,
) -> Added:
    """Download an archive, check it, and unpack it into a new data set.

    A download that breaks off is gone on with, now or at the next call. The archive is deleted
    once its pictures are in place. What it holds is compared with BreakHis as published; a
    difference is told in the notes and is no error, since an extract may be what was wanted.

    Parameters
    ----------
    name : str
        Of the new data set.
    url : str
        The official archive unless said otherwise. Not for an address that a stranger typed: this
        machine would ask for it in its own name.
    sha256 : str
        What the archive's bytes must hash to; checked before anything is unpacked. The authors
        publish none: the first download tells it, later ones can be pinned to it.
    shelf, progress
        See `add_archive`.

    Returns
    -------
    Added

    Raises
    ------
    DownloadError
        It did not come to its end, or the bytes are others than `sha256` says. What came is kept.
    DataError, ArchiveError
        See `add_archive`. A damaged archive is deleted, so that the next call starts again.
    """
    pin = check_pin(sha256)
    check_address(url)
    target = free_place(name, registry)
    downloads = target.parent / DOWNLOADS_FOLDER
    downloads.mkdir(exist_ok=True)
    told = (lambda done, total: progress("downloading", done, total)) if progress else None
    with fetch(url, downloads, sha256=pin, progress=told) as fetched, _staging(target) as staging:
        try:
            found = _unpack(fetched.path, staging, url.rpartition("/")[2] or url, progress)
        except ArchiveError:
            fetched.forget()
            raise
        notes = [*_notes(found), *_compare(found)]
        added = _put_in_place(staging, target, url, found, notes, sha256=fetched.sha256)
        fetched.forget()
    return added


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Make the folder that becomes `target`, and delete it when it does not."""
    staging = staging_folder(target.parent)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _copy(source: BinaryIO, file: Path, called: str, progress: IngestProgress | None) -> None:
    """Stream an upload to the disk."""
    done = 0
    with file.open("xb") as out:
        while chunk := source.read(CHUNK):
            require_room(file.parent, len(chunk), "The upload")
            done += len(chunk)
            if done > MAX_TOTAL_GB * 1e9:
                raise ArchiveError(f"{called} has more than {MAX_TOTAL_GB} GB; send a part of it.")
            out.write(chunk)
            if progress:
                progress("uploading", done, 0)


def _unpack(file: Path, staging: Path, called: str, progress: IngestProgress | None) -> Unpacked:
    told = (lambda done, total: progress("unpacking", done, total)) if progress else None
    with open_archive(file, called) as archive:
        return unpack(archive, staging / IMAGES_FOLDER, progress=told)


def _put_in_place(
    staging: Path, target: Path, source: str, found: Unpacked, notes: list[str], **details: str
) -> Added:
    describe_dataset(
        staging,
        kind="stored",
        images=IMAGES_FOLDER,
        source=source,
        notes=notes,
        n_skipped=len(found.skipped),
        skipped=found.skipped[:_SKIPPED_KEPT],
        **details,
    )
    put_in_place(staging, target)
    dataset = open_dataset(target.name, target.parent)
    return Added(dataset, len(found.images), found.skipped, notes)


def _notes(found: Unpacked) -> list[str]:
    notes = []
    if found.skipped:
        counts = Counter(reason for _, reason in found.skipped)
        words = ", ".join(f"{reason} ({count})" for reason, count in sorted(counts.items()))
        notes.append(f"Files of the archive that were left out: {words}.")
    paths = [path.lower().split("/") for path in found.images]
    if not any(parse_name(path.rpartition("/")[2]) for path in found.images) and not any(
        name in parts[:-1] for name in CLASSES for parts in paths
    ):
        notes.append(
            "No picture has a BreakHis name or lies in a folder named benign or malignant: to "
            "train or evaluate, its classes must be said."
        )
    return notes


def _compare(found: Unpacked) -> list[str]:
    differences = compare_with_official(path.rpartition("/")[2] for path in found.images)
    if not differences:
        return ["The pictures are as many as BreakHis has, in each class and magnification."]
    return [
        "This is not the whole of BreakHis as published.",
        *(check.message for check in differences),
    ]


SOURCE = "drawn by this program"


def add_synthetic(
    name: str,
    *,
    n_cases: int = 12,
    images_per_case: int = 6,
    size: tuple[int, int] = (460, 700),
    seed: int = 0,
    registry: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Draw a set of invented pictures at 200X into a new data set.

    Parameters
    ----------
    name : str
        Of the new data set.
    n_cases, images_per_case, size, seed
        See `bc_model.data.synthetic.write_synthetic`.
    shelf : Path, optional
        Default: `bc_model.data.registry.datasets_folder`.
    progress : callable, optional
        Called with (pictures drawn, pictures in all). What it raises stops the drawing, and
        nothing is left.

    Returns
    -------
    Added

    Raises
    ------
    DataError
        The name is taken or cannot be one.
    ConfigError
        A number is out of range.
    """
    target = free_place(name, registry)
    staging = staging_folder(target.parent)
    try:
        written = write_synthetic(
            staging / IMAGES_FOLDER,
            n_cases=n_cases,
            images_per_case=images_per_case,
            size=size,
            seed=seed,
            progress=progress,
        )
        describe_dataset(staging, kind="stored", images=IMAGES_FOLDER, source=SOURCE)
        put_in_place(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Added(open_dataset(name, target.parent), written, [], [])


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
        Address and expected checksum of the archive; see `bc_model.data.ingest.add_download`.
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
    name: str, *, url: str = OFFICIAL_URL, sha256: str = "", registry: Path | None = None
) -> None:
    """Start or resume a download in a separate process, and return at once.

    Parameters
    ----------
    name, url, sha256, shelf
        See `bc_model.data.ingest.add_download`.

    Raises
    ------
    DataError
        The name is taken or invalid.
    DownloadError
        `sha256` or `url` is invalid, or the download is already running.
    """
    job, spec = _prepare(name, url, sha256, registry)
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
    registry: Path | None = None,
    progress: IngestProgress | None = None,
) -> Added:
    """Download in this process, and write the progress into the job.

    Parameters, return value and errors: see `bc_model.data.ingest.add_download`. SIGTERM and
    Ctrl-C cancel the download.
    """
    job, spec = _prepare(name, url, sha256, registry)
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
            added = add_download(name, url=url, sha256=sha256, registry=registry, progress=report)
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


def list_downloads(registry: Path | None = None) -> list[Download]:
    """Return the downloads that are running or ended without a dataset, by name."""
    reap_children()
    registry = registry or datasets_folder()
    found = (_read(job) for job in DownloadJob.find_all(registry / DOWNLOADS_FOLDER))
    return [one for one in found if one and not (registry / one.name).exists()]


def cancel_download(name: str, registry: Path | None = None) -> None:
    """End the process of a download; the downloaded part is kept, and a new start resumes it.

    Raises
    ------
    DownloadError
        The process does not end.
    """
    job = _job(name, registry)
    known = _read(job)
    if known is None or not known.is_running:
        return
    job.request("cancel")  # On another machine, the process obeys at its next report.
    end_process(job)
    known = _read(job)
    if known and known.state == "interrupted":  # It could not write its final status.
        job.write_status("canceled", message=_CANCELED)


def forget_download(name: str, registry: Path | None = None) -> None:
    """Delete the downloaded part of a download that has ended.

    Raises
    ------
    DownloadError
        The download, or another one from the same address, is running.
    """
    job = _job(name, registry)
    if known := _read(job):
        if known.is_running:
            raise DownloadError(f"{job.title} is running. Cancel it before you delete it.")
        discard_partial(known.url, job.path.parent)
        delete_job(job)


def _job(name: str, registry: Path | None) -> DownloadJob:
    return DownloadJob((registry or datasets_folder()) / DOWNLOADS_FOLDER / check_name(name))


def _prepare(
    name: str, url: str, sha256: str, registry: Path | None
) -> tuple[DownloadJob, JobSpec]:
    """Check what a download needs, before anything is written."""
    config = {"url": check_address(url), "sha256": check_pin(sha256)}
    registry = free_place(name, registry).parent.resolve()
    options = [text for key, value in config.items() for text in (f"--{key}", value)]
    command = ("data", "download", "--name", name, *options)
    return _job(name, registry), JobSpec(command, config, {"BC_DATASETS": str(registry)})


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
