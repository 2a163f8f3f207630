"""Extraction of images from zip and tar.gz archives that are not trusted.

An archive is read once, from start to end, through one interface for both formats. Every path,
type and size is checked, and the first violation refuses the archive. Tar headers are parsed here,
because the time and memory of `tarfile` for extended headers have no bound.
"""

import errno
import io
import re
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
from bc_model.data.disk_space import require_free_space
from bc_model.data.image_headers import MAX_FILE_MB
from bc_model.errors import ArchiveError, DataError
from bc_model.utils.io import open_regular

MAX_ENTRIES = 100_000
MAX_HEADERS = 3 * MAX_ENTRIES
"""Limit for tar archives, in which further headers contain long names and times of files."""
MAX_DIRECTORY_MB = 16
"""Limit of the directory of a zip archive, which is read at once."""
MAX_TOTAL_GB = 20
MAX_RATIO = 100
"""Limit of unpacked to packed bytes. Images are compressed: BreakHis has a ratio of 1.0."""
RATIO_FLOOR_MB = 64
"""Below this size, the ratio is not limited, because blank TIFF files compress well."""
CHUNK = 2**20

_MAX_EXTENDED_BYTES = CHUNK
_MAX_EXTENDED_RECORDS = 64
"""Limits of an extended tar header, which contains a long name, times and attributes."""
_MAX_GZIP_MEMBERS = 1000
_GZIP_CHUNK = 2**15
_BLOCK = tarfile.BLOCKSIZE
_MAX_PATH_LENGTH = 400
_MAX_NAME_BYTES = 255
_INVALID_CHARACTERS = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|\ud800-\udfff]')
_WINDOWS_SYSTEMS = frozenset({0, 10, 14})
"""Zip codes of FAT, NTFS and VFAT. Old programs for Windows write paths with backslashes."""
_COMPRESSIONS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_OTHER_FORMATS = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zX": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"MZ": "a program, such as a self-extracting archive",
}
_REPACK = "Pack the folder with 7-Zip as zip (method Deflate), or as tar.gz."
_ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of PNG, JPEG, and TIFF and BigTIFF in both byte orders."""
_FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EXTENDED_TYPES = (
    tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
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
    """An open archive; sizes in bytes, and `unpacked_size` is None if it is not declared.

    `entries` iterates over the files, with None for each header that is no file, so that a caller
    can stop between headers.
    """

    name: str
    size: int
    unpacked_size: int | None
    entries: Iterator[Entry | None]
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
    try:
        file = open_regular(path)
    except OSError as error:
        raise ArchiveError(
            f"The archive {path} cannot be read ({error.strerror}). Check the file and its "
            "permissions."
        ) from error
    with _LimitedReader(file.detach(), name) as raw:
        size = raw.seek(0, io.SEEK_END)
        raw.seek(0)
        start = raw.read(4)
        raw.seek(0)
        if start in (b"PK\x03\x04", b"PK\x05\x06"):
            yield _open_zip(raw, name, size)
        elif start[:2] == b"\x1f\x8b":
            yield _open_tar(raw, name, size)
        else:
            known = (
                text for signature, text in _OTHER_FORMATS.items() if start.startswith(signature)
            )
            raise ArchiveError(
                f"{name} is not a zip or tar.gz archive. Expected one of these, got "
                f"{next(known, 'other content')}. {_REPACK}"
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
        if progress:
            progress(archive.count_read(), archive.size)
        if entry is None:
            continue
        registered.add(entry.path)
        reason = _find_skip_reason(entry.path, entry.size)
        if not reason:
            # The total size is unknown for tar.gz, and other programs write to the disk as well.
            require_free_space(folder, entry.size, "Unpacking")
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
        key = unicodedata.normalize("NFC", str(path)).casefold()
        parents = [key[:end] for end, character in enumerate(key) if character == "/"]
        if key in self._files or key in self._folders or self._files.intersection(parents):
            raise ArchiveError(
                f"{self._archive} contains {path} twice (upper and lower case count as equal). "
                "Nothing was imported. Rename one of the files and pack the folder again."
            )
        if len(self._files) == MAX_ENTRIES:
            raise _too_many_files(self._archive)
        self._files.add(key)
        self._folders.update(parents)


class _LimitedReader(io.BufferedReader):
    """An archive file that refuses the size of read that only a huge zip directory needs."""

    def __init__(self, file: io.RawIOBase, name: str) -> None:
        super().__init__(file)
        self._archive = name

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes."""
        if size is not None and size > MAX_DIRECTORY_MB * 2**20:
            raise _too_many_files(self._archive)
        return super().read(size)


