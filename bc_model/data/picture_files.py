"""Which files under a folder are pictures."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from bc_model.data.names import CLASSES, PICTURE_SUFFIXES
from bc_model.errors import DataError, FolderNotFound

_HEATMAP = re.compile(rf"-(?=[0-9]*[a-f])[0-9a-f]{{8}}-({'|'.join(CLASSES)})\.png$")
"""The end of a name that `explain` gives to a heatmap; eight digits alone may be a date."""
_ENDS = tuple(f"-{name}.png" for name in CLASSES)
_OF_THE_SYSTEM = {"System Volume Information", "$RECYCLE.BIN", "lost+found"}
"""Folders at the root of a drive that nobody may read and that hold no pictures."""


def picture_files(root: Path) -> list[Path]:
    """List the picture files under a folder, sorted; the heatmaps of `explain` are none.

    Raises
    ------
    FolderNotFound
        `root` does not exist or is not a folder.
    DataError
        No picture file lies under it, or a folder among it cannot be read.
    """
    try:
        there = root.is_dir()
    except OSError as error:  # such as a name that is too long
        raise FolderNotFound(
            f"There is no folder {root} ({error.strerror}); check the path of the data set."
        ) from error
    if not there:
        raise FolderNotFound(f"There is no folder {root}; check the path of the data set.")
    files = sorted(_walk(root), key=Path.as_posix)
    if not files:
        raise DataError(
            f"The folder {root} holds no PNG, JPEG or TIFF picture at any depth (heatmaps do not "
            "count); point to the folder that holds the pictures."
        )
    return files


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=False, onerror=_refuse_unread):
        # Hidden files are macOS and editor droppings ("._x.png"), never pictures.
        folders[:] = [one for one in folders if one[0] != "." and one not in _OF_THE_SYSTEM]
        beside = set(names)
        for name in names:
            is_picture = name[0] != "." and Path(name).suffix.lower() in PICTURE_SUFFIXES
            has_raw_map = name.endswith(_ENDS) and f"{name[:-4]}.npy" in beside
            if is_picture and not has_raw_map and not _HEATMAP.search(name):
                yield Path(folder) / name


def _refuse_unread(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename} cannot be read ({error.strerror}), so what is in it would be "
        "left out; grant access to it, or move it elsewhere."
    ) from error
