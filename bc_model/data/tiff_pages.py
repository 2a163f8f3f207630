"""The pages of a TIFF file: listing them, and one of them as a file of its own."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass

from bc_model.data.image_headers import MAX_TIFF_DIRECTORIES
from bc_model.data.tiff import TiffStructure
from bc_model.errors import ImageError

_WIDTH, _HEIGHT = 256, 257


@dataclass(frozen=True)
class TiffPage:
    """One image of a TIFF file.

    Attributes
    ----------
    number : int
        Position among the images, from 1. Thumbnails are not counted.
    width_px, height_px : int
        Size of the image, before its orientation is applied.
    """

    number: int
    width_px: int
    height_px: int


def list_pages(data: bytes) -> tuple[TiffPage, ...]:
    """Return the images of a TIFF file without thumbnails; empty for other or damaged files.

    Parameters
    ----------
    data : bytes
        Content of an image file.

    Examples
    --------
    >>> list_pages(b"no TIFF file")
    ()
    """
    pages = []
    with suppress(ValueError, LookupError, struct.error):
        structure = TiffStructure(data)
        for number, offset in enumerate(structure.page_offsets(MAX_TIFF_DIRECTORIES), start=1):
            fields = structure.read_directory(offset)
            (width,) = structure.read_integers(fields[_WIDTH], 1)
            (height,) = structure.read_integers(fields[_HEIGHT], 1)
            pages.append(TiffPage(number, width, height))
    return tuple(pages)


def find_default_page(pages: tuple[TiffPage, ...]) -> int:
    """Return the number of the largest page, which readers use; of equal ones, the first.

    Examples
    --------
    >>> find_default_page((TiffPage(1, 90, 60), TiffPage(2, 700, 460), TiffPage(3, 700, 460)))
    2
    """
    return max(pages, key=lambda page: (page.width_px * page.height_px, -page.number)).number


def select_page(data: bytes, page: int, name: str = "") -> bytes:
    """Return the content of a file that contains one page of a TIFF file, with its metadata.

    Parameters
    ----------
    data : bytes
        Content of an image file.
    page : int
        Number of the image, from 1.
    name : str
        Name of the file in error messages.

    Returns
    -------
    bytes
        The same content, with the directory of the page as the only one. A file of another format
        has one page and is returned unchanged.

    Raises
    ------
    ImageError
        The file has fewer pages.
    """
    offsets: list[int] = []
    with suppress(ValueError, LookupError, struct.error):
        structure = TiffStructure(data)
        offsets = structure.page_offsets(MAX_TIFF_DIRECTORIES)
    n_pages = max(1, len(offsets))
    if not 1 <= page <= n_pages:
        raise ImageError(
            f"{name or 'The file'} has no page {page}. Expected 1 to {n_pages}. Select another "
            "page.",
            "unsupported",
        )
    return structure.isolate_directory(offsets[page - 1]) if n_pages > 1 else data