class _GzipStream:
    """The unpacked bytes of a gzip file, read forward only.

    Unlike `gzip.GzipFile`, it bounds the ratio, the size of the header and the number of members.
    """

    def __init__(self, raw: IO[bytes], name: str) -> None:
        self._raw = raw
        self._name = name
        self._packed = b""
        self._member = zlib.decompressobj(wbits=31)
        self._n_members = 1
        self._unpacked = b""
        self._n_unpacked = 0

    @property
    def position(self) -> int:
        """Number of bytes that were read."""
        return self._n_unpacked - len(self._unpacked)

    def read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end."""
        if not self._unpacked:
            self._unpacked = self._unpack()
            self._n_unpacked += len(self._unpacked)
            _require_ratio(self._name, self._n_unpacked, self._raw.tell())
        data, self._unpacked = self._unpacked[:size], self._unpacked[size:]
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return `size` bytes; fewer only at the end."""
        data = b""
        while len(data) < size and (more := self.read(size - len(data))):
            data += more
        return data

    def skip_to(self, position: int) -> None:
        """Read forward to a position."""
        while self.position < position:
            if not self.read(min(CHUNK, position - self.position)):
                raise EOFError

    def _unpack(self) -> bytes:
        """Return the next bytes, or none at the end."""
        while not self._member.eof or self._start_member():
            packed = self._packed or self._raw.read(_GZIP_CHUNK)
            data = self._member.decompress(packed, _GZIP_CHUNK)
            self._packed = self._member.unconsumed_tail or self._member.unused_data
            if data:
                return data
            if not packed:
                raise EOFError
        return b""

    def _start_member(self) -> bool:
        """Start the next gzip member, after padding; return False at the end of the file."""
        while not (packed := self._packed.lstrip(b"\0")):
            self._packed = self._raw.read(_GZIP_CHUNK)
            if not self._packed:
                return False
        self._packed = packed
        self._member = zlib.decompressobj(wbits=31)
        self._n_members += 1
        if self._n_members > _MAX_GZIP_MEMBERS + self._n_unpacked // _BLOCK:
            raise _damaged(self._name)
        return True


