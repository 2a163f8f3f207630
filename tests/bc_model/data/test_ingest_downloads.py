"""Download jobs in separate processes, from a server that breaks connections."""

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bc_model.data import ingest
from bc_model.data.ingest import (
    Download,
    DownloadJob,
    cancel_download,
    delete_download,
    list_downloads,
    run_download,
    start_download,
)
from bc_model.data.registry import list_datasets, open_dataset
from bc_model.errors import BcModelError, DataError, DownloadError
from bc_model.jobs import JobSpec
from tests.file_server import Server

TIMEOUT_S = 60


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def archive(synthetic_dataset: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for path in sorted(synthetic_dataset.rglob("*.png")):
            out.write(path, path.relative_to(synthetic_dataset).as_posix())
    return buffer.getvalue()


def wait_for(registry: Path, condition: Callable[[list[Download]], bool]) -> list[Download]:
    end_s = time.monotonic() + TIMEOUT_S
    while not condition(found := list_downloads(registry)):
        assert time.monotonic() < end_s, found
        time.sleep(0.05)
    return found


def find_job(registry: Path) -> DownloadJob:
    return DownloadJob(registry / ".downloads" / "synthetic")


def write_job(registry: Path, state: str, **fields: object) -> DownloadJob:
    """Write the job of a download with the process of the test."""
    job = find_job(registry)
    job.path.mkdir(parents=True)
    job.write_spec(JobSpec(config={"url": "http://a/b", "sha256": ""}))
    job.write_status(state, **fields)
    return job


def test_start_download_broken_connection_becomes_dataset(
    server: Server, archive: bytes, registry: Path
) -> None:
    server.content, server.breaks = archive, [100_000]
    start_download("synthetic", url=server.url, registry=registry)
    (download,) = list_downloads(registry)
    assert (download.name, download.is_running) == ("synthetic", True)
    assert psutil.pid_exists(find_job(registry).read_status()["pid"])
    with pytest.raises(DownloadError, match="Download 'synthetic' is already running"):
        start_download("synthetic", url=server.url, registry=registry)

    wait_for(registry, lambda found: not found)
    assert open_dataset("synthetic", registry).source == server.url
    downloads = registry / ".downloads"
    wait_for(registry, lambda _: all(path.name.endswith(".lock") for path in downloads.iterdir()))
    assert len(server.requests) == 2


def test_cancel_download_keeps_part_for_next_start(
    server: Server, archive: bytes, registry: Path
) -> None:
    server.content = archive
    server.breaks, server.codes = [50_000], [200, *[503] * 4]  # The process waits between attempts.
    start_download("synthetic", url=server.url, registry=registry)
    wait_for(registry, lambda _: len(server.requests) > 1)
    cancel_download("synthetic", registry)
    (download,) = list_downloads(registry)
    assert (download.state, download.message) == (
        "canceled",
        "Canceled on request. The downloaded part is kept.",
    )
    assert not [path for path in registry.iterdir() if path.name.startswith(".adding")]

    server.codes = []
    start_download("synthetic", url=server.url, registry=registry)
    wait_for(registry, lambda found: not found)
    assert [download.name for download in list_datasets(registry)[0]] == ["synthetic"]
    assert server.requests[-1]["Range"] == "bytes=50000-"


def test_list_downloads_lost_process_is_interrupted_with_last_error(registry: Path) -> None:
    job = write_job(registry, "running", phase="downloading")
    job.status_file.write_text('{"state": "running", "pid": 1, "pid_started": 1.0}')
    (job.path / "stderr.txt").write_text("noise\nError: the disk is full.\n\n")

    (download,) = list_downloads(registry)
    assert (download.state, download.url) == ("interrupted", "http://a/b")
    assert download.message.endswith(
        "ended unexpectedly. Last error output: Error: the disk is full."
    )


def test_run_download_failure_is_stored_and_raised(server: Server, registry: Path) -> None:
    server.codes = [404]
    with pytest.raises(DownloadError, match="404"):
        run_download("synthetic", url=server.url, registry=registry)
    (download,) = list_downloads(registry)
    assert download.state == "failed"
    assert "404 Not Found" in download.message


def test_run_download_progress_is_stored_and_reported(
    server: Server, archive: bytes, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_REPORT_INTERVAL_S", 0)
    server.content = archive
    seen: list[tuple] = []

    def compare(*reported: object) -> None:
        (download,) = list_downloads(registry)
        seen.append((reported, (download.phase, download.n_bytes, download.n_total_bytes)))

    run_download("synthetic", url=server.url, registry=registry, progress=compare)
    assert {reported[0] for reported, _ in seen} == {"downloading", "unpacking"}
    assert all(reported == stored for reported, stored in seen)
    assert list_downloads(registry) == []


def test_delete_download_deletes_received_part(server: Server, registry: Path) -> None:
    server.codes, server.breaks = [200, 404], [1000]
    with pytest.raises(DownloadError):
        run_download("synthetic", url=server.url, registry=registry)
    assert [path.stat().st_size for path in registry.rglob("*.part")] == [1000]

    delete_download("synthetic", registry)
    assert list_downloads(registry) == []
    assert all(path.name.endswith(".lock") for path in (registry / ".downloads").iterdir())


def test_delete_download_running_is_refused(registry: Path) -> None:
    write_job(registry, "starting")
    with pytest.raises(DownloadError, match="Cancel it before"):
        delete_download("synthetic", registry)


@pytest.mark.parametrize(
    ("name", "options"),
    [("../out", {}), ("synthetic", {"sha256": "12"}), ("synthetic", {"url": "file:///etc/passwd"})],
)
def test_start_download_invalid_argument_leaves_nothing(
    registry: Path, name: str, options: dict
) -> None:
    for function in (start_download, run_download):
        with pytest.raises(BcModelError):
            function(name, registry=registry, **options)
    assert not registry.exists()


def test_start_download_taken_name_is_refused(registry: Path) -> None:
    (registry / "synthetic").mkdir(parents=True)
    with pytest.raises(DataError, match="already exists"):
        start_download("synthetic", registry=registry)
    assert not (registry / ".downloads").exists()


@pytest.mark.parametrize("name", ["job.json", "status.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 1}', '{"state": "lost"}'])
def test_list_downloads_damaged_files_are_listed_and_can_be_deleted(
    registry: Path, name: str, text: str
) -> None:
    job = write_job(registry, "failed")
    (job.path / name).write_text(text)
    (download,) = list_downloads(registry)
    assert (download.name, download.state, download.is_running) == ("synthetic", "damaged", False)
    assert "Delete it" in download.message
    cancel_download("synthetic", registry)
    delete_download("synthetic", registry)
    assert list_downloads(registry) == []
    assert not job.path.exists()
    delete_download("synthetic", registry)


def test_run_download_cancel_request_ends_download(
    server: Server, archive: bytes, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_REPORT_INTERVAL_S", 0)
    server.content = archive

    def cancel(*_: object) -> None:
        find_job(registry).request("cancel")

    with pytest.raises(KeyboardInterrupt):
        run_download("synthetic", url=server.url, registry=registry, progress=cancel)
    assert [download.state for download in list_downloads(registry)] == ["canceled"]
