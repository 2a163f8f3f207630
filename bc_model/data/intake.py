"""New data sets for the shelf: from an archive, a download, or a folder that is there already.

Pictures are unpacked into a hidden folder on the shelf, which gets its name when it is whole. What
fails or is stopped leaves nothing but, of a download, the part that can be gone on with.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bc_model.data.archive_guards import MAX_TOTAL_GB, require_room
from bc_model.data.archives import CHUNK, open_archive
from bc_model.data.counts import compare_with_official
from bc_model.data.download import OFFICIAL_URL, check_address, check_pin, fetch
from bc_model.data.names import CLASSES, parse_name
from bc_model.data.sets import (
    PICTURES_FOLDER,
    DataSet,
    describe_set,
    free_place,
    link_folder,
    open_set,
    put_in_place,
    staging_folder,
)
from bc_model.data.unpack import Unpacked, unpack
from bc_model.errors import ArchiveError

DOWNLOADS_FOLDER = ".downloads"
_SKIPPED_KEPT = 200

IngestProgress = Callable[[str, int, int], None]
"""Called with ('uploading', 'downloading' or 'unpacking', bytes done, bytes in all or 0)."""


@dataclass(frozen=True)
class Added:
    """A data set that was added, and what is to be told of it.

    Attributes
    ----------
    data_set : DataSet
    pictures : int
        Files unpacked; 0 for a linked folder, which is not read.
    skipped : list of (str, str)
        Path and reason of each file of the archive that was left out.
    notes : list of str
        Sentences.
    """

    data_set: DataSet
    pictures: int
    skipped: list[tuple[str, str]]
    notes: list[str]


def add(
    source: Path, name: str, *, shelf: Path | None = None, progress: IngestProgress | None = None
) -> Added:
    """Add a folder by its path, or an archive file by unpacking it.

    Raises
    ------
    FolderNotFound, DataError, ArchiveError
        See `link_folder` and `add_archive`.
    """
    source = Path(source)
    if source.is_file():
        return add_archive(source, name, shelf=shelf, progress=progress)
    return Added(link_folder(source, name, shelf), 0, [], [])


def add_archive(
    source: Path | BinaryIO,
    name: str,
    *,
    shelf: Path | None = None,
    source_name: str = "",
    progress: IngestProgress | None = None,
) -> Added:
    """Unpack a zip or tar.gz archive of pictures into a new data set.

    Parameters
    ----------
    source : Path or binary stream
        A stream is copied to the disk first, in pieces, whatever its length.
    name : str
        Of the new data set.
    shelf : Path, optional
        Default: `bc_model.data.sets.datasets_folder`.
    source_name : str
        What to call the archive; default its file name.
    progress : callable, optional

    Returns
    -------
    Added

    Raises
    ------
    DataError
        The name is taken or cannot be one, or the disk has no room.
    ArchiveError
        Not an archive, damaged, without a picture, or refused; see `bc_model.data.unpack`.
    """
    target = free_place(name, shelf)
    with _staging(target) as staging:
        if isinstance(source, Path):
            called, file = source_name or source.name, source
        else:
            called, file = source_name or "The upload", staging / "upload"
            _copy(source, file, called, progress)
        found = _unpack(file, staging, called, progress)
        (staging / "upload").unlink(missing_ok=True)
        return _put_in_place(staging, target, called, found, _notes(found))


def add_download(
    name: str,
    *,
    url: str = OFFICIAL_URL,
    sha256: str = "",
    shelf: Path | None = None,
    progress: IngestProgress | None = None,
) -> Added:
    """Download an archive, check it, and unpack it into a new data set.

    A download that breaks off is gone on with, now or at the next call. The archive is deleted
    once its pictures are in place. What it holds is compared with BreakHis as published; a
    difference is told in the notes and is no error, since an extract may be what was wanted.

    Parameters
    ----------
    name : str
        Of the new data set.
    url : str
        The official archive unless said otherwise. Not for an address that a stranger typed: this
        machine would ask for it in its own name.
    sha256 : str
        What the archive's bytes must hash to; checked before anything is unpacked. The authors
        publish none: the first download tells it, later ones can be pinned to it.
    shelf, progress
        See `add_archive`.

    Returns
    -------
    Added

    Raises
    ------
    DownloadError
        It did not come to its end, or the bytes are others than `sha256` says. What came is kept.
    DataError, ArchiveError
        See `add_archive`. A damaged archive is deleted, so that the next call starts again.
    """
    pin = check_pin(sha256)
    check_address(url)
    target = free_place(name, shelf)
    downloads = target.parent / DOWNLOADS_FOLDER
    downloads.mkdir(exist_ok=True)
    told = (lambda done, total: progress("downloading", done, total)) if progress else None
    with fetch(url, downloads, sha256=pin, progress=told) as fetched, _staging(target) as staging:
        try:
            found = _unpack(fetched.path, staging, url.rpartition("/")[2] or url, progress)
        except ArchiveError:
            fetched.forget()
            raise
        notes = [*_notes(found), *_compare(found)]
        added = _put_in_place(staging, target, url, found, notes, sha256=fetched.sha256)
        fetched.forget()
    return added


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Make the folder that becomes `target`, and delete it when it does not."""
    staging = staging_folder(target.parent)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _copy(source: BinaryIO, file: Path, called: str, progress: IngestProgress | None) -> None:
    """Stream an upload to the disk."""
    done = 0
    with file.open("xb") as out:
        while chunk := source.read(CHUNK):
            require_room(file.parent, len(chunk), "The upload")
            done += len(chunk)
            if done > MAX_TOTAL_GB * 1e9:
                raise ArchiveError(f"{called} has more than {MAX_TOTAL_GB} GB; send a part of it.")
            out.write(chunk)
            if progress:
                progress("uploading", done, 0)


def _unpack(file: Path, staging: Path, called: str, progress: IngestProgress | None) -> Unpacked:
    told = (lambda done, total: progress("unpacking", done, total)) if progress else None
    with open_archive(file, called) as archive:
        return unpack(archive, staging / PICTURES_FOLDER, progress=told)


def _put_in_place(
    staging: Path, target: Path, source: str, found: Unpacked, notes: list[str], **details: str
) -> Added:
    describe_set(
        staging,
        kind="stored",
        pictures=PICTURES_FOLDER,
        source=source,
        notes=notes,
        n_skipped=len(found.skipped),
        skipped=found.skipped[:_SKIPPED_KEPT],
        **details,
    )
    put_in_place(staging, target)
    data_set = open_set(target.name, target.parent)
    return Added(data_set, len(found.pictures), found.skipped, notes)


def _notes(found: Unpacked) -> list[str]:
    notes = []
    if found.skipped:
        counts = Counter(reason for _, reason in found.skipped)
        words = ", ".join(f"{reason} ({count})" for reason, count in sorted(counts.items()))
        notes.append(f"Files of the archive that were left out: {words}.")
    paths = [path.lower().split("/") for path in found.pictures]
    if not any(parse_name(path.rpartition("/")[2]) for path in found.pictures) and not any(
        name in parts[:-1] for name in CLASSES for parts in paths
    ):
        notes.append(
            "No picture has a BreakHis name or lies in a folder named benign or malignant: to "
            "train or evaluate, its classes must be said."
        )
    return notes


def _compare(found: Unpacked) -> list[str]:
    differences = compare_with_official(path.rpartition("/")[2] for path in found.pictures)
    if not differences:
        return ["The pictures are as many as BreakHis has, in each class and magnification."]
    return [
        "This is not the whole of BreakHis as published.",
        *(check.message for check in differences),
    ]
