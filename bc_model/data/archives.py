"""Extraction of images from zip and tar.gz archives that are not trusted.

An archive is read once, from start to end, through one interface for both formats. Every path,
type and size is checked, and the first violation refuses the archive.
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
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO

from bc_model.data.breakhis import IMAGE_SUFFIXES
from bc_model.data.image_headers import MAX_FILE_MB
from bc_model.errors import ArchiveError, DataError

MAX_ENTRIES = 100_000
MAX_DIRECTORY_MB = 16
"""Limit of the directory of a zip archive, which is read at once."""
MAX_TOTAL_GB = 20
MAX_RATIO = 100
"""Limit of unpacked to packed bytes. Images are compressed: BreakHis has a ratio of 1.0."""
RATIO_FLOOR_MB = 64
"""Below this size, the ratio is not limited, because blank TIFF files compress well."""
MIN_FREE_MB = 500
CHUNK = 2**20

_MAX_READ = 4 * CHUNK
_MAX_PATH_LENGTH = 400
_MAX_NAME_BYTES = 255
_INVALID_CHARACTERS = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]')
_ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of PNG, JPEG, and TIFF and BigTIFF in both byte orders."""
_DAMAGE_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, ValueError,
    OverflowError, NotImplementedError, RuntimeError, LookupError,
)  # fmt: skip
"""Errors of the standard library for damaged archives."""


@dataclass(frozen=True)
class Entry:
    """One file of an archive. `chunks` iterates over its bytes, before the next entry is read."""

    path: PurePosixPath
    size: int
    chunks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Archive:
    """An open archive; sizes in bytes, and `unpacked_size` is None if it is not declared."""

    name: str
    size: int
    unpacked_size: int | None
    entries: Iterator[Entry]
    count_read: Callable[[], int]


@dataclass(frozen=True)
class Unpacked:
    """Paths of the unpacked images, and path and reason of each skipped file.

    Reasons: 'hidden', 'nested archive', 'not an image', 'too large' and 'invalid content'.
    """

    images: list[str]
    skipped: list[tuple[str, str]]


@contextmanager
def open_archive(path: Path, name: str) -> Iterator[Archive]:
    """Open a zip or tar.gz archive. The format is detected from the first bytes.

    `name` is used in messages. A damaged or unsafe archive raises `ArchiveError`, also while the
    entries are read.
    """
    size = path.stat().st_size
    with _LimitedReader(io.FileIO(path), name) as raw:
        start = raw.read(4)
        raw.seek(0)
        if start in (b"PK\x03\x04", b"PK\x05\x06"):
            yield _open_zip(raw, name, size)
        elif start[:2] == b"\x1f\x8b":
            yield _open_tar(raw, name, size)
        else:
            raise ArchiveError(
                f"{name} is not a zip or tar.gz archive. Pack the folder of images again."
            )


