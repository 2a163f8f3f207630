"""Atomic file writes: a reader sees the old file or the new file, never a part.

Use these functions for files that another process may read, such as status files, reports and
model cards. They do not lock; the last of several writers wins.
"""

import errno
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# Windows does not replace a file that a reader has open. Reads take milliseconds.
_REPLACE_TRIES = 10
_REPLACE_WAIT_S = 0.02


def check_writable(directory: Path) -> None:
    """Check before a long computation that a directory can be created and written to.

    Raises
    ------
    NotADirectoryError, PermissionError, FileNotFoundError
        If the nearest existing parent is a file, is not writable, or does not exist.
    """
    parents = (directory, *directory.absolute().parents)
    nearest = next((path for path in parents if path.exists()), None)
    if nearest is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))


def write_text_atomic(path: str | Path, text: str) -> None:
    r"""Write a text atomically as UTF-8, with ``\n`` line ends on every system."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | Path, data: bytes | memoryview) -> None:
    """Write bytes atomically and flush them to the disk; replace a symbolic link by a file.

    Raises
    ------
    OSError
        If the directory is missing, full or not writable. An old file is unchanged.
    """
    write_files_atomic({Path(path): data})


def write_files_atomic(files: Mapping[Path, bytes | memoryview]) -> None:
    """Write several files; replace old files only after all new files are on the disk.

    Files are replaced in the order of the mapping. Their directories exist.

    Raises
    ------
    OSError
        If a directory is missing, full or not writable. Old files are unchanged.
    """
    # Random names are short enough for every file system and differ between writers.
    staged = {target.parent / f".{secrets.token_hex(8)}.tmp": target for target in files}
    try:
        for temporary, target in staged.items():
            with temporary.open("xb") as stream:
                stream.write(files[target])
                stream.flush()
                os.fsync(stream.fileno())
        for temporary, target in staged.items():
            _replace(temporary, target)
    except BaseException:
        for temporary in staged:
            temporary.unlink(missing_ok=True)
        raise
    for directory in {target.parent for target in files}:
        _sync_directory(directory)


def _replace(temporary: Path, target: Path) -> None:
    for attempt in range(_REPLACE_TRIES):
        try:
            temporary.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(_REPLACE_WAIT_S)


def _sync_directory(directory: Path) -> None:
    """Flush a directory entry to the disk, which only POSIX supports."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a directory. The file itself is complete.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def project_dir() -> Path:
    """Return the checkout that contains this package, or the current directory if installed."""
    checkout = Path(__file__).parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()
