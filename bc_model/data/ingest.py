"""New datasets in the registry: from a folder, an archive, a download or a generator.

Images are unpacked into a hidden folder that gets its name at the end. A failed or canceled ingest
leaves nothing, except the received part of a download, which the next attempt resumes. Downloads
can run as jobs in a separate process.
"""

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar

from bc_model.data.archives import (
    CHUNK,
    MAX_TOTAL_GB,
    Unpacked,
    open_archive,
    unpack,
)
from bc_model.data.breakhis import CLASSES, parse_name
from bc_model.data.dataset import Progress
from bc_model.data.disk_space import explain_write_errors, require_free_space
from bc_model.data.download import OFFICIAL_URL, check_checksum, check_url, discard_partial, fetch
from bc_model.data.registry import (
    IMAGES_FOLDER,
    RegisteredDataset,
    check_name,
    datasets_dir,
    link_folder,
    open_dataset,
    publish_dataset,
    require_free_name,
    staging_folder,
)
from bc_model.data.summary import compare_with_official
from bc_model.data.synthetic import generate_dataset
from bc_model.errors import ArchiveError, BcModelError, DownloadError
from bc_model.jobs import (
    ENDED_STATES,
    Job,
    JobSpec,
    create_job,
    delete_job,
    end_process,
    hold_job,
    is_own,
    keep_alive,
    launch_job,
    locked,
    reap_children,
)
from bc_model.utils.io import describe_error

DOWNLOADS_FOLDER = ".downloads"
SYNTHETIC_SOURCE = "generated"
_MAX_SKIPPED_STORED = 200
_REPORT_INTERVAL_S = 0.5
_CANCELED = "Canceled on request. The downloaded part is kept."
_DAMAGED = "damaged"

IngestProgress = Callable[[str, int, int], None]
"""Called with 'uploading', 'downloading' or 'unpacking', finished bytes, and all bytes or 0."""


@dataclass(frozen=True)
class IngestResult:
    """A new dataset in the registry.

    `n_images` is 0 for a linked folder, which is not read. `skipped` contains path and reason of
    each skipped file of an archive, and `notes` contains sentences about the content.
    """

    dataset: RegisteredDataset
    n_images: int
    skipped: list[tuple[str, str]]
    notes: list[str]


def add_dataset(
    source: Path, name: str, *, registry: Path | None = None, progress: IngestProgress | None = None
) -> IngestResult:
    """Link a folder, or unpack an archive, as a new dataset.

    Parameters, return value and errors: see `link_folder` and `add_archive`.
    """
    source = Path(source)
    if source.exists() and not source.is_dir():
        return add_archive(source, name, registry=registry, progress=progress)
    return IngestResult(link_folder(source, name, registry), 0, [], [])


def add_archive(
    source: Path | BinaryIO,
    name: str,
    *,
    registry: Path | None = None,
    source_name: str = "",
    progress: IngestProgress | None = None,
) -> IngestResult:
    """Unpack a zip or tar.gz archive of images as a new dataset.

    Parameters
    ----------
    source : Path or binary stream
        Archive. A stream is copied to the disk first.
    name : str
        Name of the dataset.
    registry : Path, optional
        Folder of the registry. By default `bc_model.data.registry.datasets_dir`.
    source_name : str, optional
        Name of the archive in messages. By default its file name.
    progress : callable, optional
        See `IngestProgress`. An exception from it cancels the ingest.

    Raises
    ------
    DataError
        The name is taken or invalid, or the disk is full.
    ArchiveError
        The archive is damaged, has no images, or is unsafe; see `bc_model.data.archives`.
    """
    target = require_free_name(name, registry)
    with staging_folder(target) as staging:
        if isinstance(source, Path):
            source_name, file = source_name or source.name, source
        else:
            source_name, file = source_name or "The upload", staging / "upload"
            _copy_upload(source, file, source_name, progress)
        unpacked = _unpack(file, staging, source_name, progress)
        (staging / "upload").unlink(missing_ok=True)
        return _publish(staging, target, source_name, unpacked, _describe_content(unpacked))


