"""What is never taken from an archive, be it a zip or a tar: the rules, and the words for them."""

import errno
import re
import shutil
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from bc_model.data.names import PICTURE_SUFFIXES
from bc_model.data.pictures import MAX_FILE_MB
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
    if suffix not in PICTURE_SUFFIXES:
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
