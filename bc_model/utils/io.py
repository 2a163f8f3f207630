"""Files that are whole or not there: written beside their place, then moved into it.

For everything a second process may read while it is replaced (status, reports, model cards). It
does not lock: of two writers the last one wins, and each file is one writer's whole text.
"""

import errno
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

# Windows refuses to replace a file that a reader holds open; readers here are done in milliseconds.
_REPLACE_TRIES = 10
_REPLACE_WAIT_S = 0.02


def require_place(folder: Path) -> None:
    """Refuse a folder that nothing could be written to, before the work that is to be written.

    Raises
    ------
    NotADirectoryError, PermissionError, FileNotFoundError
        It, or the nearest folder above it that is there, is a file or not writable; or none is
        there, as on a drive that is not.
    """
    nearest = next((one for one in (folder, *folder.absolute().parents) if one.exists()), None)
    if nearest is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(nearest))


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
    write_together({Path(path): data})


def write_together(files: Mapping[Path, bytes | memoryview]) -> None:
    """Write several files that belong together: nothing is replaced before all are on the disk.

    Parameters
    ----------
    files : mapping of Path to bytes
        Content by place, in the order in which they are moved there. Their folders must exist.

    Raises
    ------
    OSError
        A folder is missing, full or not writable. The old files, if any, are untouched.
    """
    # The names are short and random, not derived from the targets: a long target name would
    # overflow the file system's limit, and two writers must never share a temporary file.
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
    for folder in {target.parent for target in files}:
        _sync_folder(folder)


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
    feature = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(feature)
    except OSError:
        # Some network file systems refuse to sync a folder. The file itself is already in place.
        pass
    finally:
        os.close(feature)


def project_dir() -> Path:
    """Return the checkout that contains this package, or the current directory if installed."""
    checkout = Path(__file__).parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()