def add_synthetic(
    name: str,
    *,
    n_cases: int = 12,
    images_per_case: int = 6,
    size: tuple[int, int] = (460, 700),
    seed: int = 0,
    registry: Path | None = None,
    progress: Progress | None = None,
) -> IngestResult:
    """Generate synthetic images at 200X as a new dataset.

    Parameters: see `add_archive` and `bc_model.data.synthetic.generate_dataset`.

    Raises
    ------
    DataError
        The name is taken or invalid.
    ConfigError
        A number is out of range.
    """
    target = require_free_name(name, registry)
    with staging_folder(target) as staging:
        n_images = generate_dataset(
            staging / IMAGES_FOLDER, n_cases=n_cases, images_per_case=images_per_case,
            size=size, seed=seed, progress=progress,
        )  # fmt: skip
        publish_dataset(
            staging, target, kind="stored", images=IMAGES_FOLDER, source=SYNTHETIC_SOURCE
        )
    return IngestResult(open_dataset(name, target.parent), n_images, [], [])


def add_download(
    name: str,
    *,
    url: str = OFFICIAL_URL,
    sha256: str = "",
    registry: Path | None = None,
    progress: IngestProgress | None = None,
) -> IngestResult:
    """Download an archive of images and unpack it as a new dataset, in this thread.

    The notes of the result compare the number of images with the published BreakHis dataset.

    Parameters
    ----------
    name, registry, progress
        See `add_archive`.
    url : str, optional
        Address of the archive, from a trusted user, because this machine requests it.
    sha256 : str, optional
        Expected checksum of the archive, compared before unpacking.

    Raises
    ------
    DownloadError
        The download fails, or the checksum differs. The received part is kept.
    DataError, ArchiveError
        See `add_archive`. A damaged archive is deleted.
    """
    sha256, url = check_checksum(sha256), check_url(url)
    target = require_free_name(name, registry)
    report = _bind_phase(progress, "downloading")
    with (
        _downloads_folder(target.parent) as folder,
        fetch(url, folder, sha256=sha256, progress=report) as archive,
        staging_folder(target) as staging,
    ):
        try:
            unpacked = _unpack(archive.path, staging, url.rpartition("/")[2] or url, progress)
        except ArchiveError:
            archive.delete()
            raise
        notes = [*_describe_content(unpacked), *_compare_with_official(unpacked)]
        result = _publish(staging, target, url, unpacked, notes, sha256=archive.sha256)
        archive.delete()
    return result


@dataclass(frozen=True)
class DownloadJob(Job):
    """The job of one download, in a directory with the name of the dataset."""

    noun: ClassVar[str] = "Download"
    error: ClassVar[type[DownloadError]] = DownloadError


