"""The dataset registry: a folder that contains the datasets of this machine by name.

Each registered dataset is a folder with a `dataset.json`, which describes its source and the
location of its images. A folder without that file was added manually and contains the images
itself. Datasets are created from archives and downloads in `ingest`.
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypedDict

from bc_model.data.breakhis import IMAGE_SUFFIXES
from bc_model.data.disk_space import explain_write_errors
from bc_model.data.images import list_image_files
from bc_model.errors import DataError
from bc_model.utils.io import project_dir, read_bytes, write_text_atomic
from bc_model.utils.serialization import check_fields, parse_json

DATASET_FILE = "dataset.json"
IMAGES_FOLDER = "images"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_STAGING_PREFIX, _REMOVED_PREFIX = ".add-", ".del-"
"""Short, because Windows limits the path of each image in these folders to 259 characters."""
_MAX_DESCRIPTION_BYTES = 2**20
_MAX_STAGING_AGE_S = 86_400
"""Longer than any unpacking: older staging folders belong to processes that were killed."""


class _Description(TypedDict, total=False):
    """The content of `DATASET_FILE`. The keys of a download and an archive are optional."""

    kind: Literal["stored", "linked"]
    images: str
    source: str
    added: str
    sha256: str
    n_skipped: int
    skipped: list[tuple[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class RegisteredDataset:
    """A dataset in the registry.

    Attributes
    ----------
    name : str
        Name of the dataset.
    images_dir : Path
        Folder of the images.
    kind : {'stored', 'linked', 'unmanaged'}
        Images in the registry, images in a folder elsewhere, or a folder that was added manually.
    source, added : str
        Origin (file name, URL or folder), and time in ISO 8601. Empty if unmanaged.
    details : dict
        Optional facts: `sha256` of a download, `skipped` files of an archive, `notes`.
    """

    name: str
    images_dir: Path
    kind: str
    source: str
    added: str
    details: dict[str, Any]

    @property
    def is_available(self) -> bool:
        """True if the folder of the images exists."""
        return self.images_dir.is_dir()


def datasets_dir() -> Path:
    """Return the folder of the registry, which may not exist yet.

    It is the environment variable `BC_DATASETS`, or the folder `data` in the project directory.
    """
    return Path(os.environ.get("BC_DATASETS") or project_dir() / "data")


def cache_dir() -> Path:
    """Return the folder of cached fingerprints and thumbnails, which may be deleted."""
    return datasets_dir() / ".cache"


def list_datasets(registry: Path | None = None) -> tuple[list[RegisteredDataset], list[str]]:
    """Return the registered datasets by name, and one message for each unreadable one.

    `registry` is the folder of the registry, by default `datasets_dir`, here and in all functions.
    """
    registry = registry or datasets_dir()
    datasets, problems = [], []
    folders = [path for path in registry.iterdir() if path.is_dir()] if registry.is_dir() else []
    for path in sorted(folders, key=lambda path: path.name.lower()):
        if path.name.startswith("."):
            continue
        try:
            datasets.append(_read_description(path))
        except DataError as error:
            problems.append(str(error))
    return datasets, problems


def open_dataset(name: str, registry: Path | None = None) -> RegisteredDataset:
    """Return a registered dataset by its name; raise `DataError` if it is missing or damaged."""
    folder = (registry or datasets_dir()) / check_name(name)
    if not folder.is_dir():
        raise DataError(
            f"There is no dataset '{name}' in {folder.parent}. List the registered datasets."
        )
    return _read_description(folder)


def find_images_dir(source: str | Path, registry: Path | None = None) -> Path:
    """Return the folder of the images of a dataset, which may not exist.

    `source` is a folder or the name of a registered dataset. An existing folder comes first.
    """
    name, folder = str(source), Path(source)
    is_registered = is_name(name) and ((registry or datasets_dir()) / name).is_dir()
    if not is_registered or folder.is_dir():
        return folder
    return open_dataset(name, registry).images_dir


def link_folder(folder: Path, name: str, registry: Path | None = None) -> RegisteredDataset:
    """Register a folder of images without copying it.

    Raises `DataError` if the folder contains no image, or if the name is taken or invalid.
    """
    folder = Path(folder)
    list_image_files(folder)
    target = require_free_name(name, registry)
    with staging_folder(target) as staging:
        path = str(folder.resolve())
        publish_dataset(staging, target, kind="linked", images=path, source=path)
    return _read_description(target)


def remove_dataset(name: str, registry: Path | None = None) -> None:
    """Remove a dataset from the registry. Stored images are deleted, linked folders are kept.

    Raises
    ------
    DataError
        The dataset does not exist, or it was added manually.
    """
    folder = (registry or datasets_dir()) / check_name(name)
    if not os.path.lexists(folder / DATASET_FILE):  # It may be damaged, such as a named pipe.
        raise DataError(
            f"The dataset '{name}' in {folder.parent} cannot be removed, because it does not exist "
            "or was added manually. Delete its folder manually."
        )
    # After the renaming, an interruption cannot leave a dataset with missing images.
    removed = folder.parent / f"{_REMOVED_PREFIX}{secrets.token_hex(4)}"
    with explain_write_errors(f"Removing the dataset '{name}'", folder.parent):
        folder.rename(removed)
        shutil.rmtree(removed)


def locate_image(dataset: RegisteredDataset, path: str) -> Path:
    """Return the file of an image in a dataset; the path may come from a URL.

    Raises `DataError` if the path leads out of the dataset, or is not an image. A link may lead
    out of a linked folder, but not out of a stored copy.
    """
    inner = PurePosixPath(path)
    file = dataset.images_dir / inner
    if (
        inner.is_absolute()
        or any(part.startswith(".") or set(part) & set("\\:\0") for part in inner.parts)
        or inner.suffix.lower() not in IMAGE_SUFFIXES
        or not os.path.isfile(file)  # noqa: PTH113 - `Path.is_file` raises on a name too long
        or (
            dataset.kind == "stored"
            and not file.resolve().is_relative_to(dataset.images_dir.resolve())
        )
    ):
        raise DataError(
            f"The dataset '{dataset.name}' does not contain the image {path[:200]!r}. Check the "
            "address."
        )
    return file


def suggest_name(source: str) -> str:
    """Return a valid dataset name from the name of a folder or archive, or ''.

    Examples
    --------
    >>> suggest_name("/data/My images (new).tar.gz"), suggest_name("..")
    ('My-images-new', '')
    """
    last = re.split(r"[/\\]", source.strip().rstrip("/\\"))[-1]
    stem = re.sub(r"(?i)\.(zip|tgz|tar\.gz)$", "", last)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80].rstrip("-._")
    return name if is_name(name) else ""


def is_name(name: str) -> bool:
    """Return whether a text is a valid dataset name on every operating system."""
    is_reserved = name.endswith(".") or _WINDOWS_DEVICES.fullmatch(name)
    return bool(_NAME.fullmatch(name)) and not is_reserved


def check_name(name: str) -> str:
    """Return a dataset name unchanged, or raise `DataError` if it is invalid."""
    if not is_name(name):
        raise DataError(
            f"Invalid dataset name '{name}'. Expected at most 80 letters, digits, '.', '_' and "
            "'-', with a letter or digit first, and no reserved word. Choose another name."
        )
    return name


def require_free_name(name: str, registry: Path | None = None) -> Path:
    """Return the folder of a new dataset, and create the registry; raise `DataError`."""
    registry = registry or datasets_dir()
    check_name(name)
    with explain_write_errors("Creating the dataset registry", registry):
        registry.mkdir(parents=True, exist_ok=True)
        taken = {path.name.lower(): path for path in registry.iterdir()}
    if name.lower() in taken:
        raise _name_taken(taken[name.lower()])
    return registry / name


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Create a hidden folder in the registry, and delete it on any exception.

    Raises `DataError` if the block cannot write to the folder.
    """
    _delete_old_staging(target.parent)
    staging = target.parent / f"{_STAGING_PREFIX}{secrets.token_hex(4)}"
    try:
        with explain_write_errors(f"Adding the dataset '{target.name}'", target.parent):
            staging.mkdir()
            yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def publish_dataset(
    staging: Path, target: Path, *, kind: str, images: str, source: str, **details: Any
) -> None:
    """Describe a finished dataset and give its folder the final name, in one step.

    `images` is a path, absolute or relative to the dataset. Raises `DataError` if the name has been
    taken in the meantime.
    """
    added = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"kind": kind, "images": images, "source": source, "added": added, **details}
    write_text_atomic(staging / DATASET_FILE, json.dumps(content, indent=2) + "\n")
    try:
        if target.exists():  # `rename` would replace an empty folder.
            raise FileExistsError
        staging.rename(target)
    except OSError as error:
        if target.exists():
            raise _name_taken(target) from error
        raise


def _name_taken(path: Path) -> DataError:
    return DataError(f"{path} already exists. Choose another name.")


def _delete_old_staging(registry: Path) -> None:
    for path in (*registry.glob(f"{_STAGING_PREFIX}*"), *registry.glob(f"{_REMOVED_PREFIX}*")):
        try:
            if time.time() - path.stat().st_mtime > _MAX_STAGING_AGE_S:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # Another process has just deleted it.


def _read_description(folder: Path) -> RegisteredDataset:
    file = folder / DATASET_FILE
    try:
        data = parse_json(read_bytes(file, _MAX_DESCRIPTION_BYTES), DATASET_FILE)
        content = check_fields(data, _Description, DATASET_FILE)
        kind, images = content.pop("kind"), content.pop("images")
        source, added = content.pop("source"), content.pop("added")
        datetime.fromisoformat(added)
    except FileNotFoundError:
        return RegisteredDataset(folder.name, folder, "unmanaged", "", "", {})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"The dataset '{folder.name}' is damaged. Expected a JSON description in {file}. "
            "Remove the dataset and add it again."
        ) from error
    return RegisteredDataset(folder.name, folder / images, kind, source, added, content)
