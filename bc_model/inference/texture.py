"""Features of the texture of a field of view: the size and shape of its structures.

Nuclei, glands and fibers have the size that they have, so that the texture shows the scale, and it
differs between tissue and other images. Openings and closings with growing disks measure the size
of dark and bright structures [1]_, at each level of a Gaussian pyramid. The bands of a Laplacian
pyramid [2]_ of eosin describe what openings do not: how the second stain is distributed.

.. [1] Maragos, P. "Pattern spectrum and multiscale shape representation." IEEE Transactions on
   Pattern Analysis and Machine Intelligence 11(7), 1989.
.. [2] Burt, P. J. and Adelson, E. H. "The Laplacian Pyramid as a Compact Image Code." IEEE
   Transactions on Communications 31(4), 1983.
"""

from __future__ import annotations

import cv2
import numpy as np

from bc_model.data.stain import optical_density, unmix_density

_LEVELS, _BANDS = 5, 6
"""Levels of the pyramids for structures, and bands for eosin."""
_DISKS = tuple(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (3, 5, 7))
_NEIGHBORS = np.ones((3, 3), np.uint8)
_PER_LEVEL = 2 * len(_DISKS) + 5

N_STRUCTURE = 2 * _LEVELS * _PER_LEVEL
"""Number of features of structures, which come first. The others describe the bands of eosin."""

N_FEATURES = N_STRUCTURE + 5 * _BANDS

_SMALL = 1e-4


def texture_features(pixels: np.ndarray) -> np.ndarray:
    """Return features of the texture at all scales, shape (n_features,), float32.

    For each level of the Gaussian pyramids of hematoxylin and of optical density: logarithms of
    the mean change by openings and closings with disks of 3, 5 and 7 px relative to the contrast
    of the image, of the proportions of local maxima and minima, and correlations of neighboring
    pixels. For each band of the Laplacian pyramid of eosin: the logarithm of its standard deviation
    relative to the image, skewness, kurtosis, mean magnitude, and the correlation of magnitudes
    with the finer band.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        Network input. At least 64 pixels per side.

    Examples
    --------
    >>> gray = np.full((224, 336, 3), 128, np.uint8)
    >>> texture_features(gray).shape, N_STRUCTURE
    ((140,), 110)
    """
    density = optical_density(pixels)
    stains = unmix_density(density)
    features = [
        *_structure_features(np.ascontiguousarray(stains[..., 0], np.float32)),
        *_structure_features(density.mean(axis=2, dtype=np.float32)),
        *_band_features(np.ascontiguousarray(stains[..., 1], np.float32)),
    ]
    return np.array(features, np.float32)


def _structure_features(plane: np.ndarray) -> list[float]:
    """Return `_PER_LEVEL` features of each level of one plane, shape (height, width), float32."""
    contrast = float(plane.std()) + _SMALL
    features: list[float] = []
    for _ in range(_LEVELS):
        for operation in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE):
            previous = _mean(plane)
            for disk in _DISKS:
                mean = _mean(cv2.morphologyEx(plane, operation, disk))
                features.append(np.log(abs(previous - mean) / contrast + _SMALL))
                previous = mean
        smaller = cv2.pyrDown(plane)
        band = plane - cv2.pyrUp(smaller, dstsize=plane.shape[::-1])
        sd = _mean(np.square(band)) ** 0.5 + 1e-6
        is_maximum = (band == cv2.dilate(band, _NEIGHBORS)) & (band > sd)
        is_minimum = (band == cv2.erode(band, _NEIGHBORS)) & (band < -sd)
        features += [
            np.log(np.count_nonzero(mask) / mask.size + _SMALL) for mask in (is_maximum, is_minimum)
        ]
        centered = plane - _mean(plane)
        variance = _mean(np.square(centered)) + 1e-8
        features += [
            _mean(centered[:, 1:] * centered[:, :-1]) / variance,
            _mean(centered[:, 2:] * centered[:, :-2]) / variance,
            _mean(centered[1:] * centered[:-1]) / variance,
        ]
        plane = smaller
    return features


def _band_features(plane: np.ndarray) -> list[float]:
    """Return the features of each band of one plane, shape (height, width), float32."""
    contrast = float(plane.std()) + _SMALL
    features: list[float] = []
    finer: np.ndarray | None = None
    for _ in range(_BANDS):
        smaller = cv2.pyrDown(plane)
        band = plane - cv2.pyrUp(smaller, dstsize=plane.shape[::-1])
        magnitudes = np.abs(band)
        squares = np.square(band)
        sd, mean = _mean(squares) ** 0.5 + 1e-5, _mean(magnitudes)
        features += [
            np.log(sd / contrast),
            np.clip(_mean(squares * band) / sd**3, -5.0, 5.0),
            np.log(_mean(np.square(squares)) / sd**4 + 1e-6),
            np.log(mean / sd + 1e-6),
        ]
        if finer is not None:
            below = cv2.resize(finer, plane.shape[::-1], interpolation=cv2.INTER_AREA)
            product = _mean(below * magnitudes)
            features.append(product / (_mean(below) * mean + 1e-8))
        finer, plane = magnitudes, smaller
    features.append(np.log(float(plane.std()) / contrast + 1e-3))
    return features


def _mean(plane: np.ndarray) -> float:
    """Return the mean of one plane. OpenCV is faster than NumPy on small float32 arrays."""
    return float(cv2.mean(plane)[0])
