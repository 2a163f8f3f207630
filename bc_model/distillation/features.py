"""Features of the teachers: hand-crafted color and texture, and activations of ImageNet networks.

With ten benign cases, a network memorizes cases before it learns tissue. The features are the same
function of every view, so each view is a new training example.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from bc_model.distillation.imagenet import N_ACTIVATIONS, ActivationExtractor

N_FEATURES = 264

N_TEACHER_FEATURES = N_FEATURES + N_ACTIVATIONS

_PERCENTILES = (10, 50, 90)
_N_BINS = 16
_N_PYRAMID_LEVELS = 4
_BATCH_SIZE = 64
_NEIGHBORS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)


class FeatureExtractor:
    """Measure the hand-crafted features and the ImageNet activations of images.

    Parameters
    ----------
    networks_dir : Path
        Directory of `bc_model.distillation.imagenet.write_networks`.
    n_threads : int, optional
        Threads of the networks. The default is one for each core.
    """

    def __init__(self, networks_dir: Path, n_threads: int | None = None) -> None:
        self._activations = ActivationExtractor(networks_dir, n_threads)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the features of images (n, height, width, 3), uint8, as (n, 744), float32."""
        return np.concatenate([extract_features(images), self._activations(images)], axis=1)


def extract_features(images: np.ndarray) -> np.ndarray:
    """Return the hand-crafted features of images at half their size.

    Half the size preserves the accuracy of a linear model (see ``docs/model-log.md``), and a
    network learns the coarser texture more easily.

    Parameters
    ----------
    images : ndarray of shape (n, height, width, 3), uint8
        RGB, at least 32 px per side.

    Returns
    -------
    ndarray of shape (n, 264), float32
        18 statistics of red, green and blue; their histograms, 3 times 16 proportions; 162
        threshold adjacency statistics [1]_ with Otsu's threshold [2]_, used on BreakHis by [3]_;
        36 statistics of a Laplacian pyramid [4]_.

    References
    ----------
    .. [1] Hamilton et al., "Fast automated cell phenotype image classification", BMC
       Bioinformatics 8, 2007.
    .. [2] Otsu, IEEE Transactions on Systems, Man and Cybernetics 9(1), 1979.
    .. [3] Spanhol et al., IEEE Transactions on Biomedical Engineering 63(7), 2016.
    .. [4] Burt and Adelson, "The Laplacian pyramid as a compact image code", IEEE Transactions on
       Communications 31(4), 1983.
    """
    starts = range(0, len(images), _BATCH_SIZE)
    return np.concatenate([_extract_batch(images[i : i + _BATCH_SIZE]) for i in starts])


