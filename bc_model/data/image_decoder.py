"""Decode the pixels of an image file in strips of rows, so that memory holds them only once.

Used in this process by `images.decode_image`, and in the processes of `DecodePool`, whose start
is fast because this module needs only Pillow.
"""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from bc_model.data.image_bands import decode_bands
from bc_model.data.image_headers import ImageHeader, damaged, read_header, unsupported
from bc_model.errors import ImageError

_FORMATS = ("PNG", "JPEG", "TIFF")
_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr"})
_REDUCIBLE_MODES = frozenset({"L", "RGB", "CMYK"})
_STRIP_PIXELS = 2**18
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError,
    AssertionError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""Errors of Pillow for damaged files, found by decoding thousands of mutated files."""
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that makes an image with an EXIF orientation upright."""

# Pillow warns about images that the checks here refuse, and about unused metadata. Warning filters
# belong to the process, and `catch_warnings` is not thread-safe, so they are set once.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class ImageDecoder:
    """The upright pixels of an image file.

    Parameters
    ----------
    header : ImageHeader
        Header of the file.
    name : str
        Name of the image in error messages.

    Attributes
    ----------
    width_px, height_px : int
        Size of the upright image.

    Raises
    ------
    ImageError
        The pixels are damaged or unsupported.
    """

    def __init__(self, header: ImageHeader, name: str) -> None:
        self._is_premultiplied = header.is_premultiplied
        if header.bits > 8:
            self._image = _load_deep(header.content, name)
        elif header.reduction > 1 and not header.content.startswith(b"\xff\xd8"):
            self._image = _load_reduced(header, name)
        else:  # The codec of JPEG reduces the image itself.
            self._image = _load(header.content, name, header.reduction)
        if self._image.size != header.decoded_size:
            raise damaged(name)
        if header.orientation in _TRANSPOSITIONS:
            self._image = self._image.transpose(_TRANSPOSITIONS[header.orientation])
        self.width_px, self.height_px = self._image.size
        self._alpha = self._find_constant_alpha() if self._image.has_transparency_data else 0

    def strips(self) -> Iterator[bytes]:
        """Yield the RGB values of consecutive strips of rows, 3 bytes per pixel.

        Transparent pixels are blended with white. An alpha channel with one value everywhere
        contains no information: many cameras write 0 for it. It is ignored.
        """
        for strip in self._crop_strips():
            if self._alpha != 0:
                strip = self._to_rgba(strip)
            if self._alpha is None:
                white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
                strip = Image.alpha_composite(white, strip)
            yield strip.convert("RGB").tobytes()

    def _find_constant_alpha(self) -> int | None:
        values: set[Any] = set()
        for strip in self._crop_strips():
            values.update(self._to_rgba(strip).getchannel("A").getextrema())
            if len(values) > 1:
                return None
        return values.pop()

    def _to_rgba(self, strip: Image.Image) -> Image.Image:
        rgba = strip.convert("RGBA")
        if not self._is_premultiplied:
            return rgba
        return Image.frombytes("RGBa", rgba.size, rgba.tobytes()).convert("RGBA")

    def _crop_strips(self) -> Iterator[Image.Image]:
        n_rows = max(1, _STRIP_PIXELS // self.width_px)
        for top in range(0, self.height_px, n_rows):
            bottom = min(top + n_rows, self.height_px)
            yield self._image.crop((0, top, self.width_px, bottom))


def open_decoder(data: bytes, name: str) -> ImageDecoder:
    """Return the decoder of an image file, or raise `ImageError`."""
    return ImageDecoder(read_header(data, name), name)


def _load_deep(content: bytes, name: str) -> Image.Image:
    """Return an image with 16 bits per channel, converted to 8 bits by its own range.

    Cameras store 10 to 14 bits in 16, so the upper bytes alone would be almost black. The smallest
    value of all color channels becomes 0, and the largest becomes 255.
    """
    # Imported late, because few images have 16 bits. Pillow keeps their upper bytes only.
    import cv2
    import numpy as np

    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged(name) from error
    if pixels is None or pixels.dtype != np.uint16:
        raise damaged(name)
    alpha = pixels[..., 3:] if pixels.ndim == 3 and pixels.shape[2] == 4 else None
    colors = pixels if alpha is None else pixels[..., :3]
    low, high = int(colors.min()), int(colors.max())
    scale = 255.0 / max(1, high - low)
    # A table, because floating-point values of a large image need much memory.
    values = np.arange(2**16, dtype=np.float32)
    table = np.clip(np.rint((values - low) * scale), 0, 255).astype(np.uint8)
    converted = table[colors]
    if converted.ndim == 3:
        converted = np.ascontiguousarray(converted[..., ::-1])  # OpenCV stores blue first.
    if alpha is not None:
        converted = np.dstack([converted, (alpha // 256).astype(np.uint8)])
    return Image.fromarray(converted)


def _load_reduced(header: ImageHeader, name: str) -> Image.Image:
    """Return an image with the means of blocks of pixels, which is decoded band by band."""
    factor, top = header.reduction, 0
    reduced = None
    bands = decode_bands(header.content, lambda band: _load(band, name), factor)
    try:
        for band in bands:
            if band.has_transparency_data:
                band = band.convert("RGBA")
            elif band.mode not in _REDUCIBLE_MODES:
                band = band.convert("RGB")
            # The channels are reduced one by one, because an alpha channel of zeros is ignored.
            parts = [band.getchannel(i).reduce(factor) for i in range(len(band.getbands()))]
            reduced = reduced or Image.new(band.mode, header.decoded_size)
            reduced.paste(Image.merge(band.mode, parts), (0, top // factor))
            top += band.height
    except ImageError:
        raise
    except (*_DECODE_ERRORS, zlib.error) as error:
        raise damaged(name) from error
    if reduced is None or top != header.height_px:
        raise damaged(name)
    return reduced


def _load(content: bytes, name: str, reduction: int = 1) -> Image.Image:
    """Return an image; a JPEG file may be decoded at a lower resolution."""
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except _DECODE_ERRORS as error:
        if content[:2] in (b"II", b"MM"):  # The directory is intact, as `read_header` has checked.
            received = "a combination of channels and bits that no decoder supports"
            raise unsupported(
                name, "8-bit RGB", received, "Save the image as 8-bit RGB."
            ) from error
        raise damaged(name) from error
    if image.mode not in _MODES:
        raise unsupported(
            name, "8 bits per channel", f"mode {image.mode}", "Save the image as 8-bit RGB."
        )
    if reduction > 1:
        # The sides of the result are rounded up.
        image.draft(None, (image.width // reduction, image.height // reduction))
    try:
        image.load()
    except _DECODE_ERRORS as error:
        raise damaged(name) from error
    except MemoryError as error:
        raise ImageError(
            f"{name} needs more memory than is available. Save a smaller field of view.",
            "too large",
        ) from error
    return image
