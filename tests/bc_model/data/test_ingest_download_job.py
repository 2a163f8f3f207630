"""Downloads in processes of their own, from a server on this machine that drops the line."""

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bc_model.data import ingest as download_job
from bc_model.data.ingest import (
    Download,
    DownloadJob,
    cancel_download,
    forget_download,
    list_downloads,
    run_download,
    start_download,
)
from bc_model.data.registry import list_datasets, open_dataset
from bc_model.errors import BcModelError, DataError, DownloadError
from bc_model.jobs import JobSpec
from tests.file_server import Server

PATIENCE_S = 60


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


@pytest.fixture
def archive(drawn_set: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for path in sorted(drawn_set.rglob("*.png")):
            out.write(path, path.relative_to(drawn_set).as_posix())
    return buffer.getvalue()


def wait_for(registry: Path, holds: Callable[[list[Download]], bool]) -> list[Download]:
    end_s = time.monotonic() + PATIENCE_S
    while not holds(found := list_downloads(registry)):
        assert time.monotonic() < end_s, found
        time.sleep(0.05)
    return found


def job_of(registry: Path) -> DownloadJob:
    return DownloadJob(registry / ".downloads" / "drawn")


def put_job(registry: Path, state: str, **fields: object) -> DownloadJob:
    """Write a download that this process stands for."""
    job = job_of(registry)
    job.path.mkdir(parents=True)
    job.write_spec(JobSpec(config={"url": "http://a/b", "sha256": ""}))
    job.write_status(state, **fields)
    return job


def test_a_download_that_breaks_off_becomes_a_set_in_its_own_process(
    server: Server, archive: bytes, registry: Path
) -> None:
    server.content, server.breaks = archive, [100_000]
    start_download("drawn", url=server.url, registry=registry)
    (one,) = list_downloads(registry)
    assert (one.name, one.is_running) == ("drawn", True)
    assert psutil.pid_exists(job_of(registry).read_status()["pid"])
    with pytest.raises(DownloadError, match="Download 'drawn' is already running"):
        start_download("drawn", url=server.url, registry=registry)

    wait_for(registry, lambda found: not found)
    assert open_dataset("drawn", registry).source == server.url
    downloads = registry / ".downloads"
    wait_for(registry, lambda _: all(path.name.endswith(".lock") for path in downloads.iterdir()))
    assert len(server.asked) == 2


def test_a_canceled_download_is_gone_on_with(
    server: Server, archive: bytes, registry: Path
) -> None:
    server.content = archive
    server.breaks, server.codes = [50_000], [200, *[503] * 4]  # it waits for better times
    start_download("drawn", url=server.url, registry=registry)
    wait_for(registry, lambda _: len(server.asked) > 1)
    cancel_download("drawn", registry)
    (one,) = list_downloads(registry)
    assert (one.state, one.message) == (
        "canceled",
        "Canceled on request. The downloaded part is kept.",
    )
    assert not [path for path in registry.iterdir() if path.name.startswith(".adding")]

    server.codes = []
    start_download("drawn", url=server.url, registry=registry)
    wait_for(registry, lambda found: not found)
    assert [one.name for one in list_datasets(registry)[0]] == ["drawn"]
    assert server.asked[-1]["Range"] == "bytes=50000-"


def test_a_process_that_is_gone_is_told_with_its_last_words(registry: Path) -> None:
    job = put_job(registry, "running", phase="downloading")
    job.status_file.write_text('{"state": "running", "pid": 1, "pid_started": 1.0}')
    (job.path / "stderr.txt").write_text("noise\nError: the disk is full.\n\n")

    (one,) = list_downloads(registry)
    assert (one.state, one.url) == ("interrupted", "http://a/b")
    assert one.message.endswith("ended unexpectedly. Last error output: Error: the disk is full.")


def test_a_failure_is_written_down_and_raised(server: Server, registry: Path) -> None:
    server.codes = [404]
    with pytest.raises(DownloadError, match="404"):
        run_download("drawn", url=server.url, registry=registry)
    (one,) = list_downloads(registry)
    assert one.state == "failed"
    assert "404 Not Found" in one.message


def test_progress_is_written_down_and_passed_on(
    server: Server, archive: bytes, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_job, "_WRITE_EVERY_S", 0)
    server.content = archive
    seen: list[tuple] = []

    def look(*told: object) -> None:
        (one,) = list_downloads(registry)
        seen.append((told, (one.phase, one.n_bytes, one.n_total_bytes)))

    run_download("drawn", url=server.url, registry=registry, progress=look)
    assert {told[0] for told, _ in seen} == {"downloading", "unpacking"}
    assert all(told == written for told, written in seen)
    assert list_downloads(registry) == []


def test_what_has_come_is_deleted_on_request(server: Server, registry: Path) -> None:
    server.codes, server.breaks = [200, 404], [1000]
    with pytest.raises(DownloadError):
        run_download("drawn", url=server.url, registry=registry)
    assert [path.stat().st_size for path in registry.rglob("*.part")] == [1000]

    forget_download("drawn", registry)
    assert list_downloads(registry) == []
    assert all(path.name.endswith(".lock") for path in (registry / ".downloads").iterdir())


def test_one_that_goes_on_is_not_deleted(registry: Path) -> None:
    put_job(registry, "starting")
    with pytest.raises(DownloadError, match="Cancel it before"):
        forget_download("drawn", registry)


@pytest.mark.parametrize(
    ("name", "more"),
    [("../out", {}), ("drawn", {"sha256": "12"}), ("drawn", {"url": "file:///etc/passwd"})],
)
def test_what_cannot_be_started_leaves_nothing(registry: Path, name: str, more: dict) -> None:
    for function in (start_download, run_download):
        with pytest.raises(BcModelError):
            function(name, registry=registry, **more)
    assert not registry.exists()


def test_a_name_that_is_taken_is_refused(registry: Path) -> None:
    (registry / "drawn").mkdir(parents=True)
    with pytest.raises(DataError, match="is there already"):
        start_download("drawn", registry=registry)
    assert not (registry / ".downloads").exists()


@pytest.mark.parametrize("name", ["job.json", "status.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 1}', '{"state": "lost"}'])
def test_list_downloads_ignores_damaged_files(registry: Path, name: str, text: str) -> None:
    job = put_job(registry, "failed")
    (job.path / name).write_text(text)
    assert list_downloads(registry) == []
    forget_download("drawn", registry)
    cancel_download("drawn", registry)


def test_run_download_on_request_is_canceled(
    server: Server, archive: bytes, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_job, "_WRITE_EVERY_S", 0)
    server.content = archive

    def cancel(*_: object) -> None:
        job_of(registry).request("cancel")

    with pytest.raises(KeyboardInterrupt):
        run_download("drawn", url=server.url, registry=registry, progress=cancel)
    assert [one.state for one in list_downloads(registry)] == ["canceled"]
