"""Image files: finding, reading, decoding and preprocessing them, and thumbnails.

Training and inference share one path from bytes to pixels: decode to 8-bit RGB, crop official
frames to the field of view, resize. The model itself contains the backbone's normalization.
"""

import io
import logging
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
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
"""Field of view in every official frame: frames 456 px high come from few malignant slides."""
FIELD_RATIO = FIELD_PX[0] / FIELD_PX[1]

_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr"})
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, struct.error,
)  # fmt: skip
"""Errors of Pillow for damaged files, found by decoding thousands of mutated files."""

_HEATMAP_NAME = re.compile(rf"-(?=[0-9]*[a-f])[0-9a-f]{{8}}-({'|'.join(CLASSES)})\.png$")
"""End of the name of a heatmap file. Eight decimal digits alone may be a date."""
_HEATMAP_ENDINGS = tuple(f"-{name}.png" for name in CLASSES)
_SYSTEM_FOLDERS = {"System Volume Information", "$RECYCLE.BIN", "lost+found"}
_JPEG_QUALITY = 85

# Pillow warns about images that the checks here refuse, and about unused metadata. Warning filters
# belong to the process, and `catch_warnings` is not thread-safe, so they are set once.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def read_image(path: str | Path) -> np.ndarray:
    """Return the pixels of an image file.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG or TIFF file with one frame and 8 bits per channel.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Image in RGB; see `decode_image`.

    Raises
    ------
    ImageError
        The file cannot be read or decoded.

    Examples
    --------
    >>> read_image("field.png").shape  # doctest: +SKIP
    (460, 700, 3)
    """
    path = Path(path)
    return decode_image(read_image_bytes(path), path.name)


def read_image_bytes(path: Path) -> bytes:
    """Return the bytes of an image file; raise `ImageError` if it is missing or too large."""
    try:
        if (size := path.stat().st_size) > MAX_FILE_MB * 2**20:
            raise _file_too_large(path.name, size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"There is no image {path}. Check the path.") from error
    except OSError as error:
        raise ImageError(
            f"The image {path} cannot be read ({error.strerror}). Check its permissions."
        ) from error


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of an encoded image.

    The header is checked before any pixel is decoded. Color profiles and gamma values are ignored,
    so that all images are decoded like the training images.

    Parameters
    ----------
    data : bytes
        Content of a PNG, JPEG or TIFF file with one frame and 8 bits per channel.
    name : str
        Name of the image in error messages.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Image in RGB. Transparent pixels are blended with white, the color of empty glass.

    Raises
    ------
    ImageError
        The image is empty, damaged, too large, too small, or unsupported.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Export the image again.", "empty")
    if len(data) > MAX_FILE_MB * 2**20:
        raise _file_too_large(name, len(data))
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _require_supported(image, data, name)
            return _convert_to_rgb(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        # Pillow refuses the largest images before it returns width and height.
        count = re.search(r"(\d+) pixels", str(error))
        raise _too_many_pixels(name, int(count[1]) if count else None) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not an image. Expected PNG, JPEG or TIFF content. Export the image again."
        ) from error
    except _DECODE_ERRORS as error:
        raise ImageError(
            f"{name} is damaged or incomplete. Copy or export the image again."
        ) from error


