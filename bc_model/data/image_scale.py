"""The scale of an image, from the metadata of its file."""

import html
import re
import struct
from dataclasses import dataclass

from bc_model.data.image_headers import read_header
from bc_model.data.tiff import TiffStructure
from bc_model.data.tiff_pages import find_default_page, list_pages, select_page

MIN_MPP = 0.05
MAX_MPP = 20.0
"""Range of microscopes and slide scanners, in µm per pixel.

Software writes 72, 96 or 300 dots per inch by default, which are 353, 265 and 85 µm per pixel.
"""

_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 282, 283, 296
_MAX_DESCRIPTION_BYTES = 2**16
"""Only the beginning is read. Descriptions of slide scanners have some kilobytes."""
_MAX_PNG_CHUNKS = 1000
_UM_PER_UNIT = {1: None, 2: 25_400.0, 3: 10_000.0}
"""Of the TIFF resolution: none, inch and centimeter."""
_UM_PER_OME_UNIT = {"nm": 1e-3, "um": 1.0, "\u00b5m": 1.0, "\u03bcm": 1.0, "mm": 1e3, "cm": 1e4}
# Every repetition is bounded, because the time of nested ones is quadratic.
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{0,30})?(?:[eE][-+]?[0-9]{1,3})?)"
_APERIO_MPP = re.compile(rf"\bMPP\s{{0,9}}=\s{{0,9}}{_NUMBER}")
_IMAGEJ_UNIT = re.compile(r"^unit=(?:micron|um|\u00b5m|\\u00B5m)[ \t\r]{0,9}$", re.MULTILINE)


@dataclass(frozen=True)
class ImageScale:
    """The size of a pixel in the specimen.

    Attributes
    ----------
    mpp_x, mpp_y : float
        Width and height of a pixel, in µm.
    source : str
        Metadata that contain the scale: 'OME-XML', 'Aperio', 'ImageJ', 'TIFF resolution',
        'PNG pHYs' or 'JPEG density'.

    Examples
    --------
    >>> ImageScale(0.5, 0.5, "Aperio").mpp
    0.5
    """

    mpp_x: float
    mpp_y: float
    source: str

    @property
    def mpp(self) -> float:
        """Mean of the width and height of a pixel, in µm."""
        return (self.mpp_x + self.mpp_y) / 2


def read_scale(data: bytes) -> ImageScale | None:
    """Return the scale of an encoded image, or None if the file contains none.

    Values outside the range of microscopes are ignored: most are defaults of software. Damaged
    metadata are ignored as well.

    Parameters
    ----------
    data : bytes
        Content of a PNG, JPEG or TIFF file.

    Notes
    -----
    Image editors keep the scale when they resize an image. The value is a hint, not a measurement.
    """
    try:
        if data.startswith(b"\x89PNG"):
            scale = _read_png_scale(data)
        elif data.startswith(b"\xff\xd8"):
            scale = _read_jpeg_scale(data)
        else:
            scale = _read_tiff_scale(data)
        if scale is None or not all(
            MIN_MPP <= mpp <= MAX_MPP for mpp in (scale.mpp_x, scale.mpp_y)
        ):
            return None
        if scale.mpp_x != scale.mpp_y and read_header(data, "").orientation >= 5:
            return ImageScale(scale.mpp_y, scale.mpp_x, scale.source)  # The image is turned.
    except (ValueError, LookupError, ArithmeticError, struct.error):
        return None
    return scale


def _read_png_scale(data: bytes) -> ImageScale | None:
    position = 8
    for _ in range(_MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"pHYs":
            x, y, unit = struct.unpack_from(">IIB", data, position + 8)
            return ImageScale(1e6 / x, 1e6 / y, "PNG pHYs") if unit == 1 else None
        if kind == b"IDAT":
            return None
        position += 12 + length
    return None


def _read_jpeg_scale(data: bytes) -> ImageScale | None:
    if data[2:4] != b"\xff\xe0" or data[6:11] != b"JFIF\0":
        return None
    unit, x, y = struct.unpack_from(">BHH", data, 13)
    um = {1: 25_400.0, 2: 10_000.0}.get(unit)
    return ImageScale(um / x, um / y, "JPEG density") if um else None


def _read_tiff_scale(data: bytes) -> ImageScale | None:
    if len(pages := list_pages(data)) > 1:
        # Pages can have different scales.
        data = select_page(data, find_default_page(pages))
    structure = TiffStructure(data)
    fields = structure.read_directory(structure.first_offset)
    text = ""
    if _DESCRIPTION in fields:
        text = structure.read_text(fields[_DESCRIPTION], _MAX_DESCRIPTION_BYTES)
    if "<OME" in text and (scale := _read_ome_scale(text)):
        return scale
    if match := _APERIO_MPP.search(text):
        return ImageScale(float(match[1]), float(match[1]), "Aperio")
    x = structure.read_rational(fields[_X_RESOLUTION])
    y = structure.read_rational(fields[_Y_RESOLUTION])
    if text.startswith("ImageJ") and _IMAGEJ_UNIT.search(text):
        return ImageScale(1 / x, 1 / y, "ImageJ")
    (unit,) = (
        structure.read_integers(fields[_RESOLUTION_UNIT], 1) if _RESOLUTION_UNIT in fields else (2,)
    )
    um = _UM_PER_UNIT.get(unit)
    return ImageScale(um / x, um / y, "TIFF resolution") if um else None


def _read_ome_scale(text: str) -> ImageScale | None:
    mpp: dict[str, float] = {}
    for axis in "XY":
        number = re.search(rf'\bPhysicalSize{axis}="{_NUMBER}"', text)
        unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]{{1,10}})"', text)
        um = _UM_PER_OME_UNIT.get(html.unescape(unit[1])) if unit else 1.0
        if number is None or um is None:
            return None
        mpp[axis] = float(number[1]) * um
    return ImageScale(mpp["X"], mpp["Y"], "OME-XML")
