"""Whole or not there: what a second process sees while a file is replaced."""

import threading
from pathlib import Path

import pytest

from bc_model.utils import io as files
from bc_model.utils.io import require_place, write_bytes_atomic, write_text_atomic, write_together


def test_writes_the_bytes_and_leaves_nothing_beside_them(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_bytes_atomic(target, b"\x00\r\n\xff")
    assert target.read_bytes() == b"\x00\r\n\xff"
    assert list(tmp_path.iterdir()) == [target]


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text_atomic(str(tmp_path / "a.txt"), "µm\nend\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc2\xb5m\nend\n"


def test_replaces_an_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text_atomic(target, "a longer text than the next")
    write_text_atomic(target, "new")
    assert target.read_text() == "new"


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250 + ".txt")
    write_text_atomic(target, "x")
    assert target.read_text() == "x"


def test_the_old_file_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_belong_together_are_replaced_together_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "a/1.txt", tmp_path / "b/2.txt"
    first.parent.mkdir()
    first.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_together({first: b"new", second: b"new"})
    assert first.read_text() == "old"
    assert list(first.parent.iterdir()) == [first]
    second.parent.mkdir()
    write_together({first: b"new", second: b"newer"})
    assert (first.read_text(), second.read_text()) == ("new", "newer")


def test_a_folder_in_the_way_is_an_error_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"):
        write_text_atomic(tmp_path / "a", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text_atomic(tmp_path / "no" / "a.txt", "x")


def test_the_file_has_the_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_text_atomic(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_reader_sees_one_whole_text_while_writers_race(tmp_path: Path) -> None:
    target = tmp_path / "status.json"
    texts = ["a" * 50_000, "b" * 50_000]
    write_text_atomic(target, texts[0])

    def write(text: str) -> None:
        for _ in range(30):
            write_text_atomic(target, text)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert target.read_text() in texts
    for writer in writers:
        writer.join()
    assert list(tmp_path.iterdir()) == [target]


def test_a_lost_race_on_windows_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Busy:
        def replace(self, target: Path) -> None:
            calls.append(target)
            if len(calls) < 3:
                raise PermissionError(13, "in use")

    monkeypatch.setattr(files.os, "name", "nt")
    monkeypatch.setattr(files, "_REPLACE_WAIT_S", 0.0)
    files._replace(Busy(), tmp_path)  # type: ignore[arg-type]
    assert len(calls) == 3


def test_no_permission_elsewhere_is_not_tried_again(tmp_path: Path) -> None:
    calls = []

    class Refused:
        def replace(self, target: Path) -> None:
            calls.append(target)
            raise PermissionError(13, "not yours")

    if files.os.name == "nt":
        pytest.skip("Windows retries")
    with pytest.raises(PermissionError):
        files._replace(Refused(), tmp_path)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_a_place_that_nothing_could_be_written_to_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_place(tmp_path)
    require_place(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            require_place(place)
    with monkeypatch.context() as patch:  # a drive that is not there has no folder above it
        patch.setattr(Path, "exists", lambda _: False)
        with pytest.raises(FileNotFoundError):
            require_place(tmp_path / "a")
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever runs the tests may write anywhere
    with pytest.raises(PermissionError):
        require_place(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
