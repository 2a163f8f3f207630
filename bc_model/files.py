"""Files that are whole or not there: written beside their place, then moved into it.

For everything a second process may read while it is replaced (status, reports, passports). It does
not lock: of two writers the last one wins, and each file is one writer's whole text.
"""

import os
import secrets
import time
from pathlib import Path

# Windows refuses to replace a file that a reader holds open; readers here are done in milliseconds.
_REPLACE_TRIES = 10
_REPLACE_WAIT_S = 0.02


def write_text_atomic(path: str | Path, text: str) -> None:
    r"""Write a text as UTF-8, all of it or nothing.

    Parameters
    ----------
    path : str or Path
        The file to make or replace. Its folder must exist.
    text : str
        Written as it is: ``\n`` stays ``\n`` on every system, so hashes agree between systems.

    Raises
    ------
    OSError
        The folder is missing, full or not writable. The old file, if any, is untouched.
    """
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: str | Path, data: bytes | memoryview) -> None:
    """Write bytes, all of them or nothing, and see them onto the disk.

    A link at `path` is replaced by a file; what it pointed to stays as it was.

    Parameters
    ----------
    path : str or Path
        The file to make or replace. Its folder must exist.
    data : bytes
        The whole content.

    Raises
    ------
    OSError
        The folder is missing, full or not writable. The old file, if any, is untouched.
    """
    target = Path(path)
    # The name is short and random, not derived from the target: a long target name would overflow
    # the file system's limit, and two writers must never share a temporary file.
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _replace(temporary: Path, target: Path) -> None:
    for attempt in range(_REPLACE_TRIES):
        try:
            temporary.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(_REPLACE_WAIT_S)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut; only POSIX lets a folder be opened for that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse to sync a folder. The file itself is already in place.
        pass
    finally:
        os.close(descriptor)
