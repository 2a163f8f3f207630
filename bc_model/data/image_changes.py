"""Changes of an image that show what a prediction depends on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np

from bc_model.data.stain import augment_stain
from bc_model.errors import ConfigError

_OPTIONS = {
    "rectangle": "rectangle", "fill": "fill", "blur": "blur_px", "brightness": "brightness",
    "stain": "stain",
}  # fmt: skip
"""Name in the text of a change, and field of `ImageChange`."""
_MAX_BLUR_PX = 20.0
_MAX_FACTOR = 3.0
_HIDING_BLUR = 0.06
"""Standard deviation of the blur that hides a region, relative to the width of the image."""


class Fill(StrEnum):
    """How a region is replaced: by its mean color, by a strong blur, or by the tissue beside it."""

    MEAN_COLOR = "mean color"
    BLUR = "blur"
    NEIGHBORING_TISSUE = "neighboring tissue"


@dataclass(frozen=True)
class ImageChange:
    """A change of an image. The defaults change nothing.

    Attributes
    ----------
    rectangle : (float, float, float, float) or None
        Left, top, right and bottom side of the replaced region, as proportions of the image.
    fill : Fill
        What replaces the region.
    blur_px : float
        Standard deviation of a blur of the entire image, 0 to 20 px.
    brightness : float
        Factor on all values, in (0, 3].
    stain : float
        Factor on the density of hematoxylin and eosin, in (0, 3].

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    rectangle: tuple[float, float, float, float] | None = None
    fill: Fill = Fill.MEAN_COLOR
    blur_px: float = 0.0
    brightness: float = 1.0
    stain: float = 1.0

    def __post_init__(self) -> None:
        if self.rectangle is not None:
            left, top, right, bottom = self.rectangle
            if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
                raise ConfigError(
                    "Invalid rectangle. Expected ascending sides in [0, 1], got "
                    f"{self.rectangle}. Select another region."
                )
        if self.fill not in list(Fill):
            raise ConfigError(f"Unknown fill '{self.fill}'. Choose one of {', '.join(Fill)}.")
        if not 0.0 <= self.blur_px <= _MAX_BLUR_PX:
            raise ConfigError(
                f"Invalid blur. Expected 0 to {_MAX_BLUR_PX:g} px, got {self.blur_px:g}. Use less."
            )
        for name in ("brightness", "stain"):
            value = getattr(self, name)
            if not 0.0 < value <= _MAX_FACTOR:
                raise ConfigError(
                    f"Invalid {name}. Expected a factor above 0 and at most {_MAX_FACTOR:g}, got "
                    f"{value:g}. Use 1 for no change."
                )


def parse_change(text: str) -> ImageChange:
    """Return the change for an option of the command line.

    Parameters
    ----------
    text : str
        Parts such as ``rectangle=0.1:0.2:0.5:0.6,fill=blur,blur=2,brightness=0.8,stain=1.2``. The
        rectangle has a left, top, right and bottom side.

    Raises
    ------
    ConfigError
        The text has another form, or a value is out of range.

    Examples
    --------
    >>> parse_change("rectangle=0:0:0.5:1,fill=blur").fill.value
    'blur'
    """
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, has_value, value = part.strip().partition("=")
        key = _OPTIONS.get(name.strip().lower())
        if not has_value or key is None or key in values:
            raise ConfigError(
                f"Invalid change '{part}'. Expected each of {', '.join(_OPTIONS)} once at most, "
                "such as rectangle=0.1:0.2:0.5:0.6,fill=blur. Separate them by commas."
            )
        values[key] = _parse_value(key, value.strip())
    return ImageChange(**values)


def _parse_value(key: str, value: str) -> Any:
    try:
        if key == "rectangle":
            left, top, right, bottom = map(float, value.split(":"))
            return left, top, right, bottom
        return Fill(value.lower()) if key == "fill" else float(value)
    except ValueError:
        expected = {
            "rectangle": "four numbers such as 0.1:0.2:0.5:0.6",
            "fill": f"one of {', '.join(Fill)}",
        }.get(key, "a number")
        raise ConfigError(
            f"Invalid {key} '{value}'. Expected {expected}. Correct the change."
        ) from None


def apply_change(image: np.ndarray, change: ImageChange) -> np.ndarray:
    """Return a changed copy of an image.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image.
    change : ImageChange
        The region is replaced first, then the entire image is blurred, stained and brightened.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8

    Examples
    --------
    >>> image = np.zeros((4, 4, 3), np.uint8)
    >>> image[:2] = 100
    >>> apply_change(image, ImageChange((0.0, 0.0, 1.0, 1.0)))[0, 0].tolist()
    [50, 50, 50]
    """
    changed = image.copy()
    if change.rectangle is not None:
        _replace(changed, change.rectangle, change.fill)
    if change.blur_px > 0.0:
        changed = cv2.GaussianBlur(changed, (0, 0), change.blur_px)
    if change.stain != 1.0:
        strength = np.array([change.stain, change.stain, 1.0])
        stained = augment_stain(changed, strength, np.zeros(3))
        changed = np.rint(stained).astype(np.uint8)
    if change.brightness != 1.0:
        changed = cv2.convertScaleAbs(changed, alpha=change.brightness)
    return changed


def _replace(image: np.ndarray, rectangle: tuple[float, float, float, float], fill: Fill) -> None:
    """Replace a region of an image, in place."""
    height, width = image.shape[:2]
    left, right = (round(side * width) for side in rectangle[::2])
    top, bottom = (round(side * height) for side in rectangle[1::2])
    region = image[top:bottom, left:right]
    if not region.size:
        return
    match fill:
        case Fill.MEAN_COLOR:
            region[:] = np.rint(region.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
        case Fill.BLUR:
            region[:] = _blur_strongly(image, _HIDING_BLUR * width)[top:bottom, left:right]
        case Fill.NEIGHBORING_TISSUE:
            region[:] = _mirror_neighbor(image, left, top, right, bottom)


def _blur_strongly(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return a strongly blurred image, computed on a smaller copy, which is 100 times faster."""
    height, width = image.shape[:2]
    step = max(1, int(sigma_px / 6))
    size = (max(1, width // step), max(1, height // step))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / step)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _mirror_neighbor(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Return the larger neighbor of a region, mirrored at their common side and repeated.

    The texture stays that of tissue, without a visible edge at this side.
    """
    height, width = image.shape[:2]
    sides = {"left": left, "right": width - right, "top": top, "bottom": height - bottom}
    side = max(sides, key=sides.__getitem__)
    rows, columns = bottom - top, right - left
    if sides[side] == 0:  # The region is the entire image.
        return cv2.flip(image[top:bottom, left:right], 1)
    match side:
        case "left":
            strip = image[top:bottom, max(0, left - columns) : left][:, ::-1]
            return np.pad(strip, ((0, 0), (0, columns - strip.shape[1]), (0, 0)), "symmetric")
        case "right":
            strip = image[top:bottom, right : right + columns][:, ::-1]
            return np.pad(strip, ((0, 0), (columns - strip.shape[1], 0), (0, 0)), "symmetric")
        case "top":
            strip = image[max(0, top - rows) : top, left:right][::-1]
            return np.pad(strip, ((0, rows - strip.shape[0]), (0, 0), (0, 0)), "symmetric")
    strip = image[bottom : bottom + rows, left:right][::-1]
    return np.pad(strip, ((rows - strip.shape[0], 0), (0, 0), (0, 0)), "symmetric")
