"""Bytes to pixels: the one road into the network, for training and serving alike.

bytes -> checks -> RGB uint8 -> common field -> resize. The other half, float32 and the
backbone's own preprocessing, is inside the graph.
"""

import io
import logging
import os
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bc_model.data.breakhis import CLASSES, IMAGE_SUFFIXES
from bc_model.errors import DataError, FolderNotFoundError, ImageError
from bc_model.utils.io import write_bytes_atomic

MAX_FILE_MB = 64
MAX_PIXELS = 40_000_000
MIN_SIDE_PX = 32
FORMATS = ("PNG", "JPEG", "TIFF")

FRAME_PX = (700, 460)
"""Width and height of an official BreakHis frame."""
FIELD_PX = (700, 456)
"""The field that every official frame has: 456 px high ones come from few malignant slides."""

# Pillow warns of what the checks here refuse, and of metadata that nobody reads. Filters are of the
# whole process: set once, since `catch_warnings` in several threads leaves them in disorder.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, struct.error)
"""What Pillow raises for damaged files; found by decoding thousands of mutated ones."""

_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr"})


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode a picture after checking it.

    The header is checked before any pixel is unpacked, so a picture too large costs nothing.
    Colour profiles and gamma chunks are ignored on purpose: the numbers in the file are what the
    network learned from, and every reader must see the same ones.

    Parameters
    ----------
    data : bytes
        The whole file, PNG, JPEG or TIFF, one frame, 8 bits a channel.
    name : str
        What to call the picture in a message. Never used as a path.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        RGB. Transparent pixels are laid on white, as on a slide scanner.

    Raises
    ------
    ImageError
        Empty, not a picture, truncated, too large, too small, several frames or 16-bit.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); export the picture again.", "empty")
    if len(data) > MAX_FILE_MB * 2**20:
        raise _too_many_bytes(name, len(data))
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_header(image, data, name)
            return _to_rgb(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        # Pillow refuses the largest ones itself, before it tells width and height.
        count = re.search(r"(\d+) pixels", str(error))
        million = f"{int(count[1]) / 1e6:.0f} million" if count else "far too many"
        raise _too_many_pixels(name, f"{million} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a PNG, JPEG or TIFF picture, whatever its name says; "
            "export it again from the microscope's software."
        ) from error
    except _DAMAGE as error:
        raise ImageError(
            f"{name} is damaged or cut short and cannot be decoded; copy or export it again."
        ) from error


def read_file(path: Path) -> bytes:
    """Read a picture file's bytes, unless there are too many.

    Raises
    ------
    ImageError
        No such file, not readable, or too large.
    """
    try:
        if (size := path.stat().st_size) > MAX_FILE_MB * 2**20:
            raise _too_many_bytes(path.name, size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"There is no picture {path}; check the path.") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error


def read_image(path: Path) -> np.ndarray:
    """Read and decode the picture at `path`; see `decode_image`."""
    return decode_image(read_file(path), path.name)


def is_official_shape(height: int, width: int) -> bool:
    """Tell whether a picture has the shape of a BreakHis frame, within 2 %, at any scale."""
    return abs(width / height / (FIELD_PX[0] / FIELD_PX[1]) - 1.0) <= 0.02


def field_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the common field of a picture as (top, left, height, width), px of the picture.

    Pictures within 2 % of the official shape (700x460 and 700x456 at any scale) are cut about
    their centre to exactly 700:456, so that neither the height nor a padding gives the slide
    away. Any other picture is taken whole: cutting half of a square picture would hide tissue
    from the verdict.

    Examples
    --------
    >>> field_box(460, 700)
    (2, 0, 456, 700)
    >>> field_box(224, 224)
    (0, 0, 224, 224)
    """
    if not is_official_shape(height, width):
        return 0, 0, height, width
    target = FIELD_PX[0] / FIELD_PX[1]
    field_height = min(height, round(width / target))
    field_width = min(width, round(height * target))
    return (height - field_height) // 2, (width - field_width) // 2, field_height, field_width


def preprocess_image(rgb: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Trim to the common field and resize: the first half of preprocessing.

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
    image_size : (int, int)
        Height and width of the network's input, px.

    Returns
    -------
    ndarray of shape (*image_size, 3), uint8
        Area averaging when shrinking (no aliasing), bilinear when enlarging.
    """
    top, left, field_height, field_width = field_box(*rgb.shape[:2])
    field = rgb[top : top + field_height, left : left + field_width]
    height, width = image_size
    if field.shape[:2] == (height, width):
        return np.ascontiguousarray(field)
    shrinks = field_height >= height and field_width >= width
    return cv2.resize(
        np.ascontiguousarray(field),
        (width, height),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )


def _check_header(image: Image.Image, data: bytes, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(name, f"{width} x {height} pixels")
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            f"{name} has {width} x {height} pixels; each side needs at least {MIN_SIDE_PX}.",
            "too small",
        )
    frames = getattr(image, "n_frames", 1)
    # A phone's JPEG may carry a second, smaller picture (MPO): the first one is the picture.
    if frames != 1 and image.format != "MPO":
        raise ImageError(
            f"{name} holds {frames} pictures in one file; save the one you want as its own file.",
            "unsupported",
        )
    # Pillow reads 16-bit colour as RGB and keeps the upper bytes: 12-bit data would turn black.
    if image.mode not in _MODES or _bits_a_channel(image, data) > 8:
        raise ImageError(
            f"{name} has more than 8 bits a channel (format {image.mode}); 8 are needed. "
            "Save it as 8-bit RGB.",
            "unsupported",
        )


def _bits_a_channel(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]  # IHDR: length, type, width and height come before the depth
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 8)  # type: ignore[attr-defined]
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _too_many_bytes(name: str, size: int) -> ImageError:
    return ImageError(
        f"{name} has {size / 2**20:.0f} MB; a picture may have at most {MAX_FILE_MB} MB. "
        "Save a smaller field of view.",
        "too large",
    )


