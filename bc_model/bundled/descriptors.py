"""What a picture's colours and textures come to, in 264 numbers that no label has a say in.

They are the first lesson of the model in the box: with ten benign cases a network learns the cases
by heart long before it learns what tissue looks like, while these numbers are the same function of
any picture, so that every crop teaches it something new.
"""

from __future__ import annotations

import cv2
import numpy as np

N_DESCRIPTORS = 264

_PERCENTILES = (10, 50, 90)
_BINS = 16
_LEVELS = 4
_AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)


def describe(picture: np.ndarray) -> np.ndarray:
    """Return the descriptors of one picture, seen at half its size.

    A linear model over them tells classes apart as well at half the size as at the full one
    (``docs/model-log.md``), and the coarser texture is the easier one for a network to learn.

    Parameters
    ----------
    picture : ndarray of shape (height, width, 3), uint8
        RGB, at least 32 px a side.

    Returns
    -------
    ndarray of shape (264,), float32
        18 statistics of red, green and blue; their histograms, 3 times 16 shares; 162 threshold
        adjacency statistics; 36 statistics of a Laplacian pyramid.

    References
    ----------
    Hamilton et al., "Fast automated cell phenotype image classification", BMC Bioinformatics 8,
    2007, with the threshold of Otsu, IEEE Transactions on Systems, Man and Cybernetics 9(1), 1979;
    on BreakHis: Spanhol et al., IEEE Transactions on Biomedical Engineering 63(7), 2016.
    Burt and Adelson, "The Laplacian pyramid as a compact image code", IEEE Transactions on
    Communications 31(4), 1983.
    """
    half = (picture.shape[1] // 2, picture.shape[0] // 2)
    picture = cv2.resize(picture, half, interpolation=cv2.INTER_AREA)
    channels = [np.ascontiguousarray(picture[..., i]) for i in range(3)]
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in channels]
    found = [_colour(np.array(counts))]
    found += [
        count.reshape(_BINS, -1).sum(axis=1) / channel.size
        for count, channel in zip(counts, channels, strict=True)
    ]
    found += [_threshold_adjacency(channel) for channel in channels]
    found.append(_pyramid(picture))
    return np.concatenate(found).astype(np.float32)


def _colour(counts: np.ndarray) -> np.ndarray:
    """Mean, spread, skewness and percentiles of each channel, from its histogram (3, 256)."""
    values = np.arange(256.0)
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    centred = values - mean[:, None]
    spread = np.sqrt((share * centred**2).sum(axis=1))
    skewness = (share * centred**3).sum(axis=1) / (spread**3 + 1e-6)
    below = share.cumsum(axis=1)
    percentiles = [(below < percent / 100.0).sum(axis=1) for percent in _PERCENTILES]
    return np.concatenate([mean, spread, skewness, *percentiles])


def _threshold_adjacency(channel: np.ndarray) -> np.ndarray:
    """How many of the eight neighbours of a pixel within a range of grey are within it as well.

    Ranges around the mean of what lies above Otsu's threshold, and what is outside of them: six
    times nine shares.
    """
    threshold, _ = cv2.threshold(channel, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bright = channel[channel > threshold]
    mean, spread = (bright.mean(), bright.std()) if bright.size else (threshold, 0.0)
    found = []
    for low, high in ((mean - spread, mean + spread), (mean - spread, 255), (mean, 255)):
        inside = ((channel >= low) & (channel <= high)).astype(np.uint8)
        for within in (inside, 1 - inside):
            around = cv2.filter2D(within, -1, _AROUND, borderType=cv2.BORDER_CONSTANT)
            number = np.bincount(around[within > 0], minlength=9)
            found.append(number / max(number.sum(), 1))
    return np.concatenate(found)


def _pyramid(picture: np.ndarray) -> np.ndarray:
    """Strength, bright share and skewness of each level's detail, in grey and two opponents."""
    red, green, blue = (picture[..., i].astype(np.float32) for i in range(3))
    coarse = np.dstack([(red + green + blue) / 3.0, red - blue, green - (red + blue) / 2.0])
    found = []
    for _ in range(_LEVELS):
        fine, coarse = coarse, cv2.pyrDown(coarse)
        detail = (fine - cv2.pyrUp(coarse, dstsize=fine.shape[1::-1])).reshape(-1, 3)
        energy = (detail**2).mean(axis=0)
        found += [
            np.log(np.abs(detail).mean(axis=0) + 1e-3),
            (np.maximum(detail, 0.0) ** 2).mean(axis=0) / (energy + 1e-6),
            (detail**3).mean(axis=0) / (energy**1.5 + 1e-3),
        ]
    return np.concatenate(found)
