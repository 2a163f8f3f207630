"""Stain densities of hematoxylin, eosin and the residual, and their augmentation.

Used to compare the staining of datasets and to augment training images, not to normalize images.
"""

import cv2
import numpy as np

STAIN_COLUMNS = (
    "hematoxylin_mean",
    "hematoxylin_sd",
    "eosin_mean",
    "eosin_sd",
    "residual_mean",
    "residual_sd",
)

_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density of hematoxylin, eosin and DAB in red, green and blue."""
STAIN_MATRIX = _HED / np.linalg.norm(_HED, axis=1, keepdims=True)
"""Optical density of each stain in red, green and blue, of unit length, shape (3, 3)."""
_UNMIX = np.linalg.inv(STAIN_MATRIX)

_MIN_COLOR_SPREAD = 4.0
"""Mean difference of the largest and smallest channel, 0 to 255, below which an image is grayscale.
The smallest value of 1,053 BreakHis images is 7.9."""

_MIN_BACKGROUND_BRIGHTNESS, _MAX_BACKGROUND_SPREAD = 200, 32
"""Background is bright in every channel and has a small difference of the channels, 0 to 255."""

_DENSITY_OF = -np.log10((np.arange(256, dtype=np.float32) + 1.0) / 256.0)
_LN_10 = np.float32(np.log(10.0))


def stain_densities(rgb: np.ndarray) -> np.ndarray:
    """Return the optical density of each stain.

    Parameters
    ----------
    rgb : ndarray of shape (..., 3), uint8
        Pixels in RGB.

    Returns
    -------
    ndarray of shape (..., 3), float64
        Decimal optical density of hematoxylin, eosin and the residual. About 0 on clear glass,
        slightly negative for colors that are not a mixture of the three.

    References
    ----------
    Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution",
    Analytical and Quantitative Cytology and Histology 23, 2001.

    Examples
    --------
    >>> stain_densities(np.full((1, 3), 255, np.uint8)).round(2) + 0.0
    array([[0., 0., 0.]])
    """
    density = -np.log10((np.asarray(rgb, np.float64) + 1.0) / 256.0)
    stains: np.ndarray = density @ _UNMIX
    return stains


def optical_density(rgb: np.ndarray) -> np.ndarray:
    """Return the decimal optical density of each channel, same shape, float32.

    Examples
    --------
    >>> optical_density(np.array([255, 127], np.uint8)).astype(float).round(2) + 0.0
    array([0. , 0.3])
    """
    return _DENSITY_OF[rgb]


def unmix_density(density: np.ndarray) -> np.ndarray:
    """Return the density of each stain, float32, for an `optical_density`; see `stain_densities`.

    `density` has the shape (height, width, 3), float32.
    """
    return cv2.transform(density, np.ascontiguousarray(_UNMIX.T, np.float32))


def augment_stain(rgb: np.ndarray, strength: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return an image with changed stain densities.

    Parameters
    ----------
    rgb : ndarray of shape (..., 3), uint8
        Pixels in RGB.
    strength : ndarray of shape (3,)
        Factors on the densities of hematoxylin, eosin and the residual. 1 means no change.
    shift : ndarray of shape (3,)
        Decimal optical densities to add. 0 means no change.

    Returns
    -------
    ndarray of shape (..., 3), float32
        Values from 0 to 255.

    References
    ----------
    Tellez et al., "Whole-slide mitosis detection in H&E breast histology", IEEE Transactions on
    Medical Imaging 37(9), 2018.
    """
    # One matrix unmixes, scales and mixes the stains.
    matrix = (_UNMIX * np.asarray(strength)) @ STAIN_MATRIX
    offset = np.asarray(shift) @ STAIN_MATRIX
    density = _DENSITY_OF[rgb] @ matrix.astype(np.float32) + offset.astype(np.float32)
    # exp is a third faster than a power of ten.
    return np.clip(np.exp(density * -_LN_10) * 256.0 - 1.0, 0.0, 255.0)


def stain_statistics(pixels: np.ndarray) -> np.ndarray:
    """Return the mean and standard deviation of the stain densities of each image.

    `pixels` has the shape (n, height, width, 3), uint8. Every other pixel of every other row is
    used. The result has the shape (n, 6), in the order of `STAIN_COLUMNS`.
    """
    statistics = np.empty((len(pixels), 6))
    for i, image in enumerate(pixels):
        density = stain_densities(image[::2, ::2].reshape(-1, 3))
        statistics[i, 0::2], statistics[i, 1::2] = density.mean(axis=0), density.std(axis=0)
    return statistics


def are_gray(pixels: np.ndarray) -> np.ndarray:
    """Return which images, (n, height, width, 3) uint8, are grayscale, as (n,) bool."""
    spreads = []
    for image in pixels:  # One by one to limit memory; by channel, which is twenty times faster.
        red, green, blue = np.moveaxis(image, 2, 0)
        brightest = np.maximum(np.maximum(red, green), blue)
        spreads.append((brightest - np.minimum(np.minimum(red, green), blue)).mean())
    return np.array(spreads) < _MIN_COLOR_SPREAD


def background_mask(rgb: np.ndarray) -> np.ndarray:
    """Return the pixels of empty glass: near white and of low saturation.

    Parameters
    ----------
    rgb : ndarray of shape (..., 3), uint8
        Pixels in RGB.

    Returns
    -------
    ndarray of shape (...), bool

    Examples
    --------
    >>> background_mask(np.array([[240, 235, 238], [230, 180, 210]], np.uint8)).tolist()
    [True, False]
    """
    # By channel, which is ten times faster.
    red, green, blue = np.moveaxis(rgb, -1, 0)
    darkest = np.minimum(np.minimum(red, green), blue)
    brightest = np.maximum(np.maximum(red, green), blue)
    is_pale = brightest - darkest < _MAX_BACKGROUND_SPREAD
    mask: np.ndarray = (darkest > _MIN_BACKGROUND_BRIGHTNESS) & is_pale
    return mask
