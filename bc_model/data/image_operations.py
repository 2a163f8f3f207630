"""Changes of an image that imitate other stains and other microscopes."""

from __future__ import annotations

import cv2
import numpy as np

from bc_model.data.stain import STAIN_MATRIX, optical_density, unmix_density

_LN_10 = np.float32(np.log(10.0))


def ihc_like(image: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Return an H&E image recolored like immunohistochemistry: hematoxylin and brown DAB.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image of an H&E-stained section.
    strength : float
        Density of the brown stain relative to that of eosin.

    Examples
    --------
    >>> pink = np.full((8, 8, 3), (220, 150, 190), np.uint8)
    >>> red, green, blue = ihc_like(pink)[0, 0].tolist()
    >>> red > green > blue
    True
    """
    stains = unmix_density(optical_density(image))
    brown = np.abs(stains[..., 1]) + np.abs(stains[..., 2])
    densities = np.dstack([0.5 * stains[..., 0], np.zeros_like(brown), strength * brown])
    return _from_density(cv2.transform(densities, np.ascontiguousarray(STAIN_MATRIX.T, np.float32)))


def fluorescence_like(image: np.ndarray) -> np.ndarray:
    """Return an H&E image as immunofluorescence: blue nuclei and green fibers on black.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image of an H&E-stained section.

    Examples
    --------
    >>> int(fluorescence_like(np.full((8, 8, 3), 255, np.uint8)).max())
    0
    """
    stains = np.clip(unmix_density(optical_density(image)), 0.0, None)
    blue, green = 255 * np.clip(stains[..., 0], 0, 1), 160 * np.clip(stains[..., 1], 0, 1)
    return np.dstack([np.zeros_like(blue), green, blue]).astype(np.uint8)


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return an image that is out of focus, with a Gaussian of `sigma_px`.

    Examples
    --------
    >>> blur(np.full((8, 8, 3), 7, np.uint8), 2.0).tolist()[0][0]
    [7, 7, 7]
    """
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def _from_density(density: np.ndarray) -> np.ndarray:
    values = np.exp(-_LN_10 * np.clip(density, 0.0, None)) * 256.0 - 1.0
    return np.clip(values, 0.0, 255.0).astype(np.uint8)
