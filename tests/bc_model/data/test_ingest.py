"""New data sets, from an archive, a stream, a download or a folder: whole on the shelf or not."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from bc_model.data import archives as archive_guards
from bc_model.data import ingest as intake
from bc_model.data.dataset import read_manifest
from bc_model.data.ingest import Added, add, add_archive, add_download
from bc_model.data.registry import list_sets, open_set
from bc_model.errors import ArchiveError, DataError, DownloadError, FolderNotFound
from tests.file_server import Server


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
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


def left_on(shelf: Path) -> list[str]:
    """Return what is on the shelf, but for locks."""
    return sorted(
        path.relative_to(shelf).as_posix()
        for path in shelf.rglob("*")
        if path.suffix != ".lock" and path.name != ".downloads"
    )


def check_whole(added: Added, drawn_set: Path, shelf: Path) -> None:
    assert added.data_set == open_set(added.data_set.name, shelf)
    assert added.pictures == 30
    manifest = read_manifest(added.data_set.pictures)
    original = read_manifest(drawn_set)
    assert list(manifest.pictures["sha256"]) == list(original.pictures["sha256"])
    assert not [path for path in shelf.iterdir() if path.name.startswith(".adding")]


def test_an_archive_becomes_a_set(archive: Path, drawn_set: Path, shelf: Path) -> None:
    told: list[tuple[str, int, int]] = []
    added = add(archive, "drawn", shelf=shelf, progress=lambda *at: told.append(at))
    check_whole(added, drawn_set, shelf)
    assert (added.data_set.kind, added.data_set.source) == ("stored", "drawn.zip")
    assert added.skipped == [("README", "not a picture")]
    assert added.notes == ["Files of the archive that were left out: not a picture (1)."]
    assert {verb for verb, _, _ in told} == {"unpacking"}
    assert archive.is_file()
    content = json.loads((shelf / "drawn/set.json").read_text())
    assert (content["n_skipped"], content["skipped"]) == (1, [["README", "not a picture"]])


def test_a_stream_goes_to_the_disk_and_becomes_a_set(
    archive: Path, drawn_set: Path, shelf: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    added = add_archive(
        Trickle(archive.read_bytes()), "sent", shelf=shelf, source_name="their.zip",
        progress=lambda *at: told.append(at),
    )  # fmt: skip
    check_whole(added, drawn_set, shelf)
    assert added.data_set.source == "their.zip"
    assert ("uploading", archive.stat().st_size, 0) in told
    assert [path.name for path in (shelf / "sent").iterdir() if path.name != "pictures"] == [
        "set.json"
    ]


def test_a_folder_is_linked(drawn_set: Path, shelf: Path) -> None:
    added = add(drawn_set, "there", shelf=shelf)
    assert (added.data_set.kind, added.pictures, added.skipped) == ("linked", 0, [])
    assert len(read_manifest(added.data_set.pictures).pictures) == 30


def test_pictures_without_classes_are_taken_with_a_note(
    drawn_set: Path, shelf: Path, tmp_path: Path
) -> None:
    data = next(drawn_set.rglob("*.png")).read_bytes()
    path = tmp_path / "patches.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("0/a.png", data)
    assert "its classes must be said" in add(path, "patches", shelf=shelf).notes[0]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("set/Benign/a.png", data)
    assert add(path, "classes", shelf=shelf).notes == []


# What leaves nothing behind


def test_a_bad_archive_leaves_nothing(archive: Path, shelf: Path) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-500])
    for source in (archive, Trickle(whole[:-500]), Trickle(b"no archive")):
        with pytest.raises(ArchiveError):
            add_archive(source, "drawn", shelf=shelf)
        assert left_on(shelf) == []
    with pytest.raises(ArchiveError, match=r"^The upload is not a zip"):
        add_archive(Trickle(b"no archive"), "drawn", shelf=shelf)


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("verb", ["uploading", "unpacking"])
def test_whoever_stops_it_leaves_nothing(
    archive: Path, shelf: Path, stopped: type[BaseException], verb: str
) -> None:
    def stop(at: str, done: int, total: int) -> None:
        if at == verb:
            raise stopped

    with pytest.raises(stopped):
        add_archive(Trickle(archive.read_bytes()), "drawn", shelf=shelf, progress=stop)
    assert left_on(shelf) == []


def test_an_upload_without_end_is_stopped(
    archive: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_TOTAL_GB", 1e-6)
    with pytest.raises(ArchiveError, match="has more than"):
        add_archive(Trickle(archive.read_bytes()), "drawn", shelf=shelf)
    assert left_on(shelf) == []


def test_a_full_disk_leaves_nothing(
    archive: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_guards, "ROOM_TO_LEAVE_MB", 10**9)
    for source in (archive, Trickle(archive.read_bytes())):
        with pytest.raises(DataError, match="make room"):
            add_archive(source, "drawn", shelf=shelf)
    assert left_on(shelf) == []


def test_a_taken_or_bad_name_is_told_before_anything_is_read(archive: Path, shelf: Path) -> None:
    add(archive, "drawn", shelf=shelf)
    before = left_on(shelf)

    class Unread(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            pytest.fail("it must not be read")

    for name, said in (("drawn", "is there already"), ("../x", "cannot be the name")):
        with pytest.raises(DataError, match=said):
            add_archive(Unread(), name, shelf=shelf)
        with pytest.raises(DataError, match=said):
            add_download(name, url="http://127.0.0.1:9/x", shelf=shelf)
    assert left_on(shelf) == before


def test_a_source_that_is_not_there(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderNotFound, match="no folder"):
        add(tmp_path / "gone.zip", "x", shelf=shelf)
    assert not shelf.exists()


# Downloads


def test_a_download_that_breaks_off_becomes_a_set(
    server: Server, drawn_set: Path, shelf: Path
) -> None:
    server.content = zipped(drawn_set)
    server.breaks = [1000]
    digest = hashlib.sha256(server.content).hexdigest()
    told: list[tuple[str, int, int]] = []
    added = add_download(
        "drawn", url=server.url, sha256=digest, shelf=shelf, progress=lambda *at: told.append(at)
    )
    check_whole(added, drawn_set, shelf)
    assert (added.data_set.source, added.data_set.details["sha256"]) == (server.url, digest)
    assert added.notes[0] == "This is not the whole of BreakHis as published."
    assert "The dataset contains 15 benign images at 200X. BreakHis contains 623." in added.notes
    assert [verb for i, (verb, *_) in enumerate(told) if verb != told[i - 1][0]] == [
        "downloading", "unpacking",
    ]  # fmt: skip
    assert not [name for name in left_on(shelf) if name.startswith(".")]


def test_a_download_given_up_is_gone_on_with_and_leaves_no_set(
    server: Server, drawn_set: Path, shelf: Path
) -> None:
    server.content = zipped(drawn_set)
    server.breaks, server.codes = [1000], [200, 404]
    with pytest.raises(DownloadError):
        add_download("drawn", url=server.url, shelf=shelf)
    assert list_sets(shelf) == ([], [])
    check_whole(add_download("drawn", url=server.url, shelf=shelf), drawn_set, shelf)
    assert server.asked[-1]["Range"] == "bytes=1000-"


def test_a_wrong_hash_leaves_no_set_and_deletes_nothing_good(
    server: Server, archive: Path, drawn_set: Path, shelf: Path
) -> None:
    add(archive, "good", shelf=shelf)
    before = left_on(shelf)
    server.content = zipped(drawn_set)
    with pytest.raises(DownloadError, match="brought other bytes"):
        add_download("drawn", url=server.url, sha256="0" * 64, shelf=shelf)
    assert [name for name in left_on(shelf) if not name.startswith(".downloads")] == before
    (part,) = (shelf / ".downloads").glob("*.part")
    assert part.read_bytes() == server.content
    # Without the wrong pin nothing is brought again.
    add_download("drawn", url=server.url, shelf=shelf)
    assert server.asked[-1]["Range"] == f"bytes={len(server.content)}-"


def test_a_pin_that_is_none_is_told_before_anything_is_asked(server: Server, shelf: Path) -> None:
    with pytest.raises(DownloadError, match="64 hexadecimal digits"):
        add_download("drawn", url=server.url, sha256="123", shelf=shelf)
    assert server.asked == []
    assert not shelf.exists()


def test_a_download_that_is_no_archive_is_forgotten(server: Server, shelf: Path) -> None:
    server.content = b"<html>Not found</html>"
    with pytest.raises(ArchiveError, match=r"^set\.tar\.gz is not a zip or tar\.gz archive"):
        add_download("drawn", url=server.url, shelf=shelf)
    assert left_on(shelf) == []


def test_a_download_that_cannot_be_unpacked_for_now_is_kept(
    server: Server, drawn_set: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = zipped(drawn_set)

    def full(*_: object) -> None:
        raise DataError("make room")

    monkeypatch.setattr("bc_model.data.archives.require_room", full)
    with pytest.raises(DataError, match="make room"):
        add_download("drawn", url=server.url, shelf=shelf)
    assert list_sets(shelf) == ([], [])
    assert len(list((shelf / ".downloads").glob("*.part"))) == 1


def test_all_of_breakhis_is_told_in_one_sentence(
    server: Server, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bc_model.data.summary.OFFICIAL_COUNTS", {40: (1, 0), 100: (0, 1), 200: (0, 0), 400: (0, 0)}
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("SOB_B_A-14-1-40-001.png", "SOB_M_DC-14-2-100-001.png"):
            file.writestr(name, b"\x89PNG\r\n\x1a\n")
    server.content = buffer.getvalue()
    assert add_download("all", url=server.url, shelf=shelf).notes == [
        "The pictures are as many as BreakHis has, in each class and magnification."
    ]
