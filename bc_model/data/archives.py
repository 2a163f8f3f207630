"""Zip and tar.gz archives, read as one stream of files whose paths have been checked.

`bc_model.data.unpack` writes what they hold. Nothing here writes, or follows a link.
"""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bc_model.data import archive_guards
from bc_model.data.archive_guards import (
    checked_path,
    damaged,
    no_plain_file,
    reading,
    require_no_bomb,
    too_many,
    why_not,
)
from bc_model.errors import ArchiveError

CHUNK = 2**20
_MAX_READ = 4 * CHUNK


@dataclass(frozen=True)
class Entry:
    """One file of an archive.

    Attributes
    ----------
    path : PurePosixPath
        Relative, checked.
    size : int
        Bytes, as declared.
    chunks : callable
        Returns an iterator over the bytes; to be used before the next entry is asked for.
    """

    path: PurePosixPath
    size: int
    chunks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Archive:
    """An open archive.

    Attributes
    ----------
    name : str
        What to call it in a message.
    size : int
        Bytes of the archive itself.
    unpacked_size : int or None
        Declared for all pictures together; None where only reading to the end would tell.
    entries : iterator of Entry
        Files only, in the archive's order.
    consumed : callable
        Returns how many bytes of the archive have been read.
    """

    name: str
    size: int
    unpacked_size: int | None
    entries: Iterator[Entry]
    consumed: Callable[[], int]


@contextmanager
def open_archive(path: Path, name: str) -> Iterator[Archive]:
    """Open a zip or tar.gz file, whichever its first bytes say it is.

    Parameters
    ----------
    path : Path
    name : str
        What to call it in a message.

    Raises
    ------
    ArchiveError
        It is neither, is damaged, or holds what `bc_model.data.archive_guards` refuses. Raised
        also while entries are read.
    """
    size = path.stat().st_size
    with _Raw(io.FileIO(path), name) as raw:
        start = raw.read(4)
        raw.seek(0)
        if start in (b"PK\x03\x04", b"PK\x05\x06"):
            yield _open_zip(raw, name, size)
        elif start[:2] == b"\x1f\x8b":
            yield _open_tar(raw, name, size)
        else:
            raise ArchiveError(
                f"{name} is not a zip or tar.gz archive, whatever its name says; pack the folder "
                "of pictures again."
            )


def _open_zip(raw: IO[bytes], name: str, size: int) -> Archive:
    with reading(name):
        file = zipfile.ZipFile(raw)
        infos = file.infolist()
    if len(infos) > archive_guards.MAX_ENTRIES:
        raise too_many(name)
    done = 0

    def entries() -> Iterator[Entry]:
        nonlocal done
        for info in infos:
            # `filename` was cut at a null byte, and on Windows had its backslashes turned.
            path = checked_path(name, info.orig_filename)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise no_plain_file(name, path)
            if info.flag_bits & 1:
                raise ArchiveError(f"{name} is encrypted; pack the folder without a password.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(
                    f"{name} packs {path} by a method that is not read here; pack the folder "
                    "again as a plain zip."
                )
            if not info.is_dir():
                yield Entry(PurePosixPath(path), info.file_size, _zip_chunks(file, info, name))
            done += info.compress_size

    unpacked = sum(
        info.file_size
        for info in infos
        if not why_not(PurePosixPath(info.filename), info.file_size)
    )
    require_no_bomb(name, unpacked, size)
    return Archive(name, size, unpacked, entries(), lambda: done)


def _zip_chunks(
    file: zipfile.ZipFile, info: zipfile.ZipInfo, name: str
) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        with reading(name), file.open(info) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    return chunks


def _open_tar(raw: IO[bytes], name: str, size: int) -> Archive:
    stream = _Bounded(gzip.GzipFile(fileobj=raw), name, size)

    def entries() -> Iterator[Entry]:
        with reading(name):
            file = tarfile.TarFile(fileobj=stream, mode="r")  # type: ignore[arg-type]
            for count, info in enumerate(file, start=1):
                # It would keep every header, and they may be large.
                file.members = []  # type: ignore[attr-defined]
                if count > archive_guards.MAX_ENTRIES:
                    raise too_many(name)
                path = checked_path(name, info.name)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise no_plain_file(name, path)
                yield Entry(PurePosixPath(path), info.size, _tar_chunks(file, info, name))
            # A damaged header ends a tar file without a word, and the checksum comes last of all.
            while chunk := stream.read(CHUNK):
                if chunk.strip(b"\0"):
                    raise damaged(name)

    return Archive(name, size, None, entries(), raw.tell)


def _tar_chunks(
    file: tarfile.TarFile, info: tarfile.TarInfo, name: str
) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        with reading(name):
            stream = file.extractfile(info)
            while stream and (chunk := stream.read(CHUNK)):
                yield chunk

    return chunks


class _Raw(io.BufferedReader):
    """An archive's own bytes; of a zip, not so many at once as only an endless directory has."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        super().__init__(file)
        self._archive = name

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes, fewer at the end."""
        if size is not None and size > archive_guards.MAX_DIRECTORY_MB * 2**20:
            raise too_many(self._archive)
        return super().read(size)


class _Bounded:
    """A stream that is read forwards only and stops a bomb, also in what is skipped."""

    def __init__(self, stream: gzip.GzipFile, name: str, packed_bytes: int) -> None:
        self._stream = stream
        self._name = name
        self._packed_bytes = packed_bytes
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, fewer at the end."""
        if not 0 <= size <= _MAX_READ:  # a header that declares gigabytes of name
            raise damaged(self._name)
        data = self._stream.read(size)
        self._at += len(data)
        require_no_bomb(self._name, self._at, self._packed_bytes)
        return data

    def seek(self, target: int) -> None:
        """Read on to a place that lies ahead."""
        if target < self._at:
            raise io.UnsupportedOperation("this stream is read forwards")
        while self._at < target:
            if not self.read(min(CHUNK, target - self._at)):
                raise EOFError

    def tell(self) -> int:
        """Return the place, bytes from the start."""
        return self._at
