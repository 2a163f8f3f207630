"""How a picture is stained: haematoxylin, eosin and the rest, as optical density.

Only to compare sets of pictures; nothing is normalised with it.
"""

import numpy as np

_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Colours of haematoxylin, eosin and DAB in optical density of red, green and blue."""
_UNMIX = np.linalg.inv(_HED / np.linalg.norm(_HED, axis=1, keepdims=True))

STAIN_COLUMNS = (
    "haematoxylin_mean",
    "haematoxylin_sd",
    "eosin_mean",
    "eosin_sd",
    "residual_mean",
    "residual_sd",
)


def optical_density(rgb: np.ndarray) -> np.ndarray:
    """Return how much light each stain takes away.

    Parameters
    ----------
    rgb : ndarray of shape (..., 3), uint8

    Returns
    -------
    ndarray of shape (..., 3), float64
        Decimal optical density of haematoxylin, eosin and the rest; about 0 on clear glass, and
        slightly below 0 where a colour is not mixed from the three.

    References
    ----------
    Ruifrok and Johnston, "Quantification of histochemical staining by color deconvolution",
    Analytical and Quantitative Cytology and Histology 23, 2001.
    """
    density = -np.log10((np.asarray(rgb, np.float64) + 1.0) / 256.0)
    stains: np.ndarray = density @ _UNMIX
    return stains


def stain_statistics(pixels: np.ndarray) -> np.ndarray:
    """Return mean and spread over each picture: (n, height, width, 3) uint8 to (n, 6).

    In the order of `STAIN_COLUMNS`. Every other pixel of every other row is enough.
    """
    found = np.empty((len(pixels), 6))
    for i, picture in enumerate(pixels):
        density = optical_density(picture[::2, ::2].reshape(-1, 3))
        found[i, 0::2], found[i, 1::2] = density.mean(axis=0), density.std(axis=0)
    return found