def _open_zip(raw: IO[bytes], name: str, size: int) -> Archive:
    with _damage_as_archive_error(name):
        file = zipfile.ZipFile(raw)
        infos = file.infolist()
    if len(infos) > MAX_ENTRIES:
        raise _too_many_files(name)
    _require_separate(name, infos)
    consumed = 0

    def entries() -> Iterator[Entry]:
        nonlocal consumed
        for info in infos:
            full_path = _zip_path(info)
            path = _check_path(name, full_path)
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_plain_file(name, path)
            if info.flag_bits & 1:
                raise ArchiveError(f"{name} is encrypted. Pack the folder without a password.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                method = _COMPRESSIONS.get(info.compress_type, f"method {info.compress_type}")
                reason = ", as Windows does above 2 GB" if method == "Deflate64" else ""
                raise ArchiveError(
                    f"{name} uses an unsupported compression for {path}. Expected Deflate or none, "
                    f"got {method}{reason}. {_REPACK}"
                )
            if not full_path.endswith("/"):
                chunks = partial(_read_chunks, name, partial(file.open, info))
                yield Entry(PurePosixPath(path), info.file_size, chunks)
            consumed += info.compress_size

    unpacked_size = sum(
        info.file_size
        for info in infos
        if not _find_skip_reason(PurePosixPath(_zip_path(info)), info.file_size)
    )
    _require_ratio(name, unpacked_size, size)
    return Archive(name, size, unpacked_size, entries(), lambda: consumed)


def _zip_path(info: zipfile.ZipInfo) -> str:
    """Return the path of an entry with slashes; that of a folder ends with one."""
    # `filename` ends at a null byte, and on Windows has its backslashes replaced.
    path = info.orig_filename
    if info.create_system in _WINDOWS_SYSTEMS and "/" not in path:
        return path.replace("\\", "/")
    return path


def _require_separate(name: str, infos: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes, with which a small archive unpacks to many files."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveError(
                f"{name} contains files that share bytes. Nothing was imported. Pack the folder "
                "again."
            )
        end = info.header_offset + max(info.compress_size, 1)


def _open_tar(raw: IO[bytes], name: str, size: int) -> Archive:
    stream = _GzipStream(raw, name)

    def entries() -> Iterator[Entry | None]:
        with _damage_as_archive_error(name):
            extended: dict[str, str] = {}
            n_headers = n_entries = 0
            while (block := stream.read_exactly(_BLOCK)).strip(b"\0"):
                n_headers += 1
                if n_headers > MAX_HEADERS:
                    raise _too_many_files(name)
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                file_size = int(extended.get("size", info.size))
                if file_size < 0:
                    raise _damaged(name)
                end = stream.position + file_size + -file_size % _BLOCK
                if info.type in _EXTENDED_TYPES:
                    extended |= _read_extended(stream, info)
                    yield None
                else:
                    n_entries += 1
                    if n_entries > MAX_ENTRIES:
                        raise _too_many_files(name)
                    path = _check_path(name, extended.get("path", info.name))
                    is_sparse = any(key.startswith("GNU.sparse.") for key in extended)
                    if info.type in _FILE_TYPES and not is_sparse:
                        chunks = partial(_read_entry, name, stream, file_size)
                        yield Entry(PurePosixPath(path), file_size, chunks)
                    elif info.type != tarfile.DIRTYPE:
                        raise _not_a_plain_file(name, path)
                    else:
                        yield None
                    extended = {}
                stream.skip_to(end)
            # The checksum comes at the end.
            while chunk := stream.read(CHUNK):
                if chunk.strip(b"\0"):
                    raise _damaged(name)

    return Archive(name, size, None, entries(), raw.tell)


def _read_extended(stream: _GzipStream, info: tarfile.TarInfo) -> dict[str, str]:
    """Return the records of a header that extends the next one, such as a long path."""
    if info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
        return {}
    if info.size > _MAX_EXTENDED_BYTES:
        raise tarfile.HeaderError
    content = stream.read_exactly(info.size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    # Each record is b"<length> <key>=<value>\n", and the length includes its own digits.
    records: dict[str, str] = {}
    start = 0
    for _ in range(_MAX_EXTENDED_RECORDS):
        if start == len(content):
            return records
        digits = content[start : start + 8].partition(b" ")[0]
        end = start + int(digits)
        key, separator, value = content[start + len(digits) + 1 : end].partition(b"=")
        if not (digits.isdigit() and separator and value.endswith(b"\n")):
            break
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse."):
            records[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        start = end
    raise tarfile.HeaderError


def _read_entry(name: str, stream: _GzipStream, size: int) -> Iterator[bytes]:
    with _damage_as_archive_error(name):
        while size:
            chunk = stream.read(min(CHUNK, size))
            if not chunk:
                raise EOFError
            size -= len(chunk)
            yield chunk


def _read_chunks(name: str, open_file: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    with _damage_as_archive_error(name), open_file() as file:
        while chunk := file.read(CHUNK):
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
    if problem := _find_path_problem(name, parts):
        raise ArchiveError(
            f"{archive} contains the invalid path '{_escape(name[:80])}', {problem}. Expected "
            "paths inside the archive that are valid on every system. Nothing was imported. "
            + (_REPACK if "\\" in name else "Rename the file or folder, and pack the folder again.")
        )
    return "/".join(parts)


def _find_path_problem(name: str, parts: list[str]) -> str:
    """Return why a path is not valid on every system, or ''."""
    if ".." in parts or "" in parts:
        return "which leads out of the archive or has an empty part"
    if invalid := _INVALID_CHARACTERS.search(name):
        return f"which contains the character '{_escape(invalid[0])}'"
    is_long = any(len(part.encode()) > _MAX_NAME_BYTES for part in parts)
    if is_long or len(name) > _MAX_PATH_LENGTH:
        return f"which has more than {_MAX_PATH_LENGTH} characters, or {_MAX_NAME_BYTES} in a part"
    if any(part.endswith((" ", ".")) for part in parts):
        return "in which a name ends with a space or dot"
    return ""


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


def _escape(text: str) -> str:
    """Return a text with escapes for control characters and letters outside ASCII."""
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return printable.encode("ascii", "backslashreplace").decode("ascii")
