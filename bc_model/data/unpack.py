"""Archives of pictures, unpacked as if everyone who makes one were an enemy.

Refused whole: paths that lead out, links and devices, encryption, the same name twice, and bombs.
Left out and listed: whatever is not a picture by its name and its first bytes, be it a licence, a
program or an archive inside. Nothing else is taken: no permissions, owners or times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bc_model.data.archive_guards import Names, require_no_bomb, require_room, why_not
from bc_model.data.archives import Archive, Entry
from bc_model.errors import ArchiveError

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""PNG, JPEG, TIFF and BigTIFF of both byte orders."""


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Attributes
    ----------
    pictures : list of str
        Paths relative to the folder.
    skipped : list of (str, str)
        Path and reason of each file left out: hidden, archive inside, not a picture, too large,
        not what its name says.
    """

    pictures: list[str]
    skipped: list[tuple[str, str]]


def unpack(
    archive: Archive, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> Unpacked:
    """Write the pictures of an archive into a new folder.

    Parameters
    ----------
    archive : Archive
    folder : Path
        Made. Whoever calls deletes it when this fails.
    progress : callable, optional
        Called with (bytes of the archive read, bytes in all).

    Returns
    -------
    Unpacked

    Raises
    ------
    ArchiveError
        It is damaged, holds no picture, or is refused as the module says.
    DataError
        The disk has no room.
    """
    require_room(folder.parent, archive.unpacked_size or archive.size, "Unpacking")
    folder.mkdir()
    names = Names(archive.name)
    found = Unpacked([], [])
    written = 0
    for entry in archive.entries:
        names.add(entry.path)
        reason = why_not(entry.path, entry.size)
        if not reason:
            size = _write(archive, entry, folder / entry.path, written)
            written += size
            reason = "" if size else "not what its name says"
        if reason:
            found.skipped.append((str(entry.path), reason))
        else:
            found.pictures.append(str(entry.path))
        if progress:
            progress(archive.consumed(), archive.size)
    if not found.pictures:
        inside = sum(reason == "archive inside" for _, reason in found.skipped)
        hint = f"; archives inside it ({inside}) are not opened" if inside else ""
        raise ArchiveError(
            f"{archive.name} holds no PNG, JPEG or TIFF picture among {len(found.skipped)} "
            f"files{hint}."
        )
    return found


def _write(archive: Archive, entry: Entry, target: Path, written: int) -> int:
    """Write one picture and return its bytes; 0, and no file, when its content is none."""
    size = 0
    chunks = entry.chunks()
    first = next(chunks, b"")
    if not first.startswith(_SIGNATURES):
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for chunk in chain([first], chunks):
            size += len(chunk)
            require_no_bomb(archive.name, written + size, archive.size)
            file.write(chunk)
    return size