def unpack(
    archive: Archive, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> Unpacked:
    """Write the images of an archive into a new folder.

    `progress` is called with the bytes read and the size of the archive. Raises `ArchiveError`, or
    `DataError` if the disk is full; then the caller deletes the folder.
    """
    require_free_space(folder.parent, archive.unpacked_size or archive.size, "Unpacking")
    folder.mkdir()
    registered = _PathRegistry(archive.name)
    unpacked = Unpacked([], [])
    total = 0
    for entry in archive.entries:
        registered.add(entry.path)
        reason = _find_skip_reason(entry.path, entry.size)
        if not reason:
            size = _write_image(archive, entry, folder / entry.path, total)
            total += size
            reason = "" if size else "invalid content"
        if reason:
            unpacked.skipped.append((str(entry.path), reason))
        else:
            unpacked.images.append(str(entry.path))
        if progress:
            progress(archive.count_read(), archive.size)
    if not unpacked.images:
        n_nested = sum(reason == "nested archive" for _, reason in unpacked.skipped)
        hint = f" Unpack the nested archives ({n_nested}) first." if n_nested else ""
        raise ArchiveError(
            f"{archive.name} contains no images. Expected PNG, JPEG or TIFF files, got "
            f"{len(unpacked.skipped)} other files.{hint}"
        )
    return unpacked


def require_free_space(folder: Path, size_bytes: int, action: str) -> None:
    """Raise `DataError` unless the disk has space for the given size and `MIN_FREE_MB`."""
    free = shutil.disk_usage(folder).free
    needed = size_bytes + MIN_FREE_MB * 10**6
    if free < needed:
        raise DataError(
            f"{action} needs {needed / 1e9:.1f} GB in {folder}, but only {free / 1e9:.1f} GB are "
            "free. Free disk space, or set BC_DATASETS to another folder."
        )


def _find_skip_reason(path: PurePosixPath, size_bytes: int) -> str:
    """Return why a file is skipped, or '' if it may be an image."""
    suffix = path.suffix.lower()
    if "__MACOSX" in path.parts or any(part.startswith(".") for part in path.parts):
        return "hidden"
    if suffix in _ARCHIVE_SUFFIXES:
        return "nested archive"
    if suffix not in IMAGE_SUFFIXES:
        return "not an image"
    return "too large" if size_bytes > MAX_FILE_MB * 2**20 else ""


def _write_image(archive: Archive, entry: Entry, target: Path, total: int) -> int:
    """Write one image and return its size; return 0 without writing if it is not an image."""
    size = 0
    chunks = entry.chunks()
    first = next(chunks, b"")
    if not first.startswith(_IMAGE_SIGNATURES):
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for chunk in chain([first], chunks):
            size += len(chunk)
            _require_ratio(archive.name, total + size, archive.size)
            file.write(chunk)
    return size


class _PathRegistry:
    """The paths of an archive, compared without case and Unicode form, as on some systems."""

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, path: PurePosixPath) -> None:
        """Add the path of a file; refuse a path that another file or folder has."""
        key, *parents = (
            unicodedata.normalize("NFC", str(part)).casefold() for part in (path, *path.parents)
        )
        if key in self._files or key in self._folders or self._files.intersection(parents):
            raise ArchiveError(
                f"{self._archive} contains {path} twice. Nothing was imported. Pack the folder "
                "again."
            )
        if len(self._files) == MAX_ENTRIES:
            raise _too_many_files(self._archive)
        self._files.add(key)
        self._folders.update(parents)


class _LimitedReader(io.BufferedReader):
    """An archive file that refuses the size of read that only a huge zip directory needs."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        super().__init__(file)
        self._archive = name

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes."""
        if size is not None and size > MAX_DIRECTORY_MB * 2**20:
            raise _too_many_files(self._archive)
        return super().read(size)


class _LimitedStream:
    """A forward-only stream of unpacked bytes that limits their number, also in skipped files."""

    def __init__(self, stream: gzip.GzipFile, name: str, packed_bytes: int) -> None:
        self._stream = stream
        self._name = name
        self._packed_bytes = packed_bytes
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        if not 0 <= size <= _MAX_READ:  # A header that declares a name of gigabytes.
            raise _damaged(self._name)
        data = self._stream.read(size)
        self._position += len(data)
        _require_ratio(self._name, self._position, self._packed_bytes)
        return data

    def seek(self, target: int) -> None:
        """Read forward to a position."""
        if target < self._position:
            raise io.UnsupportedOperation("The stream cannot seek backward.")
        while self._position < target:
            if not self.read(min(CHUNK, target - self._position)):
                raise EOFError

    def tell(self) -> int:
        """Return the position, bytes."""
        return self._position


def _open_zip(raw: IO[bytes], name: str, size: int) -> Archive:
    with _damage_as_archive_error(name):
        file = zipfile.ZipFile(raw)
        infos = file.infolist()
    if len(infos) > MAX_ENTRIES:
        raise _too_many_files(name)
    consumed = 0

    def entries() -> Iterator[Entry]:
        nonlocal consumed
        for info in infos:
            # `filename` ends at a null byte, and on Windows has its backslashes replaced.
            path = _check_path(name, info.orig_filename)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_plain_file(name, path)
            if info.flag_bits & 1:
                raise ArchiveError(f"{name} is encrypted. Pack the folder without a password.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(
                    f"{name} uses an unsupported compression for {path}. Expected stored or "
                    "deflated files. Pack the folder again as a plain zip archive."
                )
            if not info.is_dir():
                chunks = partial(_read_chunks, name, partial(file.open, info))
                yield Entry(PurePosixPath(path), info.file_size, chunks)
            consumed += info.compress_size

    unpacked_size = sum(
        info.file_size
        for info in infos
        if not _find_skip_reason(PurePosixPath(info.filename), info.file_size)
    )
    _require_ratio(name, unpacked_size, size)
    return Archive(name, size, unpacked_size, entries(), lambda: consumed)


