"""How a picture is stained: haematoxylin, eosin and the rest, as optical density.

To compare sets of pictures, and to stain training pictures anew; nothing is normalised with it.
"""

import numpy as np

_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Colours of haematoxylin, eosin and DAB in optical density of red, green and blue."""
_MIX = _HED / np.linalg.norm(_HED, axis=1, keepdims=True)
_UNMIX = np.linalg.inv(_MIX)

_COLOURLESS = 4.0
"""Mean difference of the largest and smallest channel, of 255, below which a picture is grey; the
least coloured of 1,053 BreakHis pictures has 7.9."""

_DENSITY_OF = -np.log10((np.arange(256, dtype=np.float32) + 1.0) / 256.0)
_LN_10 = np.float32(np.log(10.0))

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


def restain(rgb: np.ndarray, strength: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return a picture with its stains made stronger or weaker.

    Parameters
    ----------
    rgb : ndarray of shape (..., 3), uint8
    strength : ndarray of shape (3,)
        Factor on the optical density of haematoxylin, eosin and the rest; 1 leaves it.
    shift : ndarray of shape (3,)
        Added to it, decimal.

    Returns
    -------
    ndarray of shape (..., 3), float32
        In [0, 255].

    References
    ----------
    Tellez et al., "Whole-slide mitosis detection in H&E breast histology", IEEE Transactions on
    Medical Imaging 37(9), 2018.
    """
    # The colours as they come, times one matrix: there and back again in one step.
    through = (_UNMIX * np.asarray(strength)) @ _MIX
    added = np.asarray(shift) @ _MIX
    density = _DENSITY_OF[rgb] @ through.astype(np.float32) + added.astype(np.float32)
    # exp is a third quicker than a power of ten.
    return np.clip(np.exp(density * -_LN_10) * 256.0 - 1.0, 0.0, 255.0)


def stain_statistics(pixels: np.ndarray) -> np.ndarray:
    """Return mean and spread over each picture: (n, height, width, 3) uint8 to (n, 6).

    In the order of `STAIN_COLUMNS`. Every other pixel of every other row is enough.
    """
    found = np.empty((len(pixels), 6))
    for i, image in enumerate(pixels):
        density = optical_density(image[::2, ::2].reshape(-1, 3))
        found[i, 0::2], found[i, 1::2] = density.mean(axis=0), density.std(axis=0)
    return found


def are_gray(pixels: np.ndarray) -> np.ndarray:
    """Tell which pictures have no colour: (n, height, width, 3) uint8 to (n,) bool."""
    spreads = []
    for image in pixels:  # one at a time, for there may be gigabytes of them
        red, green, blue = np.moveaxis(image, 2, 0)  # by planes: twenty times as fast as by pixels
        brightest = np.maximum(np.maximum(red, green), blue)
        spreads.append((brightest - np.minimum(np.minimum(red, green), blue)).mean())
    return np.array(spreads) < _COLOURLESS
