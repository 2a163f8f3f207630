"""Bounded file reads and atomic file writes.

Reads open regular files only and stop at a limit: a device or a named pipe would supply bytes
without end, or block the reader. Writes are atomic: a reader sees the old file or the new file,
never a part. Use them for files that another process may read, such as status files, reports and
model cards. They do not lock; the last of several writers wins.
"""

import errno
import io
import os
import secrets
import shutil
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bc_model.errors import BcModelError

# Windows does not replace a file that a reader has open. Reads take milliseconds.
_REPLACE_TRIES = 10
_REPLACE_WAIT_S = 0.02
_BINARY = getattr(os, "O_BINARY", 0)  # Windows only.

_REASONS = {
    errno.ENOSPC: ("The disk is full", "Free disk space and try again."),
    errno.EDQUOT: ("The disk quota is used up", "Delete files, or ask for a larger quota."),
    errno.EROFS: ("The disk is read-only", "Choose another folder."),
    errno.EACCES: ("The permission is missing", "Change it, or choose another folder."),
    errno.EPERM: ("The operation is not permitted", "Choose another folder."),
    errno.ENAMETOOLONG: ("The file name is too long", "Use a shorter name."),
    errno.ENOENT: ("The file or folder does not exist", "Check the path."),
}
"""Reason and remedy by error number."""

DELETED_PREFIX = ".deleted-"

_CHUNK_BYTES = 2**16
MAX_TEXT_BYTES = 16 * 2**20
"""Default limit of a text file, such as a model card, a status or a fold file."""


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file for reading bytes; links are followed.

    Raises
    ------
    OSError
        If the file is missing or unreadable, or is a folder, device, socket or named pipe (EINVAL).

    Examples
    --------
    >>> open_regular("/dev/zero")  # doctest: +SKIP
    Traceback (most recent call last):
        ...
    OSError: [Errno 22] Not a regular file: '/dev/zero'
    """
    # Without O_NONBLOCK, opening a named pipe waits for a writer. The check is made on the open
    # file, because the path may lead to another file a moment later.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    OSError
        As `open_regular`, or if the file has more than `max_bytes` bytes (EFBIG).
    """
    with open_regular(path) as stream:
        content = read_stream(stream, max_bytes)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"Larger than {max_bytes / 2**20:.3g} MB", str(path))
    return content


def read_stream(stream: io.BufferedReader, max_bytes: int) -> bytes:
    """Return the content of an open file, of which at most ``max_bytes + 1`` bytes are read.

    Memory is allocated for the size of the file, not for the limit.
    """
    n_expected = min(os.fstat(stream.fileno()).st_size, max_bytes) + 1
    content = stream.read(n_expected)
    if len(content) < n_expected:
        return content
    # The file has grown since its size was read, or is below /proc and has the size 0.
    parts = [content]
    n_left = max_bytes + 1 - n_expected
    while n_left and (part := stream.read(min(_CHUNK_BYTES, n_left))):
        parts.append(part)
        n_left -= len(part)
    return b"".join(parts)


def read_text(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    r"""Return the text of a regular file in UTF-8, with ``\n`` line ends.

    Raises
    ------
    OSError
        As `read_bytes`.
    UnicodeDecodeError
        If the content is not UTF-8. It is a ValueError.
    """
    text = read_bytes(path, max_bytes).decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def describe_error(error: BaseException) -> str:
    """Return the message of an error; for an `OSError`, the problem, the file and what to do.

    Examples
    --------
    >>> describe_error(OSError(errno.ENOSPC, "No space left on device", "runs/a/log.txt"))
    "The disk is full ('runs/a/log.txt'). Free disk space and try again."
    """
    if isinstance(error, BcModelError) or not isinstance(error, OSError):
        return str(error) or type(error).__name__
    name = error.filename2 or error.filename
    file = f" ('{os.fsdecode(name)}')" if isinstance(name, (str, bytes)) else ""
    reason, remedy = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
    return f"{reason}{file}.{remedy and f' {remedy}'}"


def shorten_name(name: str, max_bytes: int) -> str:
    """Return a file name of at most a number of bytes in UTF-8, cut between two characters."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= max_bytes else encoded[:max_bytes].decode(errors="ignore")


FileStamp = tuple[int, int, int, int]


def file_stamp(path: str | Path) -> FileStamp | None:
    """Return a value that changes with the content of a file; None if the file is missing.

    The value is the size, the times of the last change of content and of attributes, and the number
    of the file. A key of cached results contains it for each file that they depend on.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


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


def discard_path(path: Path) -> None:
    """Delete a file, a link or a folder if it exists, in one step for its readers."""
    # A rename removes the path in one step, even if the rest is interrupted.
    hidden = path.with_name(f"{DELETED_PREFIX}{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        path.replace(hidden)
        if hidden.is_dir() and not hidden.is_symlink():
            shutil.rmtree(hidden, ignore_errors=True)
        else:
            hidden.unlink()


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