def _extract_batch(images: np.ndarray) -> np.ndarray:
    half = (images.shape[2] // 2, images.shape[1] // 2)
    images = np.stack([cv2.resize(p, half, interpolation=cv2.INTER_AREA) for p in images])
    n, n_pixels = len(images), half[0] * half[1]
    counts = _count_values(_channels_first(images), 256)
    histograms = counts.reshape(n, 3, _N_BINS, -1).sum(axis=-1) / n_pixels
    features = (
        _color_statistics(counts), histograms.reshape(n, -1),
        _threshold_adjacency(images, counts), _pyramid_statistics(images),
    )  # fmt: skip
    return np.concatenate(features, axis=1).astype(np.float32)


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Convert (n, height, width, k) to (n, k, pixels), because the last axis is fast to sum."""
    n, height, width, k = images.shape
    flat = images.reshape(n, height * width, k).transpose(0, 2, 1)
    return np.ascontiguousarray(flat)


def _count_values(values: np.ndarray, n_values: int) -> np.ndarray:
    """Count each integer value: (n, k, pixels) to (n, k, n_values)."""
    n, k, _ = values.shape
    offset = (np.arange(n * k) * n_values).reshape(n, k, 1)
    counts = np.bincount((values + offset).ravel(), minlength=n * k * n_values)
    return counts.reshape(n, k, n_values)


def _color_statistics(counts: np.ndarray) -> np.ndarray:
    """Return mean, standard deviation, skewness and percentiles from histograms (n, 3, 256)."""
    proportion = counts / counts.sum(axis=-1, keepdims=True)
    mean, spread = _mean_and_spread(counts)
    centered = np.arange(256.0) - mean[..., None]
    skewness = (proportion * centered * centered * centered).sum(axis=-1) / (spread**3 + 1e-6)
    cumulative = proportion.cumsum(axis=-1)
    percentiles = [(cumulative < percent / 100.0).sum(axis=-1) for percent in _PERCENTILES]
    return np.concatenate([mean, spread, skewness, *percentiles], axis=1)


def _mean_and_spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of counted values, shape (..., 256); 0 if empty."""
    values = np.arange(256.0)
    n = np.maximum(counts.sum(axis=-1), 1)
    mean = counts @ values / n
    variance = (counts * (values - mean[..., None]) ** 2).sum(axis=-1) / n
    return mean, np.sqrt(variance)


def _threshold_adjacency(images: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the distribution of the number of neighbors on the same side of a value range.

    Three ranges around the mean of the pixels above Otsu's threshold, inside and outside of each:
    six times nine proportions per channel.
    """
    n, height, width, _ = images.shape
    threshold = np.array([[_otsu(image[..., channel]) for channel in range(3)] for image in images])
    bright = counts * (np.arange(256) > threshold[..., None])
    mean, spread = _mean_and_spread(bright)
    mean = np.where(bright.any(axis=-1), mean, threshold)
    lowest = np.stack([mean - spread, mean - spread, mean], axis=-1)
    highest = np.stack([mean + spread, np.full_like(mean, 255), np.full_like(mean, 255)], axis=-1)
    values = images[..., None]  # (n, height, width, channel, range)
    inside = (values >= lowest[:, None, None]) & (values <= highest[:, None, None])
    inside = inside.reshape(n, height, width, 9).view(np.uint8)
    n_inside = np.stack([_count_neighbors(mask) for mask in inside])
    n_neighbors = _count_neighbors(np.ones((height, width, 1), np.uint8)).reshape(height, width, 1)
    # Codes 0 to 8 count the inside neighbors of inside pixels, 9 to 17 those of outside pixels.
    code = np.where(inside, n_inside, 9 + n_neighbors - n_inside)
    found = _count_values(_channels_first(code), 18).reshape(n, 3, 3, 2, 9)
    proportions: np.ndarray = found / np.maximum(found.sum(axis=-1, keepdims=True), 1)
    return proportions.reshape(n, -1)


def _otsu(channel: np.ndarray) -> float:
    kind = cv2.THRESH_BINARY | cv2.THRESH_OTSU
    return float(cv2.threshold(np.ascontiguousarray(channel), 0, 255, kind)[0])


def _count_neighbors(mask: np.ndarray) -> np.ndarray:
    """Count the set pixels among the eight neighbors, shape (height, width, k), uint8."""
    return cv2.filter2D(mask, -1, _NEIGHBORS, borderType=cv2.BORDER_CONSTANT)


def _pyramid_statistics(images: np.ndarray) -> np.ndarray:
    """Return strength, bright proportion and skewness of the detail of each pyramid level."""
    red, green, blue = (images[..., i].astype(np.float32) for i in range(3))
    coarse = list(
        np.stack([(red + green + blue) / 3.0, red - blue, green - (red + blue) / 2.0], axis=-1)
    )
    statistics = []
    for _ in range(_N_PYRAMID_LEVELS):
        fine, coarse = coarse, [cv2.pyrDown(image) for image in coarse]
        details = [
            image - cv2.pyrUp(below, dstsize=image.shape[1::-1])
            for image, below in zip(fine, coarse, strict=True)
        ]
        detail = _channels_first(np.stack(details))
        square = detail * detail
        energy = square.mean(axis=-1)
        statistics += [
            np.log(np.abs(detail).mean(axis=-1) + 1e-3),
            (square * (detail > 0.0)).mean(axis=-1) / (energy + 1e-6),
            (square * detail).mean(axis=-1) / (energy**1.5 + 1e-3),
        ]
    return np.concatenate(statistics, axis=1)
