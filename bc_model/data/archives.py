"""Zip and tar.gz archives, read as one stream of files whose paths have been checked.

`bc_model.data.archives` writes what they hold. Nothing here writes, or follows a link.
"""

import errno
import gzip
import io
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO

from bc_model.data.breakhis import IMAGE_SUFFIXES
from bc_model.data.images import MAX_FILE_MB
from bc_model.errors import ArchiveError, DataError

MAX_ENTRIES = 100_000
MAX_DIRECTORY_MB = 16
"""Of a zip, where each entry has 46 bytes and its name; it is read in one go."""
MAX_TOTAL_GB = 20
MAX_RATIO = 100
"""Unpacked to packed bytes; pictures are packed already, BreakHis has 1.0."""
RATIO_FLOOR_MB = 64
"""So much may come out of any archive: a few blank TIFFs are no bomb."""
ROOM_TO_LEAVE_MB = 500

_MAX_NAME = 400
_MAX_PART_BYTES = 255
_BAD_CHARACTERS = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]')
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, ValueError,
    OverflowError, NotImplementedError, RuntimeError, LookupError,
)  # fmt: skip
"""What the standard library raises for archives that are cut short, damaged or made by hand."""


@contextmanager
def reading(archive: str) -> Iterator[None]:
    """Turn what the standard library says of a damaged archive into a sentence."""
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        raise damaged(archive) from error
    except OSError as error:
        # The disk's own words pass; a place before the start of the file is the archive's fault.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise damaged(archive) from error


def checked_path(archive: str, name: str) -> str:
    """Return an entry's path, '' for the top folder, when it stays inside on every system.

    Raises
    ------
    ArchiveError
        It leads out, or some system cannot write it.
    """
    inner = name.removesuffix("/")
    parts = [part for part in inner.split("/") if part != "."]
    if (
        ".." in parts
        or "" in parts
        or len(name) > _MAX_NAME
        or any(
            len(part.encode("utf-8", "surrogatepass")) > _MAX_PART_BYTES
            or part.endswith((" ", "."))
            for part in parts
        )
        or _BAD_CHARACTERS.search(name)
    ):
        raise ArchiveError(
            f"{archive} holds the path {name[:80]!a}, which leads out of its folder or is no path "
            "on every system; nothing was taken from it."
        )
    return "/".join(parts)


class Names:
    """The names met so far in an archive, as the least careful system would tell them apart."""

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, path: PurePosixPath) -> None:
        """Take a file's path, and refuse one that another file or folder has."""
        key, *above = (
            unicodedata.normalize("NFC", str(part)).casefold() for part in (path, *path.parents)
        )
        if key in self._files or key in self._folders or self._files.intersection(above):
            raise ArchiveError(
                f"{self._archive} holds {path} twice; nothing was taken from it. "
                "Pack the folder again."
            )
        if len(self._files) == MAX_ENTRIES:
            raise too_many(self._archive)
        self._files.add(key)
        self._folders.update(above)


def why_not(path: PurePosixPath, size_bytes: int) -> str:
    """Say why a file is left out; empty when it may be a picture."""
    suffix = path.suffix.lower()
    if "__MACOSX" in path.parts or any(part.startswith(".") for part in path.parts):
        return "hidden"
    if suffix in _ARCHIVES:
        return "archive inside"
    if suffix not in IMAGE_SUFFIXES:
        return "not a picture"
    return "too large" if size_bytes > MAX_FILE_MB * 2**20 else ""


def require_no_bomb(archive: str, unpacked_bytes: int, packed_bytes: int) -> None:
    """Refuse an archive once more has come out of it than can be meant well."""
    much = unpacked_bytes > RATIO_FLOOR_MB * 2**20
    if (much and unpacked_bytes > MAX_RATIO * packed_bytes) or unpacked_bytes > MAX_TOTAL_GB * 1e9:
        raise ArchiveError(
            f"{archive} unpacks to more than {MAX_RATIO} times its size, or more than "
            f"{MAX_TOTAL_GB} GB; nothing was taken from it."
        )


