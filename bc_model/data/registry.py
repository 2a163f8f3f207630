"""The shelf of data sets: where they live on this machine, by name.

A data set is a folder on the shelf. Its `set.json` says where the pictures are, in it or elsewhere,
and where they came from; a folder without one was put there by hand and holds its own pictures.
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from bc_model.data.breakhis import IMAGE_SUFFIXES
from bc_model.data.images import image_files
from bc_model.data.official_folds import MAX_FILE_MB, read_fold_file
from bc_model.errors import DataError, SplitError
from bc_model.utils.io import project_dir, write_bytes_atomic, write_text_atomic

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def is_name(name: str) -> bool:
    """Tell whether this can be a data set's name, on every system."""
    reserved = name.endswith(".") or _WINDOWS_DEVICES.fullmatch(name)
    return bool(_NAME.fullmatch(name)) and not reserved


def check_name(name: str) -> str:
    """Return a name that can be a data set's, on every system.

    Raises
    ------
    DataError
        It cannot.
    """
    if not is_name(name):
        raise DataError(
            f"'{name}' cannot be the name of a data set: it may hold up to 80 letters, digits, "
            "'.', '_' and '-', begins with a letter or digit and is no reserved word."
        )
    return name


def suggest_name(source: str) -> str:
    """Make a name from the name of a folder or an archive.

    Parameters
    ----------
    source : str
        A file name or a path, of either kind of slash.

    Returns
    -------
    str
        Empty when nothing of it can be a name.

    Examples
    --------
    >>> suggest_name("/data/My pictures (new).tar.gz"), suggest_name("..")
    ('My-pictures-new', '')
    """
    last = re.split(r"[/\\]", source.strip().rstrip("/\\"))[-1]
    stem = re.sub(r"(?i)\.(zip|tgz|tar\.gz)$", "", last)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80].rstrip("-._")
    return name if is_name(name) else ""


DATASET_FILE = "set.json"
IMAGES_FOLDER = "images"

_LEFT_OVER_S = 86_400


@dataclass(frozen=True)
class RegisteredDataset:
    """One data set.

    Attributes
    ----------
    name : str
    pictures : Path
        The folder to read, for `bc_model.data.dataset.read_manifest`.
    kind : {'stored', 'linked', 'by hand'}
        Unpacked on the shelf, a folder elsewhere, or a folder put on the shelf without this
        program.
    source : str
        What it was made from: a file's name, an address, a folder. Empty by hand.
    added : str
        When, ISO 8601 with zone. Empty by hand.
    details : dict
        What else is known: `sha256` of a download, `skipped` files of an archive, `notes`.
    """

    name: str
    images: Path
    kind: str
    source: str
    added: str
    details: dict[str, Any]

    @property
    def is_there(self) -> bool:
        """False when a linked folder has gone."""
        return self.images.is_dir()


def datasets_folder() -> Path:
    """Return the dataset registry: BC_DATASETS, or ``data`` in the project directory."""
    return Path(os.environ.get("BC_DATASETS") or project_dir() / "data")


def cache_dir() -> Path:
    """Return where manifests and thumbnails are remembered; it can be deleted at any time."""
    return datasets_folder() / ".cache"


def list_datasets(registry: Path | None = None) -> tuple[list[RegisteredDataset], list[str]]:
    """Find the data sets by name, and say what is wrong with those that cannot be opened.

    Returns
    -------
    sets : list of RegisteredDataset
    problems : list of str
        One sentence a set.
    """
    registry = registry or datasets_folder()
    sets, problems = [], []
    folders = [path for path in registry.iterdir() if path.is_dir()] if registry.is_dir() else []
    for path in sorted(folders, key=lambda path: path.name.lower()):
        if path.name.startswith("."):
            continue
        try:
            sets.append(_open(path))
        except DataError as error:
            problems.append(str(error))
    return sets, problems


def open_dataset(name: str, registry: Path | None = None) -> RegisteredDataset:
    """Open a data set by its name.

    Raises
    ------
    DataError
        There is none, or its `set.json` cannot be read.
    """
    folder = (registry or datasets_folder()) / check_name(name)
    if not folder.is_dir():
        raise DataError(f"There is no data set {name} in {folder.parent}; see `data list`.")
    return _open(folder)


