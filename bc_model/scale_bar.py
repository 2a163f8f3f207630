"""A scale bar on an image for display."""

from __future__ import annotations

import math

import cv2
import numpy as np

from bc_model.image_label import INK, PLATE, draw_text

_LARGEST_PART = 0.25
"""Largest length of the bar, relative to the width of the image."""
_ROUND = (5.0, 2.0, 1.0)
_MIN_SIDE_PX = 64


def find_bar_length(width_px: int, mpp: float) -> tuple[float, int]:
    """Return the length of a scale bar in µm, a round number, and in pixels.

    Parameters
    ----------
    width_px : int
        Width of the image.
    mpp : float
        µm per pixel of the image.

    Examples
    --------
    >>> find_bar_length(700, 0.55)
    (50.0, 91)
    """
    longest = _LARGEST_PART * width_px * mpp
    decade = 10.0 ** math.floor(math.log10(longest))
    length_um = next(step * decade for step in _ROUND if step * decade <= longest * (1 + 1e-9))
    return length_um, max(1, round(length_um / mpp))


def draw_scale_bar(image: np.ndarray, mpp: float) -> np.ndarray:
    """Return a copy of an image with a scale bar in its lower right corner.

    The bar is black on a white plate, which is readable on any tissue.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image at the size of its display. It is unchanged if a side has fewer than 64 pixels.
    mpp : float
        µm per pixel of this image, not of the original.

    Examples
    --------
    >>> marked = draw_scale_bar(np.full((460, 700, 3), 200, np.uint8), 0.55)
    >>> bool((marked[:350] == 200).all()), bool((marked == 0).any())
    (True, True)
    """
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE_PX:
        return image.copy()
    length_um, length_px = find_bar_length(width, mpp)
    label = f"{length_um:g} µm" if length_um < 1000 else f"{length_um / 1000:g} mm"
    text = draw_text(label, max(11, round(width / 45)))
    pad, thickness = max(4, width // 120), max(2, width // 200)
    plate_width = max(length_px, text.shape[1]) + 2 * pad
    plate_height = text.shape[0] + thickness + 3 * pad
    plate = np.full((plate_height, plate_width), PLATE, np.uint8)
    left = (plate_width - text.shape[1]) // 2
    plate[pad : pad + text.shape[0], left : left + text.shape[1]] = text
    left = (plate_width - length_px) // 2
    plate[-pad - thickness : -pad, left : left + length_px] = INK
    marked = image.copy()
    bottom, right = height - pad, width - pad
    top, start = max(0, bottom - plate_height), max(0, right - plate_width)
    shown = plate[-(bottom - top) :, -(right - start) :]
    marked[top:bottom, start:right] = cv2.merge([shown] * 3)
    return marked
