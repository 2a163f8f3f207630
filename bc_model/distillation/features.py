"""What a picture's colours and textures come to, in 264 numbers that no label has a say in.

They are the first lesson of the model in the box: with ten benign cases a network learns the cases
by heart long before it learns what tissue looks like, while these numbers are the same function of
any picture, so that every crop teaches it something new.
"""

from __future__ import annotations

import cv2
import numpy as np

N_FEATURES = 264

_PERCENTILES = (10, 50, 90)
_BINS = 16
_LEVELS = 4
_AT_ONCE = 64
_AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)


def extract_features(images: np.ndarray) -> np.ndarray:
    """Return the descriptors of pictures, each seen at half its size.

    A linear model over them tells classes apart as well at half the size as at the full one
    (``docs/model-log.md``), and the coarser texture is the easier one for a network to learn.

    Parameters
    ----------
    pictures : ndarray of shape (n, height, width, 3), uint8
        RGB, at least 32 px a side.

    Returns
    -------
    ndarray of shape (n, 264), float32
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
    found = [
        _describe(images[start : start + _AT_ONCE]) for start in range(0, len(images), _AT_ONCE)
    ]
    return np.concatenate(found)


def _describe(images: np.ndarray) -> np.ndarray:
    half = (images.shape[2] // 2, images.shape[1] // 2)
    images = np.stack([cv2.resize(p, half, interpolation=cv2.INTER_AREA) for p in images])
    n, n_pixels = len(images), half[0] * half[1]
    counts = _counted(_channels_first(images), 256)
    histograms = counts.reshape(n, 3, _BINS, -1).sum(axis=-1) / n_pixels
    found = (
        _color(counts),
        histograms.reshape(n, -1),
        _threshold_adjacency(images, counts),
        _pyramid(images),
    )
    return np.concatenate(found, axis=1).astype(np.float32)


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Bring (n, height, width, k) to (n, k, pixels): the last axis is the quick one to sum."""
    n, height, width, k = images.shape
    flat = images.reshape(n, height * width, k).transpose(0, 2, 1)
    return np.ascontiguousarray(flat)


def _counted(values: np.ndarray, below: int) -> np.ndarray:
    """Count how often each whole number comes: (n, k, pixels) to (n, k, below)."""
    n, k, _ = values.shape
    place = (np.arange(n * k) * below).reshape(n, k, 1)
    counts = np.bincount((values + place).ravel(), minlength=n * k * below)
    return counts.reshape(n, k, below)


def _color(counts: np.ndarray) -> np.ndarray:
    """Mean, spread, skewness and percentiles of each channel, from histograms (n, 3, 256)."""
    proportion = counts / counts.sum(axis=-1, keepdims=True)
    mean, spread = _mean_and_spread(counts)
    centred = np.arange(256.0) - mean[..., None]
    skewness = (proportion * centred * centred * centred).sum(axis=-1) / (spread**3 + 1e-6)
    below = proportion.cumsum(axis=-1)
    percentiles = [(below < percent / 100.0).sum(axis=-1) for percent in _PERCENTILES]
    return np.concatenate([mean, spread, skewness, *percentiles], axis=1)


def _mean_and_spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the values counted, shape (..., 256); 0 where nothing was."""
    values = np.arange(256.0)
    number = np.maximum(counts.sum(axis=-1), 1)
    mean = counts @ values / number
    variance = (counts * (values - mean[..., None]) ** 2).sum(axis=-1) / number
    return mean, np.sqrt(variance)


def _threshold_adjacency(images: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How many of the eight neighbours of a pixel within a range of values are within it as well.

    Ranges around the mean of what lies above Otsu's threshold, and what is outside of them: six
    times nine shares of each channel.
    """
    n, height, width, _ = images.shape
    threshold = np.array([[_otsu(image[..., channel]) for channel in range(3)] for image in images])
    bright = counts * (np.arange(256) > threshold[..., None])
    mean, spread = _mean_and_spread(bright)
    mean = np.where(bright.any(axis=-1), mean, threshold)
    low = np.stack([mean - spread, mean - spread, mean], axis=-1)
    high = np.stack([mean + spread, np.full_like(mean, 255), np.full_like(mean, 255)], axis=-1)
    values = images[..., None]  # (n, height, width, channel, range)
    inside = (values >= low[:, None, None]) & (values <= high[:, None, None])
    inside = inside.reshape(n, height, width, 9).view(np.uint8)
    around = np.stack([_neighbors_within(one) for one in inside])
    there = _neighbors_within(np.ones((height, width, 1), np.uint8)).reshape(height, width, 1)
    # 0 to 8 neighbours within for what is inside, 9 and on without for what is outside.
    code = np.where(inside, around, 9 + there - around)
    found = _counted(_channels_first(code), 18).reshape(n, 3, 3, 2, 9)
    proportions: np.ndarray = found / np.maximum(found.sum(axis=-1, keepdims=True), 1)
    return proportions.reshape(n, -1)


def _otsu(channel: np.ndarray) -> float:
    kind = cv2.THRESH_BINARY | cv2.THRESH_OTSU
    return float(cv2.threshold(np.ascontiguousarray(channel), 0, 255, kind)[0])


def _neighbors_within(inside: np.ndarray) -> np.ndarray:
    """Count the eight neighbours that are inside: shape (height, width, k), uint8; none beyond."""
    return cv2.filter2D(inside, -1, _AROUND, borderType=cv2.BORDER_CONSTANT)


def _pyramid(images: np.ndarray) -> np.ndarray:
    """Strength, bright share and skewness of each level's detail, in grey and two opponents."""
    red, green, blue = (images[..., i].astype(np.float32) for i in range(3))
    coarse = list(
        np.stack([(red + green + blue) / 3.0, red - blue, green - (red + blue) / 2.0], axis=-1)
    )
    found = []
    for _ in range(_LEVELS):
        fine, coarse = coarse, [cv2.pyrDown(one) for one in coarse]
        detail = _channels_first(
            np.stack(
                [
                    one - cv2.pyrUp(below, dstsize=one.shape[1::-1])
                    for one, below in zip(fine, coarse, strict=True)
                ]
            )
        )
        square = detail * detail
        energy = square.mean(axis=-1)
        found += [
            np.log(np.abs(detail).mean(axis=-1) + 1e-3),
            (square * (detail > 0.0)).mean(axis=-1) / (energy + 1e-6),
            (square * detail).mean(axis=-1) / (energy**1.5 + 1e-3),
        ]
    return np.concatenate(found, axis=1)