@dataclass(frozen=True)
class Download:
    """A download that is not a dataset yet, at one moment.

    `state` is one of the states in `bc_model.jobs`, or 'damaged' if the files of the job are. In
    this case, `url` may be empty. `phase` is 'downloading', 'unpacking' or '' before the start. The
    bytes are those of the phase; the total is 0 if it is unknown. `message` contains why the
    download ended.
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
        return self.state not in ENDED_STATES | {_DAMAGED}


def start_download(
    name: str, *, url: str = OFFICIAL_URL, sha256: str = "", registry: Path | None = None
) -> None:
    """Start or resume a download in a separate process, and return at once.

    Parameters and errors: see `add_download`. Also raises `DownloadError` if the download is
    already running.
    """
    job, spec = _prepare_job(name, url, sha256, registry)
    with _downloads_folder(job.path.parent.parent), locked(job.path.parent):
        _write_job(job, spec)
        launch_job(job)


def run_download(
    name: str,
    *,
    url: str = OFFICIAL_URL,
    sha256: str = "",
    registry: Path | None = None,
    progress: IngestProgress | None = None,
) -> IngestResult:
    """Download in this process, and write the progress into the job.

    Parameters, return value and errors: see `add_download`. SIGTERM and Ctrl-C cancel the download.
    """
    job, spec = _prepare_job(name, url, sha256, registry)
    with _downloads_folder(job.path.parent.parent), locked(job.path.parent):
        if not _is_started_for_this_process(job):
            _write_job(job, spec)
        job.write_status("running", phase="downloading")
    last_phase, last_report_s = "downloading", 0.0

    def report(phase: str, n_bytes: int, n_total_bytes: int) -> None:
        nonlocal last_phase, last_report_s
        if phase != last_phase or time.monotonic() - last_report_s > _REPORT_INTERVAL_S:
            last_phase, last_report_s = phase, time.monotonic()
            job.write_status("running", phase=phase, n_bytes=n_bytes, n_total_bytes=n_total_bytes)
            if job.requested_action() == "cancel":
                raise KeyboardInterrupt
        if progress:
            progress(phase, n_bytes, n_total_bytes)

    with hold_job(job), keep_alive(job), _sigterm_as_interrupt():
        try:
            result = add_download(name, url=url, sha256=sha256, registry=registry, progress=report)
        except BaseException as error:
            with suppress(OSError):  # On a full disk, the download is listed as interrupted.
                if isinstance(error, KeyboardInterrupt):
                    job.write_status("canceled", message=_CANCELED)
                elif isinstance(error, BcModelError | OSError):
                    job.write_status("failed", message=describe_error(error))
                else:
                    message = f"Unexpected error ({type(error).__name__}: {error})."
                    job.write_status("failed", message=message)
            raise
    job.status_file.unlink(missing_ok=True)  # Removes the job from the list at once.
    shutil.rmtree(job.path, ignore_errors=True)  # Windows keeps our open error output.
    return result


def list_downloads(registry: Path | None = None) -> list[Download]:
    """Return the downloads that are running or ended without a dataset, by name."""
    reap_children()
    registry = registry or datasets_dir()
    downloads = map(_read_download, DownloadJob.find_all(registry / DOWNLOADS_FOLDER))
    return [download for download in downloads if not (registry / download.name).exists()]


def cancel_download(name: str, registry: Path | None = None) -> None:
    """End the process of a download. The received part is kept for the next start.

    Raises `DownloadError` if the process does not end.
    """
    job = _find_job(name, registry)
    if not _is_running(job):
        return
    job.request("cancel")  # On another machine, the process ends at its next report.
    end_process(job)
    if _read_download(job).state == "interrupted":  # It could not write its final status.
        job.write_status("canceled", message=_CANCELED)


def delete_download(name: str, registry: Path | None = None) -> None:
    """Delete the received part of a download that has ended.

    Raises `DownloadError` if it, or another download from the same address, is running.
    """
    job = _find_job(name, registry)
    if not job.exists:
        return
    download = _read_download(job)
    if download.is_running:
        raise DownloadError(f"{job.title} is running. Cancel it before you delete it.")
    if download.url:
        discard_partial(download.url, job.path.parent)
    delete_job(job)


def _copy_upload(
    source: BinaryIO, file: Path, source_name: str, progress: IngestProgress | None
) -> None:
    n_bytes = 0
    with file.open("xb") as output:
        while chunk := source.read(CHUNK):
            require_free_space(file.parent, len(chunk), "The upload")
            n_bytes += len(chunk)
            if n_bytes > MAX_TOTAL_GB * 1e9:
                raise ArchiveError(
                    f"{source_name} is too large. Expected at most {MAX_TOTAL_GB} GB. Upload fewer "
                    "images."
                )
            output.write(chunk)
            if progress:
                progress("uploading", n_bytes, 0)


def _bind_phase(progress: IngestProgress | None, phase: str) -> Callable[[int, int], None] | None:
    return (lambda n_bytes, n_total: progress(phase, n_bytes, n_total)) if progress else None


def _unpack(
    file: Path, staging: Path, source_name: str, progress: IngestProgress | None
) -> Unpacked:
    with open_archive(file, source_name) as archive:
        report = _bind_phase(progress, "unpacking")
        return unpack(archive, staging / IMAGES_FOLDER, progress=report)


def _publish(
    staging: Path, target: Path, source: str, unpacked: Unpacked, notes: list[str], **details: str
) -> IngestResult:
    publish_dataset(
        staging, target, kind="stored", images=IMAGES_FOLDER, source=source, notes=notes,
        n_skipped=len(unpacked.skipped), skipped=unpacked.skipped[:_MAX_SKIPPED_STORED], **details,
    )  # fmt: skip
    dataset = open_dataset(target.name, target.parent)
    return IngestResult(dataset, len(unpacked.images), unpacked.skipped, notes)


def _describe_content(unpacked: Unpacked) -> list[str]:
    """Return notes about skipped files and missing classes."""
    notes = []
    if unpacked.skipped:
        counts = Counter(reason for _, reason in unpacked.skipped)
        reasons = ", ".join(f"{reason} ({count})" for reason, count in sorted(counts.items()))
        notes.append(f"The archive contains skipped files: {reasons}.")
    paths = [path.split("/") for path in unpacked.images]
    if not any(
        parse_name(name) or {folder.lower() for folder in folders} & set(CLASSES)
        for *folders, name in paths
    ):
        notes.append(
            "The classes of the images are unknown, because no image has a BreakHis name or is in "
            "a folder named benign or malignant. Use a label mapping."
        )
    return notes


def _compare_with_official(unpacked: Unpacked) -> list[str]:
    checks = compare_with_official(path.rpartition("/")[2] for path in unpacked.images)
    if not checks:
        return ["The number of images of each class and magnification is that of BreakHis."]
    return ["The dataset differs from BreakHis.", *(check.message for check in checks)]


def _find_job(name: str, registry: Path | None) -> DownloadJob:
    return DownloadJob((registry or datasets_dir()) / DOWNLOADS_FOLDER / check_name(name))


def _prepare_job(
    name: str, url: str, sha256: str, registry: Path | None
) -> tuple[DownloadJob, JobSpec]:
    """Check the arguments of a download before anything is written."""
    config = {"url": check_url(url), "sha256": check_checksum(sha256)}
    registry = require_free_name(name, registry).parent.resolve()
    options = [text for key, value in config.items() for text in (f"--{key}", value)]
    command = ("data", "download", "--name", name, *options)
    return _find_job(name, registry), JobSpec(command, config, {"BC_DATASETS": str(registry)})


def _write_job(job: DownloadJob, spec: JobSpec) -> None:
    """Write the files of a new job; raise `DownloadError` if the job is running."""
    if _is_running(job):
        raise DownloadError(f"{job.title} is already running. Wait until it finishes.")
    if job.path.exists():
        job.request(None)
        job.write_spec(spec)
    else:
        create_job(job, partial(_write_first_files, spec=spec))


def _write_first_files(job: DownloadJob, spec: JobSpec) -> None:
    job.write_spec(spec)
    job.write_status("failed", message="The download has not started.")


@contextmanager
def _downloads_folder(registry: Path) -> Iterator[Path]:
    """Create the folder of the downloads, and turn its write errors into `DataError`."""
    folder = registry / DOWNLOADS_FOLDER
    with explain_write_errors("The download", registry):
        folder.mkdir(exist_ok=True)
        yield folder


def _read_download(job: DownloadJob) -> Download:
    """Return the download of a job; its state is 'damaged' if its files are missing or damaged."""
    url = sha256 = ""
    try:
        config = job.read_spec().config
        url, sha256 = check_url(config["url"]), check_checksum(config["sha256"])
        status = job.read_status()
    except (DownloadError, KeyError, TypeError, AttributeError):
        message = "The files of the download are damaged. Delete it, and download the file again."
        return Download(job.name, url, sha256, _DAMAGED, "", 0, 0, message)
    return Download(
        job.name, url, sha256, status["state"], status.get("phase", ""),
        status.get("n_bytes", 0), status.get("n_total_bytes", 0), status.get("message", ""),
    )  # fmt: skip


def _is_running(job: DownloadJob) -> bool:
    return _read_download(job).is_running


def _is_started_for_this_process(job: DownloadJob) -> bool:
    try:
        status = job.read_status()
    except DownloadError:
        return False
    return status["state"] == "starting" and is_own(status)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end this process like Ctrl-C, so that unpacked files are deleted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