def link_folder(folder: Path, name: str, registry: Path | None = None) -> RegisteredDataset:
    """Put a folder of pictures on the shelf by its path; nothing is copied.

    Raises
    ------
    FolderNotFoundError
        There is no such folder.
    DataError
        It holds no picture; or the name is taken or cannot be one.
    """
    folder = Path(folder)
    image_files(folder)
    target = free_place(name, registry)
    staging = staging_folder(target.parent)
    try:
        whole = str(folder.resolve())
        describe_dataset(staging, kind="linked", images=whole, source=whole)
        put_in_place(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return _open(target)


def remove_dataset(name: str, registry: Path | None = None) -> None:
    """Take a data set off the shelf: delete stored pictures, leave a linked folder as it is.

    Raises
    ------
    DataError
        There is none, or it was put there by hand: then a person deletes it.
    """
    folder = (registry or datasets_folder()) / check_name(name)
    if not (folder / DATASET_FILE).is_file():
        raise DataError(
            f"There is no data set {name} in {folder.parent} that this program put there; "
            "delete the folder by hand if you mean to."
        )
    # Renamed first: a set is on the shelf whole, or not at all.
    going = folder.parent / f".going-{secrets.token_hex(8)}"
    folder.rename(going)
    shutil.rmtree(going)


def image_file(dataset: RegisteredDataset, path: str) -> Path:
    """Return the file of one picture by its path in a set, which may come from a URL.

    Raises
    ------
    DataError
        The path leads out of the set, or no picture is there.
    """
    inner = PurePosixPath(path)
    file = dataset.images / inner
    if (
        inner.is_absolute()
        or any(part.startswith(".") or set(part) & set("\\:\0") for part in inner.parts)
        or inner.suffix.lower() not in IMAGE_SUFFIXES
        or not os.path.isfile(file)  # noqa: PTH113 - `Path.is_file` raises on a name too long
    ):
        raise DataError(f"There is no picture {path[:200]!r} in the data set {dataset.name}.")
    return file


def free_place(name: str, registry: Path | None = None) -> Path:
    """Return the folder that a new data set will have, and make the shelf.

    Raises
    ------
    DataError
        The name is taken, in small or capital letters, or cannot be one.
    """
    registry = registry or datasets_folder()
    check_name(name)
    registry.mkdir(parents=True, exist_ok=True)
    taken = {path.name.lower(): path for path in registry.iterdir()}
    if name.lower() in taken:
        raise DataError(f"{taken[name.lower()]} is there already; choose another name.")
    return registry / name


def staging_folder(registry: Path) -> Path:
    """Make a hidden folder on the shelf where a set is put together."""
    _clear_leftovers(registry)
    folder = registry / f".adding-{secrets.token_hex(8)}"
    folder.mkdir()
    return folder


def describe_dataset(folder: Path, *, kind: str, images: str, source: str, **details: Any) -> None:
    """Write `set.json`; `images` is a folder's path, or relative to `folder`."""
    added = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"kind": kind, "images": images, "source": source, "added": added, **details}
    write_text_atomic(folder / DATASET_FILE, json.dumps(content, indent=2) + "\n")


def put_in_place(staging: Path, target: Path) -> None:
    """Give a finished set its name, in one step.

    Raises
    ------
    DataError
        Someone took the name meanwhile.
    """
    try:
        if target.exists():  # an empty folder would be replaced without a word
            raise FileExistsError
        staging.rename(target)
    except OSError as error:
        if target.exists():
            raise DataError(f"{target} is there already; choose another name.") from error
        raise


def _clear_leftovers(registry: Path) -> None:
    """Delete what a process that was killed left half done; a day is longer than any unpacking."""
    for path in (*registry.glob(".adding-*"), *registry.glob(".going-*")):
        try:
            if time.time() - path.stat().st_mtime > _LEFT_OVER_S:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # another process has just deleted it


