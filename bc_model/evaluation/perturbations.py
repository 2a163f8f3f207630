"""Changes of an image that should not change its class, for the measurement of robustness.

They apply to the image as it is read, before preprocessing, and they are deterministic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from bc_model.data.stain import augment_stain

FRAME_SIZE = (460, 700)
"""Height and width of an official frame, px. The blur is stated for this size."""


@dataclass(frozen=True)
class Perturbation:
    """A change of an image.

    Attributes
    ----------
    name : str
        Identifier such as 'blur_2'.
    label : str
        Name for readers.
    kind : {'blur', 'compression', 'crop', 'stain', 'brightness', 'scale'}
        What changes.
    amount : float
        Size of the change: px, JPEG quality, proportion of each side, factor.
    function : callable
        Returns the changed image for an image, both (height, width, 3), uint8, RGB.
    """

    name: str
    label: str
    kind: str
    amount: float
    function: Callable[[np.ndarray], np.ndarray]

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Return the changed image."""
        return self.function(rgb)


def blur(rgb: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur an image by a Gaussian whose standard deviation is stated for an official frame.

    The standard deviation is scaled by height and width separately, so that a resized frame is
    blurred as much as its original.

    Examples
    --------
    >>> blur(np.full((46, 70, 3), 9, np.uint8), 2.0).max()
    np.uint8(9)
    """
    height, width = rgb.shape[:2]
    sigma_x, sigma_y = sigma_px * width / FRAME_SIZE[1], sigma_px * height / FRAME_SIZE[0]
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y))


def compress_jpeg(rgb: np.ndarray, quality: float) -> np.ndarray:
    """Return an image after JPEG compression of a quality from 1 to 100."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def crop_center(rgb: np.ndarray, proportion: float) -> np.ndarray:
    """Return the center of an image, with a proportion of each side.

    Examples
    --------
    >>> crop_center(np.zeros((460, 700, 3), np.uint8), 0.5).shape
    (230, 350, 3)
    """
    height, width = rgb.shape[:2]
    new_height, new_width = max(1, round(height * proportion)), max(1, round(width * proportion))
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return rgb[top : top + new_height, left : left + new_width].copy()


def change_stain(rgb: np.ndarray, factor: float, *, stain: int) -> np.ndarray:
    """Multiply the density of a stain: 0 for hematoxylin, 1 for eosin."""
    strength = np.ones(3)
    strength[stain] = factor
    return np.rint(augment_stain(rgb, strength, np.zeros(3))).astype(np.uint8)


def change_brightness(rgb: np.ndarray, factor: float) -> np.ndarray:
    """Multiply all values of an image.

    Examples
    --------
    >>> change_brightness(np.array([[[100, 200, 250]]], np.uint8), 1.15).tolist()
    [[[115, 230, 255]]]
    """
    return np.clip(np.rint(rgb * np.float64(factor)), 0, 255).astype(np.uint8)


def reduce_resolution(rgb: np.ndarray, factor: float) -> np.ndarray:
    """Reduce both sides of an image by a factor, and enlarge it to its size again."""
    height, width = rgb.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    reduced = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR))


PERTURBATIONS = (
    *(
        Perturbation(
            f"blur_{sigma}", f"Blur, {sigma} px", "blur", sigma, partial(blur, sigma_px=sigma)
        )
        for sigma in (2, 4, 8)
    ),
    *(
        Perturbation(
            f"jpeg_{quality}", f"JPEG, quality {quality}", "compression", quality,
            partial(compress_jpeg, quality=quality),
        )
        for quality in (75, 50)
    ),
    *(
        Perturbation(
            f"crop_{percent}", f"Center, {percent} % of each side", "crop", percent / 100,
            partial(crop_center, proportion=percent / 100),
        )
        for percent in (75, 50)
    ),
    *(
        Perturbation(
            f"{name}_{percent}", f"{name.capitalize()}, {percent} %", "stain", percent / 100,
            partial(change_stain, factor=percent / 100, stain=stain),
        )
        for stain, name in enumerate(("hematoxylin", "eosin"))
        for percent in (80, 120)
    ),
    *(
        Perturbation(
            f"brightness_{percent}", f"Brightness, {percent} %", "brightness", percent / 100,
            partial(change_brightness, factor=percent / 100),
        )
        for percent in (85, 115)
    ),
    Perturbation(
        "resolution_2", "Half the resolution", "scale", 2, partial(reduce_resolution, factor=2)
    ),
)  # fmt: skip
"""The changes of the robustness table."""