def require_room(folder: Path, size_bytes: int, verb: str) -> None:
    """Raise `DataError` unless a disk has so much room and `ROOM_TO_LEAVE_MB` more."""
    free = shutil.disk_usage(folder).free
    needed = size_bytes + ROOM_TO_LEAVE_MB * 10**6
    if free < needed:
        raise DataError(
            f"{verb} needs {needed / 1e9:.1f} GB in {folder} and the disk has {free / 1e9:.1f} GB "
            "free; make room, or name another folder with BC_DATASETS."
        )


def damaged(archive: str) -> ArchiveError:
    """Return the error for an archive that cannot be read to its end."""
    return ArchiveError(f"{archive} is damaged or cut short; copy or download it again.")


def too_many(archive: str) -> ArchiveError:
    """Return the error for an archive of too many files."""
    return ArchiveError(
        f"{archive} holds more than {MAX_ENTRIES:,} files, or a list of them of more than "
        f"{MAX_DIRECTORY_MB} MB; that is no set of pictures."
    )


def no_plain_file(archive: str, path: str) -> ArchiveError:
    """Return the error for a link, a device or a file with holes."""
    return ArchiveError(
        f"{archive} holds {path}, a link or device; nothing was taken from it. Pack plain files."
    )


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
        It is neither, is damaged, or holds what `bc_model.data.archives` refuses. Raised
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
    if len(infos) > MAX_ENTRIES:
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
                if count > MAX_ENTRIES:
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
        if size is not None and size > MAX_DIRECTORY_MB * 2**20:
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


_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""PNG, JPEG, TIFF and BigTIFF of both byte orders."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Attributes
    ----------
    pictures : list of str
        Paths relative to the folder.
    skipped : list of (str, str)
        Path and reason of each file left out: hidden, archive inside, not a picture, too large,
        not what its name says.
    """

    images: list[str]
    skipped: list[tuple[str, str]]


def unpack(
    archive: Archive, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> Unpacked:
    """Write the pictures of an archive into a new folder.

    Parameters
    ----------
    archive : Archive
    folder : Path
        Made. Whoever calls deletes it when this fails.
    progress : callable, optional
        Called with (bytes of the archive read, bytes in all).

    Returns
    -------
    Unpacked

    Raises
    ------
    ArchiveError
        It is damaged, holds no picture, or is refused as the module says.
    DataError
        The disk has no room.
    """
    require_room(folder.parent, archive.unpacked_size or archive.size, "Unpacking")
    folder.mkdir()
    names = Names(archive.name)
    found = Unpacked([], [])
    written = 0
    for entry in archive.entries:
        names.add(entry.path)
        reason = why_not(entry.path, entry.size)
        if not reason:
            size = _write(archive, entry, folder / entry.path, written)
            written += size
            reason = "" if size else "not what its name says"
        if reason:
            found.skipped.append((str(entry.path), reason))
        else:
            found.images.append(str(entry.path))
        if progress:
            progress(archive.consumed(), archive.size)
    if not found.images:
        inside = sum(reason == "archive inside" for _, reason in found.skipped)
        hint = f"; archives inside it ({inside}) are not opened" if inside else ""
        raise ArchiveError(
            f"{archive.name} holds no PNG, JPEG or TIFF picture among {len(found.skipped)} "
            f"files{hint}."
        )
    return found


def _write(archive: Archive, entry: Entry, target: Path, written: int) -> int:
    """Write one picture and return its bytes; 0, and no file, when its content is none."""
    size = 0
    chunks = entry.chunks()
    first = next(chunks, b"")
    if not first.startswith(_SIGNATURES):
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for chunk in chain([first], chunks):
            size += len(chunk)
            require_no_bomb(archive.name, written + size, archive.size)
            file.write(chunk)
    return size