def _open(folder: Path) -> RegisteredDataset:
    file = folder / DATASET_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind, images = content.pop("kind"), content.pop("images")
        source, added = content.pop("source"), content.pop("added")
        if not all(isinstance(value, str) for value in (kind, images, source, added)):
            raise TypeError
    except FileNotFoundError:
        return RegisteredDataset(folder.name, folder, "by hand", "", "", {})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"The data set {folder.name} is damaged: {file} is not JSON.") from error
    return RegisteredDataset(folder.name, folder / images, kind, source, added, content)


FOLDS_FOLDER = ".folds"
MAX_FILES = 50
"""Of one folder: the official release has five."""


def list_fold_files(registry: Path | None = None) -> list[Path]:
    """Return the fold files on the shelf, by name."""
    folder = (registry or datasets_folder()) / FOLDS_FOLDER
    files = folder.glob("*.txt") if folder.is_dir() else ()
    return sorted((path for path in files if not path.name.startswith(".")), key=_by_number)


def keep_fold_file(content: bytes, name: str, registry: Path | None = None) -> Path:
    """Put the content of one fold file on the shelf; see `keep_fold_contents`."""
    return keep_fold_contents([(name, content)], registry)[0]


def keep_fold_contents(given: list[tuple[str, bytes]], registry: Path | None = None) -> list[Path]:
    """Put the contents of fold files on the shelf, all of them or none.

    Parameters
    ----------
    given : list of (str, bytes)
        What each is called where it comes from, and its content. A number is added to the name
        when a file with another content has it already.
    shelf : Path, optional
        Default: `bc_model.data.registry.datasets_folder`.

    Returns
    -------
    list of Path
        Of the files on the shelf, also of those that were there already.

    Raises
    ------
    SplitError
        One is not a fold file. Nothing is kept then.
    """
    folder = (registry or datasets_folder()) / FOLDS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in given:
        _check(content, name, folder)
    kept = []
    for name, content in given:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", re.sub(r"(?i)\.txt$", "", name)).strip("-")[:60]
        kept.append(_free_name(folder, stem or "folds", content))
        write_bytes_atomic(kept[-1], content)
    return kept


def keep_fold_files(source: Path, registry: Path | None = None) -> list[Path]:
    """Copy a fold file, or those of a folder, to the shelf.

    Parameters
    ----------
    source : Path
        A file, or a folder whose text files (`*.txt`) are taken.
    shelf : Path, optional

    Returns
    -------
    list of Path

    Raises
    ------
    SplitError
        There is none, or one is not a fold file.
    """
    source = Path(source)
    files = sorted(source.glob("*.txt"), key=_by_number) if source.is_dir() else [source]
    if not 0 < len(files) <= MAX_FILES:
        raise SplitError(
            f"The folder {source} holds {len(files)} text files, and must hold 1 to {MAX_FILES} "
            "fold files such as dsfold1.txt."
        )
    for file in files:
        read_fold_file(file)  # all are good, or none is kept
    return [keep_fold_file(file.read_bytes(), file.name, registry) for file in files]


def remove_fold_files(files: Iterable[Path]) -> None:
    """Take fold files off the shelf; one that is gone already is no failure."""
    for file in files:
        file.unlink(missing_ok=True)


def _check(content: bytes, name: str, folder: Path) -> None:
    if len(content) > MAX_FILE_MB * 2**20:
        raise SplitError(f"{name} is not a fold file: it has more than {MAX_FILE_MB} MB.")
    checked = folder / f".{secrets.token_hex(8)}.txt"
    try:
        checked.write_bytes(content)
        read_fold_file(checked)
    except SplitError as error:
        raise SplitError(str(error).replace(str(checked), name)) from error
    finally:
        checked.unlink(missing_ok=True)


def _free_name(folder: Path, stem: str, content: bytes) -> Path:
    for number in range(1, 1000):
        target = folder / f"{stem}{f'-{number}' if number > 1 else ''}.txt"
        if not target.exists() or target.read_bytes() == content:
            return target
    raise SplitError(f"There are a thousand fold files named {stem} in {folder}; delete some.")


def _by_number(path: Path) -> list[int | str]:
    """Sort dsfold10 behind dsfold2."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if at % 2 else part for at, part in enumerate(parts)]
