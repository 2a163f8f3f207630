"""New data sets, from an archive, a stream, a download or a folder: whole on the shelf or not."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from bc_model.data import archives as archive_guards
from bc_model.data import ingest as intake
from bc_model.data.dataset import read_dataset
from bc_model.data.ingest import Added, add, add_archive, add_download
from bc_model.data.registry import list_datasets, open_dataset
from bc_model.errors import ArchiveError, DataError, DownloadError, FolderNotFoundError
from tests.file_server import Server


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


def zipped(folder: Path, **others: bytes) -> bytes:
    """Pack a folder, and other files given as name=content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder.parent).as_posix())
        for name, content in others.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def archive(drawn_set: Path, tmp_path: Path) -> Path:
    path = tmp_path / "drawn.zip"
    path.write_bytes(zipped(drawn_set, README=b"x"))
    return path


class Trickle(io.RawIOBase):
    """A stream as an upload is one: it cannot be sought, and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 1000) if size >= 0 else 1000)


def left_on(registry: Path) -> list[str]:
    """Return what is on the shelf, but for locks."""
    return sorted(
        path.relative_to(registry).as_posix()
        for path in registry.rglob("*")
        if path.suffix != ".lock" and path.name != ".downloads"
    )


def check_whole(added: Added, drawn_set: Path, registry: Path) -> None:
    assert added.dataset == open_dataset(added.dataset.name, registry)
    assert added.images == 30
    dataset = read_dataset(added.dataset.images)
    original = read_dataset(drawn_set)
    assert list(dataset.images["sha256"]) == list(original.images["sha256"])
    assert not [path for path in registry.iterdir() if path.name.startswith(".adding")]


def test_an_archive_becomes_a_set(archive: Path, drawn_set: Path, registry: Path) -> None:
    told: list[tuple[str, int, int]] = []
    added = add(archive, "drawn", registry=registry, progress=lambda *at: told.append(at))
    check_whole(added, drawn_set, registry)
    assert (added.dataset.kind, added.dataset.source) == ("stored", "drawn.zip")
    assert added.skipped == [("README", "not a picture")]
    assert added.notes == ["Files of the archive that were left out: not a picture (1)."]
    assert {verb for verb, _, _ in told} == {"unpacking"}
    assert archive.is_file()
    content = json.loads((registry / "drawn/set.json").read_text())
    assert (content["n_skipped"], content["skipped"]) == (1, [["README", "not a picture"]])


def test_a_stream_goes_to_the_disk_and_becomes_a_set(
    archive: Path, drawn_set: Path, registry: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    added = add_archive(
        Trickle(archive.read_bytes()), "sent", registry=registry, source_name="their.zip",
        progress=lambda *at: told.append(at),
    )  # fmt: skip
    check_whole(added, drawn_set, registry)
    assert added.dataset.source == "their.zip"
    assert ("uploading", archive.stat().st_size, 0) in told
    assert [path.name for path in (registry / "sent").iterdir() if path.name != "images"] == [
        "set.json"
    ]


def test_a_folder_is_linked(drawn_set: Path, registry: Path) -> None:
    added = add(drawn_set, "there", registry=registry)
    assert (added.dataset.kind, added.images, added.skipped) == ("linked", 0, [])
    assert len(read_dataset(added.dataset.images).images) == 30


def test_images_without_classes_are_taken_with_a_note(
    drawn_set: Path, registry: Path, tmp_path: Path
) -> None:
    data = next(drawn_set.rglob("*.png")).read_bytes()
    path = tmp_path / "patches.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("0/a.png", data)
    assert "its classes must be said" in add(path, "patches", registry=registry).notes[0]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("set/Benign/a.png", data)
    assert add(path, "classes", registry=registry).notes == []


# What leaves nothing behind


def test_a_bad_archive_leaves_nothing(archive: Path, registry: Path) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-500])
    for source in (archive, Trickle(whole[:-500]), Trickle(b"no archive")):
        with pytest.raises(ArchiveError):
            add_archive(source, "drawn", registry=registry)
        assert left_on(registry) == []
    with pytest.raises(ArchiveError, match=r"^The upload is not a zip"):
        add_archive(Trickle(b"no archive"), "drawn", registry=registry)


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("verb", ["uploading", "unpacking"])
def test_whoever_stops_it_leaves_nothing(
    archive: Path, registry: Path, stopped: type[BaseException], verb: str
) -> None:
    def stop(at: str, done: int, total: int) -> None:
        if at == verb:
            raise stopped

    with pytest.raises(stopped):
        add_archive(Trickle(archive.read_bytes()), "drawn", registry=registry, progress=stop)
    assert left_on(registry) == []


def test_an_upload_without_end_is_stopped(
    archive: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_TOTAL_GB", 1e-6)
    with pytest.raises(ArchiveError, match="has more than"):
        add_archive(Trickle(archive.read_bytes()), "drawn", registry=registry)
    assert left_on(registry) == []


def test_a_full_disk_leaves_nothing(
    archive: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "ROOM_TO_LEAVE_MB", 10**9)
    for source in (archive, Trickle(archive.read_bytes())):
        with pytest.raises(DataError, match="make room"):
            add_archive(source, "drawn", registry=registry)
    assert left_on(registry) == []


def test_a_taken_or_bad_name_is_told_before_anything_is_read(archive: Path, registry: Path) -> None:
    add(archive, "drawn", registry=registry)
    before = left_on(registry)

    class Unread(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            pytest.fail("it must not be read")

    for name, said in (("drawn", "is there already"), ("../x", "cannot be the name")):
        with pytest.raises(DataError, match=said):
            add_archive(Unread(), name, registry=registry)
        with pytest.raises(DataError, match=said):
            add_download(name, url="http://127.0.0.1:9/x", registry=registry)
    assert left_on(registry) == before


def test_a_source_that_is_not_there(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match="no folder"):
        add(tmp_path / "gone.zip", "x", registry=registry)
    assert not registry.exists()


# Downloads


def test_a_download_that_breaks_off_becomes_a_set(
    server: Server, drawn_set: Path, registry: Path
) -> None:
    server.content = zipped(drawn_set)
    server.breaks = [1000]
    digest = hashlib.sha256(server.content).hexdigest()
    told: list[tuple[str, int, int]] = []
    added = add_download(
        "drawn",
        url=server.url,
        sha256=digest,
        registry=registry,
        progress=lambda *at: told.append(at),
    )
    check_whole(added, drawn_set, registry)
    assert (added.dataset.source, added.dataset.details["sha256"]) == (server.url, digest)
    assert added.notes[0] == "This is not the whole of BreakHis as published."
    assert "The dataset contains 15 benign images at 200X. BreakHis contains 623." in added.notes
    assert [verb for i, (verb, *_) in enumerate(told) if verb != told[i - 1][0]] == [
        "downloading", "unpacking",
    ]  # fmt: skip
    assert not [name for name in left_on(registry) if name.startswith(".")]


def test_a_download_given_up_is_gone_on_with_and_leaves_no_set(
    server: Server, drawn_set: Path, registry: Path
) -> None:
    server.content = zipped(drawn_set)
    server.breaks, server.codes = [1000], [200, 404]
    with pytest.raises(DownloadError):
        add_download("drawn", url=server.url, registry=registry)
    assert list_datasets(registry) == ([], [])
    check_whole(add_download("drawn", url=server.url, registry=registry), drawn_set, registry)
    assert server.asked[-1]["Range"] == "bytes=1000-"


def test_a_wrong_hash_leaves_no_set_and_deletes_nothing_good(
    server: Server, archive: Path, drawn_set: Path, registry: Path
) -> None:
    add(archive, "good", registry=registry)
    before = left_on(registry)
    server.content = zipped(drawn_set)
    with pytest.raises(DownloadError, match="brought other bytes"):
        add_download("drawn", url=server.url, sha256="0" * 64, registry=registry)
    assert [name for name in left_on(registry) if not name.startswith(".downloads")] == before
    (part,) = (registry / ".downloads").glob("*.part")
    assert part.read_bytes() == server.content
    # Without the wrong pin nothing is brought again.
    add_download("drawn", url=server.url, registry=registry)
    assert server.asked[-1]["Range"] == f"bytes={len(server.content)}-"


def test_a_pin_that_is_none_is_told_before_anything_is_asked(
    server: Server, registry: Path
) -> None:
    with pytest.raises(DownloadError, match="64 hexadecimal digits"):
        add_download("drawn", url=server.url, sha256="123", registry=registry)
    assert server.asked == []
    assert not registry.exists()


def test_a_download_that_is_no_archive_is_forgotten(server: Server, registry: Path) -> None:
    server.content = b"<html>Not found</html>"
    with pytest.raises(ArchiveError, match=r"^set\.tar\.gz is not a zip or tar\.gz archive"):
        add_download("drawn", url=server.url, registry=registry)
    assert left_on(registry) == []


def test_a_download_that_cannot_be_unpacked_for_now_is_kept(
    server: Server, drawn_set: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = zipped(drawn_set)

    def full(*_: object) -> None:
        raise DataError("make room")

    monkeypatch.setattr("bc_model.data.archives.require_room", full)
    with pytest.raises(DataError, match="make room"):
        add_download("drawn", url=server.url, registry=registry)
    assert list_datasets(registry) == ([], [])
    assert len(list((registry / ".downloads").glob("*.part"))) == 1


def test_all_of_breakhis_is_told_in_one_sentence(
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
        "The pictures are as many as BreakHis has, in each class and magnification."
    ]
