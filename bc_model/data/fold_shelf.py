"""Fold files on the shelf: checked when they come, kept by their names, there for every page."""

import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from bc_model.data.fold_file import MAX_FILE_MB, read_fold_file
from bc_model.data.sets import datasets_folder
from bc_model.errors import SplitError
from bc_model.files import write_bytes_atomic

FOLDS_FOLDER = ".folds"
MAX_FILES = 50
"""Of one folder: the official release has five."""


def list_fold_files(shelf: Path | None = None) -> list[Path]:
    """Return the fold files on the shelf, by name."""
    folder = (shelf or datasets_folder()) / FOLDS_FOLDER
    files = folder.glob("*.txt") if folder.is_dir() else ()
    return sorted((path for path in files if not path.name.startswith(".")), key=_by_number)


def keep_fold_file(content: bytes, name: str, shelf: Path | None = None) -> Path:
    """Put the content of one fold file on the shelf; see `keep_fold_contents`."""
    return keep_fold_contents([(name, content)], shelf)[0]


def keep_fold_contents(given: list[tuple[str, bytes]], shelf: Path | None = None) -> list[Path]:
    """Put the contents of fold files on the shelf, all of them or none.

    Parameters
    ----------
    given : list of (str, bytes)
        What each is called where it comes from, and its content. A number is added to the name
        when a file with another content has it already.
    shelf : Path, optional
        Default: `bc_model.data.sets.datasets_folder`.

    Returns
    -------
    list of Path
        Of the files on the shelf, also of those that were there already.

    Raises
    ------
    SplitError
        One is not a fold file. Nothing is kept then.
    """
    folder = (shelf or datasets_folder()) / FOLDS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in given:
        _check(content, name, folder)
    kept = []
    for name, content in given:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", re.sub(r"(?i)\.txt$", "", name)).strip("-")[:60]
        kept.append(_free_name(folder, stem or "folds", content))
        write_bytes_atomic(kept[-1], content)
    return kept


def keep_fold_files(source: Path, shelf: Path | None = None) -> list[Path]:
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
    return [keep_fold_file(file.read_bytes(), file.name, shelf) for file in files]


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
