"""New datasets in the registry from archives, streams, downloads and folders."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from bc_model.data import disk_space, ingest
from bc_model.data.dataset import load_dataset
from bc_model.data.ingest import IngestResult, add_archive, add_dataset, add_download
from bc_model.data.registry import list_datasets, open_dataset
from bc_model.errors import ArchiveError, DataError, DownloadError, FolderNotFoundError
from tests.file_server import Server


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def make_zip(folder: Path, **others: bytes) -> bytes:
    """Return a zip archive of a folder and of other files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder.parent).as_posix())
        for name, content in others.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def archive(synthetic_dataset: Path, tmp_path: Path) -> Path:
    path = tmp_path / "synthetic.zip"
    path.write_bytes(make_zip(synthetic_dataset, README=b"x"))
    return path


class SlowStream(io.RawIOBase):
    """A stream like an upload: it cannot seek and returns a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 1000) if size >= 0 else 1000)


def list_files(registry: Path) -> list[str]:
    """Return the files in the registry, without locks."""
    return sorted(
        path.relative_to(registry).as_posix()
        for path in registry.rglob("*")
        if path.suffix != ".lock" and path.name != ".downloads"
    )


def require_complete(result: IngestResult, synthetic_dataset: Path, registry: Path) -> None:
    assert result.dataset == open_dataset(result.dataset.name, registry)
    assert result.n_images == 30
    dataset = load_dataset(result.dataset.images_dir)
    original = load_dataset(synthetic_dataset)
    assert list(dataset.images["sha256"]) == list(original.images["sha256"])
    assert not [path for path in registry.iterdir() if path.name.startswith(".add-")]


def test_add_dataset_archive_is_unpacked(
    archive: Path, synthetic_dataset: Path, registry: Path
) -> None:
    reported: list[tuple[str, int, int]] = []
    result = add_dataset(
        archive, "synthetic", registry=registry, progress=lambda *at: reported.append(at)
    )
    require_complete(result, synthetic_dataset, registry)
    assert (result.dataset.kind, result.dataset.source) == ("stored", "synthetic.zip")
    assert result.skipped == [("README", "not an image")]
    assert result.notes == ["The archive contains skipped files: not an image (1)."]
    assert {phase for phase, _, _ in reported} == {"unpacking"}
    assert archive.is_file()
    content = json.loads((registry / "synthetic/dataset.json").read_text())
    assert (content["n_skipped"], content["skipped"]) == (1, [["README", "not an image"]])


def test_add_archive_stream_is_copied_and_unpacked(
    archive: Path, synthetic_dataset: Path, registry: Path
) -> None:
    reported: list[tuple[str, int, int]] = []
    result = add_archive(
        SlowStream(archive.read_bytes()), "sent", registry=registry, source_name="upload.zip",
        progress=lambda *at: reported.append(at),
    )  # fmt: skip
    require_complete(result, synthetic_dataset, registry)
    assert result.dataset.source == "upload.zip"
    assert ("uploading", archive.stat().st_size, 0) in reported
    assert [path.name for path in (registry / "sent").iterdir() if path.name != "images"] == [
        "dataset.json"
    ]


def test_add_dataset_folder_is_linked(synthetic_dataset: Path, registry: Path) -> None:
    result = add_dataset(synthetic_dataset, "linked", registry=registry)
    assert (result.dataset.kind, result.n_images, result.skipped) == ("linked", 0, [])
    assert len(load_dataset(result.dataset.images_dir).images) == 30


def test_add_dataset_images_without_classes_have_note(
    synthetic_dataset: Path, registry: Path, tmp_path: Path
) -> None:
    data = next(synthetic_dataset.rglob("*.png")).read_bytes()
    path = tmp_path / "patches.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("0/a.png", data)
    assert "Use a label mapping" in add_dataset(path, "patches", registry=registry).notes[0]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("set/Benign/a.png", data)
    assert add_dataset(path, "classes", registry=registry).notes == []


# Failures leave nothing behind


def test_add_archive_damaged_leaves_nothing(archive: Path, registry: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[:-500])
    for source in (archive, SlowStream(content[:-500]), SlowStream(b"not an archive")):
        with pytest.raises(ArchiveError):
            add_archive(source, "synthetic", registry=registry)
        assert list_files(registry) == []
    with pytest.raises(ArchiveError, match=r"^The upload is not a zip"):
        add_archive(SlowStream(b"not an archive"), "synthetic", registry=registry)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("phase", ["uploading", "unpacking"])
def test_add_archive_stopped_leaves_nothing(
    archive: Path, registry: Path, error: type[BaseException], phase: str
) -> None:
    def stop(current: str, done: int, total: int) -> None:
        if current == phase:
            raise error

    with pytest.raises(error):
        add_archive(SlowStream(archive.read_bytes()), "synthetic", registry=registry, progress=stop)
    assert list_files(registry) == []


def test_add_archive_too_large_upload_is_stopped(
    archive: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MAX_TOTAL_GB", 1e-6)
    with pytest.raises(ArchiveError, match="too large"):
        add_archive(SlowStream(archive.read_bytes()), "synthetic", registry=registry)
    assert list_files(registry) == []


def test_add_archive_full_disk_leaves_nothing(
    archive: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "MIN_FREE_MB", 10**9)
    for source in (archive, SlowStream(archive.read_bytes())):
        with pytest.raises(DataError, match="Free disk space"):
            add_archive(source, "synthetic", registry=registry)
    assert list_files(registry) == []


def test_ingest_taken_or_invalid_name_is_refused_before_reading(
    archive: Path, registry: Path
) -> None:
    add_dataset(archive, "synthetic", registry=registry)
    before = list_files(registry)

    class UnreadableStream(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            pytest.fail("The stream must not be read.")

    for name, message in (("synthetic", "already exists"), ("../x", "Invalid dataset name")):
        with pytest.raises(DataError, match=message):
            add_archive(UnreadableStream(), name, registry=registry)
        with pytest.raises(DataError, match=message):
            add_download(name, url="http://127.0.0.1:9/x", registry=registry)
    assert list_files(registry) == before


def test_add_dataset_missing_source_raises(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match="There is no folder"):
        add_dataset(tmp_path / "gone.zip", "x", registry=registry)
    assert not registry.exists()


# Downloads


def test_add_download_broken_connection_becomes_dataset(
    server: Server, synthetic_dataset: Path, registry: Path
) -> None:
    server.content = make_zip(synthetic_dataset)
    server.breaks = [1000]
    digest = hashlib.sha256(server.content).hexdigest()
    reported: list[tuple[str, int, int]] = []
    result = add_download(
        "synthetic",
        url=server.url,
        sha256=digest,
        registry=registry,
        progress=lambda *at: reported.append(at),
    )
    require_complete(result, synthetic_dataset, registry)
    assert (result.dataset.source, result.dataset.details["sha256"]) == (server.url, digest)
    assert result.notes[0] == "The dataset differs from BreakHis."
    assert "The dataset contains 15 benign images at 200X. BreakHis contains 623." in result.notes
    assert [phase for i, (phase, *_) in enumerate(reported) if phase != reported[i - 1][0]] == [
        "downloading", "unpacking",
    ]  # fmt: skip
    assert not [name for name in list_files(registry) if name.startswith(".")]


def test_add_download_failed_leaves_no_dataset_and_is_resumed(
    server: Server, synthetic_dataset: Path, registry: Path
) -> None:
    server.content = make_zip(synthetic_dataset)
    server.breaks, server.codes = [1000], [200, 404]
    with pytest.raises(DownloadError):
        add_download("synthetic", url=server.url, registry=registry)
    assert list_datasets(registry) == ([], [])
    require_complete(
        add_download("synthetic", url=server.url, registry=registry), synthetic_dataset, registry
    )
    assert server.requests[-1]["Range"] == "bytes=1000-"


def test_add_download_wrong_checksum_leaves_no_dataset(
    server: Server, archive: Path, synthetic_dataset: Path, registry: Path
) -> None:
    add_dataset(archive, "good", registry=registry)
    before = list_files(registry)
    server.content = make_zip(synthetic_dataset)
    with pytest.raises(DownloadError, match=r"checksum .* is wrong"):
        add_download("synthetic", url=server.url, sha256="0" * 64, registry=registry)
    assert [name for name in list_files(registry) if not name.startswith(".downloads")] == before
    (part,) = (registry / ".downloads").glob("*.part")
    assert part.read_bytes() == server.content
    # Without the wrong checksum, the file is not downloaded again.
    add_download("synthetic", url=server.url, registry=registry)
    assert server.requests[-1]["Range"] == f"bytes={len(server.content)}-"


def test_add_download_invalid_checksum_is_refused_before_request(
    server: Server, registry: Path
) -> None:
    with pytest.raises(DownloadError, match="64 hexadecimal digits"):
        add_download("synthetic", url=server.url, sha256="123", registry=registry)
    assert server.requests == []
    assert not registry.exists()


def test_add_download_other_file_is_deleted(server: Server, registry: Path) -> None:
    server.content = b"<html>Not found</html>"
    with pytest.raises(ArchiveError, match=r"^set\.tar\.gz is not a zip or tar\.gz archive"):
        add_download("synthetic", url=server.url, registry=registry)
    assert list_files(registry) == []


def test_add_download_full_disk_keeps_received_file(
    server: Server, synthetic_dataset: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = make_zip(synthetic_dataset)

    def full(*_: object) -> None:
        raise DataError("Free disk space")

    monkeypatch.setattr("bc_model.data.archives.require_free_space", full)
    with pytest.raises(DataError, match="Free disk space"):
        add_download("synthetic", url=server.url, registry=registry)
    assert list_datasets(registry) == ([], [])
    assert len(list((registry / ".downloads").glob("*.part"))) == 1


def test_add_download_complete_breakhis_has_one_note(
    server: Server, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bc_model.data.summary.OFFICIAL_COUNTS", {40: (1, 0), 100: (0, 1), 200: (0, 0), 400: (0, 0)}
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("SOB_B_A-14-1-40-001.png", "SOB_M_DC-14-2-100-001.png"):
            file.writestr(name, b"\x89PNG\r\n\x1a\n")
    server.content = buffer.getvalue()
    assert add_download("all", url=server.url, registry=registry).notes == [
        "The number of images of each class and magnification is that of BreakHis."
    ]
