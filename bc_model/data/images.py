"""Image files: finding, reading, decoding and preprocessing them, and thumbnails.

Training and inference share one path from bytes to pixels: decode to 8-bit RGB, crop official
frames to the field of view, resize. The model itself contains the backbone's normalization.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bc_model.data.breakhis import CLASSES, IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from bc_model.data.image_decoder import open_decoder
from bc_model.data.image_headers import MAX_FILE_MB, require_file_size
from bc_model.data.tiff_pages import select_page
from bc_model.errors import DataError, FolderNotFoundError, ImageError
from bc_model.utils.io import open_regular, read_bytes, read_stream, write_bytes_atomic

FRAME_PX = (700, 460)
"""Width and height of an official BreakHis frame."""
FIELD_PX = (700, 456)
"""Field of view in every official frame: frames 456 px high come from few malignant slides."""
FIELD_RATIO = FIELD_PX[0] / FIELD_PX[1]

Decode = Callable[[bytes, str], np.ndarray]
"""Returns the pixels for the content and the name of an image file."""

HEATMAP_KINDS = (*CLASSES, "contribution", "grad-cam-plus-plus", "layer-cam", "occlusion")
"""Last part of the names of heatmap files: a class for Grad-CAM, or another kind of map."""
_HEATMAP_NAME = re.compile(rf"-(?=[0-9]*[a-f])[0-9a-f]{{8}}-({'|'.join(HEATMAP_KINDS)})\.png$")
"""End of the name of a heatmap file. Eight decimal digits alone may be a date."""
_HEATMAP_ENDINGS = tuple(f"-{kind}.png" for kind in HEATMAP_KINDS)
_SYSTEM_FOLDERS = {"System Volume Information", "$RECYCLE.BIN", "lost+found"}
_JPEG_QUALITY = 85


def read_image_bytes(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises
    ------
    ImageError
        The file is missing, unreadable or too large, or is not a regular file.
    """
    try:
        with open_regular(path) as stream:
            require_file_size(os.fstat(stream.fileno()).st_size, path.name)
            return read_stream(stream, MAX_FILE_MB * 2**20)
    except FileNotFoundError as error:
        raise ImageError(f"There is no image {path}. Check the path.") from error
    except OSError as error:
        raise ImageError(
            f"The image {path} cannot be read ({error.strerror}). Check the file and its "
            "permissions."
        ) from error


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of an encoded image.

    The header is checked before any pixel is decoded. Metadata other than the orientation are
    ignored, also if they are damaged. Color profiles and gamma values are part of them, so that
    all images are decoded like the training images.

    Parameters
    ----------
    data : bytes
        Content of a PNG, JPEG or TIFF file with one frame and 8 bits per channel.
    name : str
        Name of the image in error messages.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Image in RGB. Transparent pixels are blended with white, the color of empty glass; an alpha
        channel with the same value everywhere is ignored.

    Raises
    ------
    ImageError
        The image is empty, damaged, too large, too small, or unsupported.

    See Also
    --------
    DecodePool : Decode untrusted images in processes with limits.
    """
    decoder = open_decoder(data, name)
    rgb = np.empty((decoder.height_px, decoder.width_px, 3), np.uint8)
    position, values = 0, rgb.reshape(-1)
    for strip in decoder.strips():
        values[position : position + len(strip)] = np.frombuffer(strip, np.uint8)
        position += len(strip)
    return rgb


def read_image(
    path: str | Path, *, page: int | None = None, decode: Decode = decode_image
) -> np.ndarray:
    """Return the pixels of an image file.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG or TIFF file.
    page : int, optional
        Page of a TIFF file, from 1. The default is its largest page.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of the file, such as `DecodePool.decode`.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        Image in RGB; see `decode_image`.

    Raises
    ------
    ImageError
        The file cannot be read or decoded, or has no such page.

    Examples
    --------
    >>> read_image("field.png").shape  # doctest: +SKIP
    (460, 700, 3)
    """
    path = Path(path)
    data = read_image_bytes(path)
    return decode(data if page is None else select_page(data, page, path.name), path.name)


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


def is_enlarged(width_px: int, height_px: int, image_size: tuple[int, int]) -> bool:
    """Return whether an image has fewer pixels than the network input in a direction.

    Enlarging makes it less sharp than training images.

    Parameters
    ----------
    width_px, height_px : int
        Size of the image.
    image_size : (int, int)
        Height and width of the network input, px.

    Examples
    --------
    >>> is_enlarged(700, 460, (224, 336)), is_enlarged(224, 224, (224, 336))
    (False, True)
    """
    return width_px < image_size[1] or height_px < image_size[0]


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


def find_unused_files(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield the images and folders below a folder that `list_image_files` leaves out.

    Hidden files, system folders, heatmaps and files that are no images are not listed.

    Yields
    ------
    Path
        A file of another image format, or a linked folder.
    str
        The reason: 'other format' or 'linked folder'.
    str
        A sentence with the remedy.
    """
    for folder, folders, names in _walk(root):
        for name in folders:
            path = Path(folder) / name
            if path.is_symlink():
                detail = "A linked folder is not read. Copy its images, or register its target."
                yield path, "linked folder", detail
        for name in names:
            suffix = Path(name).suffix.lower()
            if name[0] != "." and suffix in OTHER_IMAGE_SUFFIXES:
                detail = f"The format {suffix} is not read. Save the image as PNG or TIFF."
                yield Path(folder) / name, "other format", detail


def make_thumbnail(
    path: Path,
    sha256: str,
    *,
    side_px: int = 192,
    cache_dir: Path | None = None,
    decode: Decode = decode_image,
) -> bytes:
    """Return a thumbnail of an image as JPEG, without upsampling.

    `side_px` is the largest width and height, 16 to 1024. `sha256`, the hash of the pixels, is the
    key in the optional cache. `decode` is that of `read_image`. Raises `ImageError` if the image
    cannot be read.
    """
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not 16 <= side_px <= 1024:
        raise ValueError(f"Invalid thumbnail: sha256={sha256!r}, side_px={side_px}.")
    name = f"thumbnails-{side_px}/{sha256[:2]}/{sha256}.jpg"
    if cached := cache_dir / name if cache_dir else None:
        with suppress(OSError):  # It is not cached.
            return read_bytes(cached)
    image = Image.fromarray(read_image(path, decode=decode))
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    if cached:
        with suppress(OSError):  # The cache only saves time.
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(cached, buffer.getvalue())
    return buffer.getvalue()


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk through a folder without hidden and system folders, and without following links."""
    for folder, folders, names in os.walk(root, followlinks=False, onerror=_raise_unreadable):
        folders[:] = [name for name in folders if name[0] != "." and name not in _SYSTEM_FOLDERS]
        yield folder, folders, names


def _walk_images(root: Path) -> Iterator[Path]:
    for folder, _, names in _walk(root):
        # Hidden files such as "._x.png" come from macOS and editors, and are never images.
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
