"""Paths of the app, and paths on the server that users type."""

import os
from collections.abc import Iterable
from pathlib import Path

from app.server.settings import is_shared
from bc_model.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
ROOTS_VARIABLE = "BC_ROOTS"
_DRIVES = (
    *("/data", "/media", "/mnt", "/run/media", "/Volumes"),
    *(f"{letter}:\\" for letter in "DEFGHIJKLMNOPQRSTUVWXYZ"),
)
"""Where disks for data are usually mounted on Linux, macOS and Windows."""


def list_roots() -> list[Path]:
    """Return the folders below which users can name paths on the server.

    The environment variable `BC_ROOTS` lists them. Without it, these are the home folder, the
    project, and other disks; if others can reach the server, there are none.
    """
    listed = os.environ.get(ROOTS_VARIABLE)
    if listed is not None:
        return [Path(part).expanduser() for part in listed.split(os.pathsep) if part]
    if is_shared():
        return []
    return [Path.home(), ROOT, *(path for path in map(Path, _DRIVES) if path.is_absolute())]


def parse_path(text: str) -> Path:
    """Return the place of a typed path, without surrounding quotes, links and ~.

    Raises
    ------
    DataError
        The path leads out of the roots, also by a symbolic link. The message does not depend on
        what exists there.
    """
    bare = text.strip()  # File managers copy a path with quotes.
    if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1]
    roots = list_roots()
    if not roots:
        raise DataError(
            "Paths on the server are disabled. Upload the files, or name the folders that users "
            f"can read in {ROOTS_VARIABLE}."
        )
    path = Path(bare)
    resolved = None
    try:
        if path.parts[:1] == ("~",):  # Not ~name, which shows whether a user exists.
            path = path.expanduser()
        # Only a path below a root is resolved: to look at a network path opens a connection.
        if _is_below(_normalize(path), map(_normalize, roots)):
            resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):  # A loop of links, or a null character.
        pass
    if resolved is None or not _is_below(resolved, [root.resolve() for root in roots]):
        raise DataError(
            f"Path not allowed. Expected a path in {', '.join(map(str, roots))}, got {bare!r}. "
            f"Name further folders in {ROOTS_VARIABLE}."
        )
    return resolved


def require_links_inside(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Refuse files of a folder that links lead out of it and of the roots, on a shared server.

    On one machine, its user may link images from anywhere.

    Parameters
    ----------
    folder : Path
        Folder of a dataset or of fold files.
    files : iterable of Path, optional
        Files in the folder. By default all files below it.

    Raises
    ------
    DataError
        A link leads out.
    """
    if not is_shared():
        return
    if files is None:
        below = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
        files = (file for file in below if file.is_symlink())
    allowed = [path.resolve() for path in (folder, *list_roots())]
    for file in files:
        try:
            is_inside = _is_below(file.resolve(), allowed)
        except (OSError, RuntimeError):  # A loop of links.
            is_inside = False
        if not is_inside:
            raise DataError(
                f"The link '{file.name}' in {folder} leads out of it. Expected files in this "
                f"folder or in the folders of {ROOTS_VARIABLE}. Copy the files."
            )


def _normalize(path: Path) -> Path:
    """Return the absolute path without `..`, without following links."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` follows links


def _is_below(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
