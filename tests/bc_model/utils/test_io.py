"""Bounded reads of regular files, and atomic writes that another process may read."""

import errno
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from bc_model.errors import FolderNotFoundError
from bc_model.utils import io
from bc_model.utils.io import (
    check_writable,
    open_regular,
    read_bytes,
    read_text,
    write_bytes_atomic,
    write_files_atomic,
    write_text_atomic,
)


def test_write_bytes_atomic_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_bytes_atomic(target, b"\x00\r\n\xff")
    assert target.read_bytes() == b"\x00\r\n\xff"
    assert list(tmp_path.iterdir()) == [target]


def test_write_text_atomic_writes_utf8_and_keeps_line_ends(tmp_path: Path) -> None:
    write_text_atomic(str(tmp_path / "a.txt"), "µm\nend\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc2\xb5m\nend\n"


def test_write_text_atomic_replaces_an_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text_atomic(target, "a longer text than the next")
    write_text_atomic(target, "new")
    assert target.read_text() == "new"


def test_write_text_atomic_accepts_a_long_file_name(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250 + ".txt")
    write_text_atomic(target, "x")
    assert target.read_text() == "x"


def test_write_text_atomic_on_a_full_disk_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_write_files_atomic_with_a_missing_directory_replaces_nothing(tmp_path: Path) -> None:
    first, second = tmp_path / "a/1.txt", tmp_path / "b/2.txt"
    first.parent.mkdir()
    first.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_files_atomic({first: b"new", second: b"new"})
    assert first.read_text() == "old"
    assert list(first.parent.iterdir()) == [first]
    second.parent.mkdir()
    write_files_atomic({first: b"new", second: b"newer"})
    assert (first.read_text(), second.read_text()) == ("new", "newer")


def test_write_text_atomic_on_a_directory_raises_and_leaves_no_temporary_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"):
        write_text_atomic(tmp_path / "a", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_write_text_atomic_in_a_missing_directory_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text_atomic(tmp_path / "no" / "a.txt", "x")


def test_write_text_atomic_sets_default_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_text_atomic(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_write_text_atomic_with_two_writers_never_shows_a_partial_file(tmp_path: Path) -> None:
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


def test_replace_on_windows_tries_again_after_a_permission_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Busy:
        def replace(self, target: Path) -> None:
            calls.append(target)
            if len(calls) < 3:
                raise PermissionError(13, "in use")

    monkeypatch.setattr(io.os, "name", "nt")
    monkeypatch.setattr(io, "_REPLACE_WAIT_S", 0.0)
    io._replace(Busy(), tmp_path)  # type: ignore[arg-type]
    assert len(calls) == 3


def test_replace_on_posix_raises_a_permission_error_at_once(tmp_path: Path) -> None:
    calls = []

    class Refused:
        def replace(self, target: Path) -> None:
            calls.append(target)
            raise PermissionError(13, "denied")

    if io.os.name == "nt":
        pytest.skip("Windows tries again.")
    with pytest.raises(PermissionError):
        io._replace(Refused(), tmp_path)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_check_writable_on_a_file_missing_drive_or_read_only_directory_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            check_writable(path)
    with monkeypatch.context() as patch:  # A missing drive has no parent.
        patch.setattr(Path, "exists", lambda _: False)
        with pytest.raises(FileNotFoundError):
            check_writable(tmp_path / "a")
    monkeypatch.setattr("os.access", lambda *_: False)  # The root user can write anywhere.
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_read_bytes_refuses_more_than_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(1000))
    assert read_bytes(file, 1000) == bytes(1000)
    with pytest.raises(OSError, match="Larger than"):
        read_bytes(file, 999)


def test_read_bytes_allocates_the_size_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(1000))
    tracemalloc.start()
    try:
        assert read_bytes(file, 2**30) == bytes(1000)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stated", [0, 1, 999, 150_000])
def test_read_bytes_of_a_file_that_grows_returns_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: int
) -> None:
    file = tmp_path / "a.bin"
    content = os.urandom(200_000)
    file.write_bytes(content)
    fields = list(file.stat())[:10]
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result([*fields[:6], stated, *fields[7:]]))
    assert read_bytes(file, 200_000) == content
    with pytest.raises(OSError, match="Larger than"):
        read_bytes(file, 199_999)


def test_read_text_unifies_line_ends_and_refuses_other_encodings(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("µm\r\nx\ry\n".encode())
    assert read_text(file) == "µm\nx\ny\n"
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(file)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes in folders")
def test_open_regular_refuses_everything_but_files_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to("/dev/zero")
    for path in (pipe, link, Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"Not a regular file|Is a directory"):
            open_regular(path)


# Errors and names


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EDQUOT, "x", "a"), "The disk quota is used up ('a'). Delete files, or ask"),
        (OSError(errno.EROFS, "x", b"a"), "The disk is read-only ('a'). Choose another folder."),
        (OSError(errno.EISDIR, "Is a directory", "a", None, "b"), "Is a directory ('b')."),
        (OSError(errno.ENOSPC, "x"), "The disk is full. Free disk space and try again."),
        (OSError("encoder error"), "encoder error."),
        (FolderNotFoundError("There is no folder a."), "There is no folder a."),
        (ValueError("wrong"), "wrong"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_describe_error_names_problem_file_and_remedy(error: Exception, expected: str) -> None:
    assert io.describe_error(error).startswith(expected)


def test_shorten_name_cuts_between_characters() -> None:
    assert io.shorten_name("abc", 3) == "abc"
    assert io.shorten_name("\u75c5\u7406", 5) == "\u75c5"


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "link"])
def test_discard_path_leaves_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "target").mkdir()
    path = tmp_path / "path"
    if kind == "link":
        path.symlink_to("target")
    elif kind == "folder":
        (path / "inner").mkdir(parents=True)
    elif kind == "file":
        path.write_text("x")
    io.discard_path(path)
    assert [one.name for one in tmp_path.iterdir()] == ["target"]