def _open_tar(raw: IO[bytes], name: str, size: int) -> Archive:
    stream = _LimitedStream(gzip.GzipFile(fileobj=raw), name, size)

    def entries() -> Iterator[Entry]:
        with _damage_as_archive_error(name):
            file = tarfile.TarFile(fileobj=stream, mode="r")  # type: ignore[arg-type]
            for count, info in enumerate(file, start=1):
                file.members = []  # type: ignore[attr-defined]  # Headers may be large.
                if count > MAX_ENTRIES:
                    raise _too_many_files(name)
                path = _check_path(name, info.name)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise _not_a_plain_file(name, path)
                chunks = partial(_read_chunks, name, partial(file.extractfile, info))
                yield Entry(PurePosixPath(path), info.size, chunks)
            # A damaged header ends a tar file silently, and the checksum comes at the end.
            while chunk := stream.read(CHUNK):
                if chunk.strip(b"\0"):
                    raise _damaged(name)

    return Archive(name, size, None, entries(), raw.tell)


def _read_chunks(name: str, open_file: Callable[[], IO[bytes] | None]) -> Iterator[bytes]:
    with _damage_as_archive_error(name):
        file = open_file()
        while file and (chunk := file.read(CHUNK)):
            yield chunk


@contextmanager
def _damage_as_archive_error(archive: str) -> Iterator[None]:
    """Turn errors of the standard library for a damaged archive into `ArchiveError`."""
    try:
        yield
    except DataError:
        raise
    except _DAMAGE_ERRORS as error:
        raise _damaged(archive) from error
    except OSError as error:
        # Errors of the disk are raised; a seek before the start of the file means damage.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(archive) from error


def _check_path(archive: str, name: str) -> str:
    """Return the path of an entry, '' for the top folder, if it is valid on every system."""
    parts = [part for part in name.removesuffix("/").split("/") if part != "."]
    if (
        ".." in parts
        or "" in parts
        or len(name) > _MAX_PATH_LENGTH
        or any(
            len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES
            or part.endswith((" ", "."))
            for part in parts
        )
        or _INVALID_CHARACTERS.search(name)
    ):
        raise ArchiveError(
            f"{archive} contains the unsafe path {name[:80]!a}. Expected a path inside the archive "
            "that is valid on every system. Nothing was imported. Pack the folder again."
        )
    return "/".join(parts)


def _require_ratio(archive: str, unpacked_bytes: int, packed_bytes: int) -> None:
    """Refuse an archive that unpacks to far more bytes than a dataset would."""
    is_large = unpacked_bytes > RATIO_FLOOR_MB * 2**20
    exceeds_ratio = is_large and unpacked_bytes > MAX_RATIO * packed_bytes
    if exceeds_ratio or unpacked_bytes > MAX_TOTAL_GB * 1e9:
        raise ArchiveError(
            f"{archive} unpacks to too many bytes. Expected at most {MAX_RATIO} times its size, "
            f"and at most {MAX_TOTAL_GB} GB. Nothing was imported. Pack the images only."
        )


def _damaged(archive: str) -> ArchiveError:
    return ArchiveError(f"{archive} is damaged or incomplete. Copy or download it again.")


def _too_many_files(archive: str) -> ArchiveError:
    return ArchiveError(
        f"{archive} has too many files. Expected at most {MAX_ENTRIES:,} files and a directory of "
        f"at most {MAX_DIRECTORY_MB} MB. Pack the images only."
    )


def _not_a_plain_file(archive: str, path: str) -> ArchiveError:
    return ArchiveError(
        f"{archive} contains {path}, which is a link or device. Nothing was imported. Pack plain "
        "files only."
    )
