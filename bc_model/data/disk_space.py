"""Free disk space before writing, and failed writes as sentences."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bc_model.errors import BcModelError, DataError
from bc_model.utils.io import describe_error

MIN_FREE_MB = 500
"""Space that stays free for other programs."""
MAX_WINDOWS_PATH = 260

# Only the last one names the file. Any other error without a file name is not one of the disk.
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG}
)


def require_free_space(folder: Path, size_bytes: int, action: str) -> None:
    """Raise `DataError` unless the disk has space for the given size and `MIN_FREE_MB`.

    The folder may be missing, and `action` is the subject of the message.
    """
    parents = [path for path in (folder, *folder.absolute().parents) if path.name[:1] != "."]
    existing = next((path for path in parents if os.path.exists(path)), None)  # noqa: PTH110
    if existing is None:
        raise DataError(f"{action} failed. There is no disk for {folder}. Choose another folder.")
    free = shutil.disk_usage(existing).free
    needed = size_bytes + MIN_FREE_MB * 10**6
    if free < needed:
        raise DataError(
            f"{action} needs {needed / 1e9:.1f} GB in {parents[0]}, but only {free / 1e9:.1f} GB "
            "are free. Free disk space, or choose a folder on another disk (BC_DATASETS)."
        )


@contextmanager
def explain_write_errors(action: str, folder: Path) -> Iterator[None]:
    """Turn an `OSError` of writing to a folder into `DataError` with the reason and a remedy.

    Other errors, such as those of a file elsewhere that is read, are raised unchanged. `action` is
    the subject of the message.
    """
    try:
        yield
    except BcModelError:
        raise
    except OSError as error:
        file = Path(os.fsdecode(error.filename or folder))
        if error.filename is None and error.errno not in _DISK_ERRORS:
            raise
        if not (file.is_relative_to(folder) or folder.is_relative_to(file)):
            raise
        # Windows reports a path that is too long as missing.
        if len(str(file)) >= MAX_WINDOWS_PATH and error.errno in (
            errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG
        ):  # fmt: skip
            reason = (
                f"The path {file} has {len(str(file))} characters, and Windows allows "
                f"{MAX_WINDOWS_PATH - 1}. Set BC_DATASETS to a folder with a short path, or turn "
                "on long paths in Windows."
            )
        else:
            reason = describe_error(OSError(error.errno, error.strerror, str(file)))
        raise DataError(f"{action} failed. {reason}") from error
