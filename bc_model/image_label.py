"""Text on an image for display."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PLATE, INK = 255, 0
"""Gray values of text and its background."""
_MIN_SIDE_PX = 64


def mark_image(image: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of an image with a line of text in its upper left corner.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image. It is unchanged if a side has fewer than 64 pixels.
    text : str
        Short text. It is made small enough for the width.

    Examples
    --------
    >>> marked = mark_image(np.full((460, 700, 3), 200, np.uint8), "Blocked")
    >>> bool((marked[:60] == 255).any()), bool((marked[60:] == 200).all())
    (True, True)
    """
    height, width = image.shape[:2]
    marked = image.copy()
    if min(height, width) < _MIN_SIDE_PX:
        return marked
    label = draw_text(text, max(11, round(min(width / 40, height / 8))))
    pad = max(2, label.shape[0] // 3)
    plate = cv2.copyMakeBorder(label, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(PLATE,) * 3)
    if plate.shape[1] > width:
        size = (width, max(1, plate.shape[0] * width // plate.shape[1]))
        plate = cv2.resize(plate, size, interpolation=cv2.INTER_AREA)
    marked[: plate.shape[0], : plate.shape[1]] = cv2.merge([plate] * 3)[:height]
    return marked


def draw_text(text: str, size_px: int) -> np.ndarray:
    """Return a text as black on white, shape (height, width), uint8.

    `size_px` is the size of the font.
    """
    font = ImageFont.truetype(_font_path(), size_px)
    left, top, right, bottom = (round(value) for value in font.getbbox(text))
    label = Image.new("L", (right - left + 2, bottom - top + 2), PLATE)
    ImageDraw.Draw(label).text((1 - left, 1 - top), text, fill=INK, font=font)
    return np.asarray(label)


@cache
def _font_path() -> str:
    """Return a font with the letter µ, which the default font of Pillow lacks.

    Matplotlib contains one. It is located without importing the package, which takes a second.
    """
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")
