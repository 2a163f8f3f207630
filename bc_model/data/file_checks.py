"""How an image file was converted to 8-bit RGB, as checks."""

from __future__ import annotations

from collections.abc import Iterator

from bc_model.checks import Check, make_check
from bc_model.data.image_headers import FULL_PIXELS, read_header
from bc_model.data.tiff_pages import list_pages, select_page


def check_file(data: bytes, name: str = "", page: int | None = None) -> tuple[Check, ...]:
    """Return the conversions of an image file that a reader should know.

    BC165 (16 bits), BC166 (CMYK), BC167 (one of several pages) and BC168 (half resolution).

    Parameters
    ----------
    data : bytes
        Content of a PNG, JPEG or TIFF file.
    name : str
        Name of the image in error messages.
    page : int, optional
        Page of a TIFF file. The default is its largest page.

    Raises
    ------
    ImageError
        The file is not supported, or has no such page.
    """
    return tuple(_check(data, name, page))


def _check(data: bytes, name: str, page: int | None) -> Iterator[Check]:
    header = read_header(data if page is None else select_page(data, page, name), name)
    if header.bits > 8:
        yield make_check("BC165", bits=header.bits)
    if header.reduction > 1:
        yield make_check(
            "BC168",
            width_px=header.width_px,
            height_px=header.height_px,
            max_megapixels=FULL_PIXELS // 10**6,
        )
    if header.is_cmyk:
        yield make_check("BC166")
    n_pages = header.n_pages if page is None else len(list_pages(data))
    if n_pages > 1:
        yield make_check("BC167", page=page or header.page, n_pages=n_pages)