def preprocess_image(rgb: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return an image that is cropped to the field of view and resized.

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
        Image in RGB.
    image_size : (int, int)
        Height and width of the model input, px.

    Returns
    -------
    ndarray of shape (*image_size, 3), uint8
        Resized by area averaging if both sides shrink, else by bilinear interpolation.

    Examples
    --------
    >>> preprocess_image(np.zeros((460, 700, 3), np.uint8), (224, 224)).shape
    (224, 224, 3)
    """
    field = np.ascontiguousarray(crop_to_field(rgb))
    height, width = image_size
    if field.shape[:2] == (height, width):
        return field
    shrinks = field.shape[0] >= height and field.shape[1] >= width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(field, (width, height), interpolation=interpolation)


def crop_to_field(rgb: np.ndarray) -> np.ndarray:
    """Return the field of view of an image, as a view of it; see `field_of_view`.

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
        Image in RGB.

    Examples
    --------
    >>> crop_to_field(np.zeros((460, 700, 3), np.uint8)).shape
    (456, 700, 3)
    """
    top, left, height, width = field_of_view(*rgb.shape[:2])
    return rgb[top : top + height, left : left + width]


def field_of_view(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the field of view of an image as (top, left, height, width), px.

    Images with an official aspect ratio are cropped about their center to 700:456, so that neither
    the height nor a padding reveals the slide. All other images are used completely, because
    cropping could remove tissue.

    Examples
    --------
    >>> field_of_view(460, 700)
    (2, 0, 456, 700)
    >>> field_of_view(224, 224)
    (0, 0, 224, 224)
    """
    if not has_official_shape(height, width):
        return 0, 0, height, width
    field_height = min(height, round(width / FIELD_RATIO))
    field_width = min(width, round(height * FIELD_RATIO))
    return (height - field_height) // 2, (width - field_width) // 2, field_height, field_width


def has_official_shape(height: int, width: int) -> bool:
    """Return whether the aspect ratio is that of a BreakHis frame, within 2 %."""
    return abs(width / height / FIELD_RATIO - 1.0) <= 0.02


def list_image_files(root: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted, without heatmaps.

    Raises
    ------
    FolderNotFoundError
        `root` does not exist or is not a folder.
    DataError
        The folder contains no image, or a subfolder cannot be read.
    """
    try:
        is_folder, reason = root.is_dir(), ""
    except OSError as error:  # For example, the name is too long.
        is_folder, reason = False, f" ({error.strerror})"
    if not is_folder:
        raise FolderNotFoundError(
            f"There is no folder {root}{reason}. Check the path or name of the dataset."
        )
    files = sorted(_walk_images(root), key=Path.as_posix)
    if not files:
        raise DataError(
            f"The folder {root} contains no images. Expected PNG, JPEG or TIFF files at any depth; "
            "heatmaps do not count. Select the folder that contains the images."
        )
    return files


def make_thumbnail(
    path: Path, sha256: str, *, side_px: int = 192, cache_dir: Path | None = None
) -> bytes:
    """Return a thumbnail of an image as JPEG, without upsampling.

    `side_px` is the largest width and height, 16 to 1024. `sha256`, the hash of the pixels, is the
    key in the optional cache. Raises `ImageError` if the image cannot be read.
    """
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not 16 <= side_px <= 1024:
        raise ValueError(f"Invalid thumbnail: sha256={sha256!r}, side_px={side_px}.")
    name = f"thumbnails-{side_px}/{sha256[:2]}/{sha256}.jpg"
    if cached := cache_dir / name if cache_dir else None:
        with suppress(OSError):  # It is not cached.
            return cached.read_bytes()
    image = Image.fromarray(read_image(path))
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    if cached:
        with suppress(OSError):  # The cache only saves time.
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(cached, buffer.getvalue())
    return buffer.getvalue()


def _require_supported(image: Image.Image, data: bytes, name: str) -> None:
    """Raise `ImageError` if the header shows an image that cannot be used."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(name, width * height)
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            f"{name} is too small. Expected at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels, got "
            f"{width} x {height}. Export a larger image.",
            "too small",
        )
    n_frames = getattr(image, "n_frames", 1)
    # The JPEG of a phone may contain a second, smaller image (MPO); the first one is used.
    if n_frames != 1 and image.format != "MPO":
        raise ImageError(
            f"{name} contains {n_frames} images. Expected one. Save each image as its own file.",
            "unsupported",
        )
    # Pillow keeps the upper bytes of 16-bit color, so that 12-bit data would become black.
    if image.mode not in _MODES or _bits_per_channel(image, data) > 8:
        raise ImageError(
            f"{name} has an unsupported pixel format. Expected 8 bits per channel, got more "
            f"({image.mode}). Save the image as 8-bit RGB.",
            "unsupported",
        )


def _bits_per_channel(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]  # In the IHDR chunk, after the width and height.
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 8)  # type: ignore[attr-defined]
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _file_too_large(name: str, size: int) -> ImageError:
    return ImageError(
        f"{name} is too large. Expected at most {MAX_FILE_MB} MB, got {size / 2**20:.0f} MB. Save "
        "a smaller field of view.",
        "too large",
    )


def _too_many_pixels(name: str, n_pixels: int | None) -> ImageError:
    count = "more" if n_pixels is None else f"{n_pixels / 1e6:.0f} million"
    return ImageError(
        f"{name} is too large. Expected at most {MAX_PIXELS // 10**6} million pixels, got {count}. "
        "Save a smaller field of view.",
        "too large",
    )


def _convert_to_rgb(image: Image.Image) -> np.ndarray:
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, rgba)
    return np.asarray(upright.convert("RGB"), dtype=np.uint8)


def _walk_images(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=False, onerror=_raise_unreadable):
        # Hidden files such as "._x.png" come from macOS and editors, and are never images.
        folders[:] = [name for name in folders if name[0] != "." and name not in _SYSTEM_FOLDERS]
        siblings = set(names)
        for name in names:
            is_image = name[0] != "." and Path(name).suffix.lower() in IMAGE_SUFFIXES
            has_raw_map = name.endswith(_HEATMAP_ENDINGS) and f"{name[:-4]}.npy" in siblings
            if is_image and not has_raw_map and not _HEATMAP_NAME.search(name):
                yield Path(folder) / name


def _raise_unreadable(error: OSError) -> None:
    raise DataError(
        f"The folder {error.filename} cannot be read ({error.strerror}), so its images would be "
        "missing. Grant access to it, or move it elsewhere."
    ) from error