def _too_many_pixels(name: str, came: str) -> ImageError:
    return ImageError(
        f"{name} has {came}; a picture may have at most {MAX_PIXELS // 10**6} million pixels. "
        "Save a smaller field of view.",
        "too large",
    )


def _to_rgb(image: Image.Image) -> np.ndarray:
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, rgba)
    return np.asarray(upright.convert("RGB"), dtype=np.uint8)


_HEATMAP = re.compile(rf"-(?=[0-9]*[a-f])[0-9a-f]{{8}}-({'|'.join(CLASSES)})\.png$")
"""The end of a name that `explain` gives to a heatmap; eight digits alone may be a date."""
_ENDS = tuple(f"-{name}.png" for name in CLASSES)
_OF_THE_SYSTEM = {"System Volume Information", "$RECYCLE.BIN", "lost+found"}
"""Folders at the root of a drive that nobody may read and that hold no pictures."""


def image_files(root: Path) -> list[Path]:
    """List the picture files under a folder, sorted; the heatmaps of `explain` are none.

    Raises
    ------
    FolderNotFoundError
        `root` does not exist or is not a folder.
    DataError
        No picture file lies under it, or a folder among it cannot be read.
    """
    try:
        there = root.is_dir()
    except OSError as error:  # such as a name that is too long
        raise FolderNotFoundError(
            f"There is no folder {root} ({error.strerror}); check the path of the data set."
        ) from error
    if not there:
        raise FolderNotFoundError(f"There is no folder {root}; check the path of the data set.")
    files = sorted(_walk(root), key=Path.as_posix)
    if not files:
        raise DataError(
            f"The folder {root} holds no PNG, JPEG or TIFF picture at any depth (heatmaps do not "
            "count); point to the folder that holds the pictures."
        )
    return files


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=False, onerror=_refuse_unread):
        # Hidden files are macOS and editor droppings ("._x.png"), never pictures.
        folders[:] = [one for one in folders if one[0] != "." and one not in _OF_THE_SYSTEM]
        beside = set(names)
        for name in names:
            is_image = name[0] != "." and Path(name).suffix.lower() in IMAGE_SUFFIXES
            has_raw_map = name.endswith(_ENDS) and f"{name[:-4]}.npy" in beside
            if is_image and not has_raw_map and not _HEATMAP.search(name):
                yield Path(folder) / name


def _refuse_unread(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename} cannot be read ({error.strerror}), so what is in it would be "
        "left out; grant access to it, or move it elsewhere."
    ) from error


QUALITY = 85


def thumbnail(path: Path, sha256: str, *, side_px: int = 192, cache: Path | None = None) -> bytes:
    """Return a picture as a JPEG that fits a square.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of its pixels, as a manifest says. A thumbnail that is kept under it is returned without
        reading the picture.
    side_px : int
        Of the square, 16 to 1024; the picture keeps its shape and is never enlarged.
    cache : Path, optional
        Where thumbnails are kept.

    Returns
    -------
    bytes

    Raises
    ------
    ImageError
        The picture cannot be read any more.
    ValueError
        `sha256` or `side_px` is none.
    """
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not 16 <= side_px <= 1024:
        raise ValueError(f"no thumbnail of {sha256!r} at {side_px} px")
    kept = cache / f"thumbnails-{side_px}" / sha256[:2] / f"{sha256}.jpg" if cache else None
    if kept and kept.is_file():
        try:
            return kept.read_bytes()
        except OSError:
            pass  # deleted meanwhile: it is made again
    image = Image.fromarray(read_image(path))
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    if kept:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(kept, buffer.getvalue())
        except OSError:
            pass  # a disk that is full or read-only costs speed alone
    return buffer.getvalue()
