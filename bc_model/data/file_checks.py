"""How an image file was converted to 8-bit RGB, as checks."""

from __future__ import annotations

from collections.abc import Iterator

from bc_model.checks import Check, make_check
from bc_model.data.image_headers import read_header


def check_file(data: bytes, name: str = "") -> tuple[Check, ...]:
    """Return the conversions of an image file that a reader should know.

    BC165 (16 bits), BC166 (CMYK) and BC167 (one of several pages).

    Parameters
    ----------
    data : bytes
        Content of a PNG, JPEG or TIFF file.
    name : str
        Name of the image in error messages.

    Raises
    ------
    ImageError
        The file is not supported.
    """
    return tuple(_check(data, name))


def _check(data: bytes, name: str) -> Iterator[Check]:
    header = read_header(data, name)
    if header.bits > 8:
        yield make_check("BC165", bits=header.bits)
    if header.is_cmyk:
        yield make_check("BC166")
    if header.n_pages > 1:
        yield make_check("BC167", page=header.page, n_pages=header.n_pages)
