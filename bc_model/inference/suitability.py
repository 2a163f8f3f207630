"""Measurements of one field of view that show whether a model can interpret it.

Each measurement alone misses many unsuitable images. They are compared with the training images and
combined, see `bc_model.inference.input_reference`.
"""

from __future__ import annotations

import cv2
import numpy as np

from bc_model.data.stain import background_mask, stain_statistics

MEASUREMENTS = (
    "focus", "tissue", "dark", "brown", "pen", "saturation", "saturation_sd", "brightness",
    "brightness_sd", "hue_x", "hue_y", "hematoxylin_mean", "hematoxylin_sd", "eosin_mean",
    "eosin_sd", "residual_mean", "residual_sd", "flat", "edges",
)  # fmt: skip
"""Names of the measurements, in their order."""

COLORS = tuple(MEASUREMENTS.index(name) for name in MEASUREMENTS[5:17])
"""Positions of the measurements of color."""

_DARK, _MIN_BROWN, _MIN_PEN_SATURATION = 40, 12, 110
_FLAT = 2
"""Difference of neighboring pixels, 0 to 255, up to which they are equal apart from noise."""
_EDGE = 40


def measure_field(pixels: np.ndarray) -> np.ndarray:
    """Return the measurements of one network input, in the order of `MEASUREMENTS`.

    - focus: natural logarithm of the variance of the Laplacian [1]_
    - tissue, dark, brown, pen: proportions of pixels that are not empty glass, nearly black, brown
      (more green than blue), and of a strong color that neither tissue nor its stains have
    - saturation, brightness, hue: mean and standard deviation of the color
    - hematoxylin, eosin, residual: see `bc_model.data.stain.stain_statistics`
    - flat, edges: proportions of neighbors with nearly equal and with very different values

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        RGB.

    Returns
    -------
    ndarray of shape (len(MEASUREMENTS),), float64

    References
    ----------
    .. [1] Pech-Pacheco, J. L. et al. "Diatom autofocusing in brightfield microscopy: a comparative
       study." ICPR 2000.

    Examples
    --------
    >>> glass = np.full((224, 336, 3), 245, np.uint8)
    >>> values = dict(zip(MEASUREMENTS, measure_field(glass).tolist()))
    >>> values["tissue"], values["flat"], values["dark"]
    (0.0, 1.0, 0.0)
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    focus = np.log(cv2.Laplacian(gray, cv2.CV_32F).var() + 1e-3)
    is_tissue = ~background_mask(pixels)
    red, green, blue = (channel.astype(np.int16) for channel in cv2.split(pixels))
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    saturation = (brightest - darkest).astype(np.float32)
    is_brown = (green - blue > _MIN_BROWN) & (red > green) & is_tissue
    # Stains are between red and blue. Pens are blue, green or black.
    is_pen = (saturation > _MIN_PEN_SATURATION) & (red < np.maximum(green, blue) - 60)
    x, y = (red - green).astype(np.float32), (blue - green).astype(np.float32)
    steps = np.abs(np.diff(gray.astype(np.int16), axis=1))
    brightness = gray.astype(np.float32)
    colors = [
        saturation.mean(), saturation.std(), brightness.mean(), brightness.std(), x.mean(), y.mean()
    ]  # fmt: skip
    proportions = [mask.mean() for mask in (is_tissue, brightest < _DARK, is_brown, is_pen)]
    texture = [(steps <= _FLAT).mean(), (steps > _EDGE).mean()]
    stains = stain_statistics(pixels[None])[0]
    return np.array([focus, *proportions, *colors, *stains, *texture], np.float64)
