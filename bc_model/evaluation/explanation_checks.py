"""Checks of heatmaps: background, agreement with the prediction, pointing and randomization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bc_model.data.breakhis import CLASSES
from bc_model.data.stain import background_mask
from bc_model.errors import DataError
from bc_model.evaluation.estimates import estimate_mean
from bc_model.evaluation.predictions import case_names
from bc_model.gradcam import Heatmap, resize_heatmap
from bc_model.inference.model_card import (
    ExplanationChecks,
    PointingResult,
    RandomizationResult,
)
from bc_model.utils.measurement import Metric

if TYPE_CHECKING:
    import keras

Heatmaps = Sequence[dict[str, Heatmap]]
"""A heatmap per class for each image, such as the second result of `Engine.explain`."""


def share_in_mask(heatmap: Heatmap, mask: np.ndarray) -> tuple[float, float]:
    """Return the proportion of a heatmap in a mask, and whether its maximum is in the mask, 1 or 0.

    The cells are placed as in `resize_heatmap`. Both are NaN if the heatmap is empty.

    Parameters
    ----------
    heatmap : Heatmap
    mask : ndarray of shape (height, width), bool
        Region of the pixels that the network saw.

    Examples
    --------
    >>> share_in_mask(Heatmap("benign", np.ones((2, 4), np.float32)), np.eye(2, 4, dtype=bool))
    (0.25, 1.0)
    """
    if heatmap.is_empty:
        return np.nan, np.nan
    values = resize_heatmap(heatmap, *mask.shape)
    peak = np.unravel_index(values.argmax(), values.shape)
    return float(values[mask].sum() / values.sum()), float(mask[peak])


def check_explanations(
    pixels: Sequence[np.ndarray],
    heatmaps: Heatmaps,
    predicted: Sequence[str],
    classes: Sequence[str],
    case: ArrayLike,
    *,
    images: str,
    pointing: Sequence[PointingResult] = (),
    randomization: Sequence[RandomizationResult] = (),
) -> ExplanationChecks:
    """Measure the heatmaps on background and their agreement with the predicted class.

    Parameters
    ----------
    pixels : sequence of ndarray of shape (height, width, 3), uint8
        Preprocessed images.
    heatmaps : sequence of dict of str to Heatmap
        Heatmaps of both classes of each image.
    predicted, classes : sequence of {'benign', 'malignant'}
        Predicted class and class of each image.
    case : array_like
        Case of each image; an unknown case is empty.
    images : str
        Description of the images, such as 'images of left-out cases'.
    pointing, randomization
        Results of `measure_pointing` and `compare_randomized`.

    Returns
    -------
    ExplanationChecks
        Images whose heatmap of the predicted class is empty count for the agreement, but not for
        the background. If both heatmaps are equal, they do not agree with the prediction.
    """
    names, malignant = case_names(case), np.asarray(classes) == "malignant"
    if not len(pixels) == len(heatmaps) == len(predicted) == len(malignant) == len(names) > 0:
        raise DataError(
            "Expected one heatmap pair, prediction, class and case for each image, and at least "
            f"one image, got {len(heatmaps)}, {len(predicted)}, {len(malignant)} and {len(names)} "
            f"for {len(pixels)} images. Explain the images again."
        )
    masks = [background_mask(image) for image in pixels]
    maps = [pair[name] for pair, name in zip(heatmaps, predicted, strict=True)]
    mass, peak = np.array(
        [share_in_mask(heatmap, mask) for heatmap, mask in zip(maps, masks, strict=True)]
    ).T
    area = np.array([mask.mean() for mask in masks])
    shown = ~np.isnan(mass)
    totals = np.array([heatmap.contribution for heatmap in maps])[shown]
    pooled = float(totals @ mass[shown] / totals.sum()) if shown.any() else None

    def mean(values: np.ndarray, scope: np.ndarray, is_proportion: bool) -> Metric:
        return estimate_mean(
            values[scope], names[scope], malignant[scope], is_proportion=is_proportion
        )

    everything = np.ones(len(pixels), bool)
    agreements = [
        np.array(
            [
                measure(pair[name].raw) > measure(pair[_other(name)].raw)
                for pair, name in zip(heatmaps, predicted, strict=True)
            ]
        )
        for measure in (np.sum, np.max)
    ]
    return ExplanationChecks(
        images,
        background_mass=mean(mass, shown, False),
        background_area=mean(area, shown, False),
        background_peak=mean(peak > 0.5, shown, True),
        agreement_by_sum=mean(agreements[0], everything, True),
        agreement_by_maximum=mean(agreements[1], everything, True),
        pooled_background_mass=pooled,
        n_empty=int((~shown).sum()),
        pointing=tuple(pointing),
        randomization=tuple(randomization),
    )


def make_mosaic(
    of_class: Sequence[np.ndarray], other: Sequence[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a 2x2 mosaic of two images of a class and two others, and the mask of the class.

    Each tile is a random crop with half of each side, so that the scale does not change. The
    images have the same even height and width. The positions of the tiles are random.

    References
    ----------
    Arias-Duart et al., "Focus! Rating XAI Methods and Finding Biases", FUZZ-IEEE 2022.
    """
    tiles = [*of_class, *other]
    if len(of_class) != 2 or len(other) != 2 or len({tile.shape for tile in tiles}) != 1:
        raise DataError(
            "Expected two images of the class and two others, all of one size, got "
            f"{len(of_class)} and {len(other)} images. Give preprocessed images."
        )
    height, width = tiles[0].shape[0] // 2, tiles[0].shape[1] // 2
    mosaic = np.zeros((2 * height, 2 * width, 3), np.uint8)
    mask = np.zeros((2 * height, 2 * width), bool)
    for place, i in enumerate(rng.permutation(4)):
        top, left = rng.integers(0, height + 1), rng.integers(0, width + 1)
        rows = slice(place // 2 * height, (place // 2 + 1) * height)
        columns = slice(place % 2 * width, (place % 2 + 1) * width)
        mosaic[rows, columns] = tiles[i][top : top + height, left : left + width]
        mask[rows, columns] = i < 2
    return mosaic, mask


def make_mosaics(
    pixels: np.ndarray, classes: Sequence[str], class_name: str, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return one mosaic for each image of a class, in their order, and the masks of the class.

    Both tiles of the class come from the image itself, so that the mosaic has one case of the
    class. The two others come from random images of the other class.

    Parameters
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
        Preprocessed images of both classes, with even sides.
    classes : sequence of {'benign', 'malignant'}
    class_name : {'benign', 'malignant'}
        Class of the masks.
    seed : int, default=0
    """
    is_own = np.asarray(classes) == class_name
    if not is_own.any() or is_own.all():
        raise DataError("Mosaics need images of both classes. Add images of the missing class.")
    rng, others = np.random.default_rng(seed), pixels[~is_own]
    pairs = [
        make_mosaic([image, image], [others[i] for i in rng.integers(0, len(others), size=2)], rng)
        for image in pixels[is_own]
    ]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def measure_pointing(
    heatmaps: Heatmaps,
    masks: Sequence[np.ndarray],
    class_name: str,
    case: ArrayLike,
    *,
    images: str,
) -> PointingResult:
    """Measure whether the heatmaps of a class point to its regions (pointing game).

    A hit is a maximum in the region. An empty heatmap is a miss, and its proportion in the region
    counts as 0.

    Parameters
    ----------
    heatmaps, masks
        Heatmaps of each image, and the region of the class, (height, width) bool.
    class_name : {'benign', 'malignant'}
    case : array_like
        Case of each image; an unknown case is empty. The intervals are over these cases.
    images : str
        Description of the images, such as 'mosaics of images of left-out cases'.

    References
    ----------
    Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018,
    https://arxiv.org/abs/1608.00507.
    """
    names = case_names(case)
    shares = np.array(
        [share_in_mask(pair[class_name], mask) for pair, mask in zip(heatmaps, masks, strict=True)]
    ).reshape(-1, 2)
    is_empty = np.isnan(shares[:, 0])
    mass, peak = np.nan_to_num(shares).T
    truth = np.full(len(mass), class_name == "malignant")
    return PointingResult(
        images,
        class_name,
        hit_rate=estimate_mean(peak > 0.5, names, truth, is_proportion=True),
        mass=estimate_mean(mass, names, truth, is_proportion=False),
        area=float(np.mean([mask.mean() for mask in masks])),
        n_empty=int(is_empty.sum()),
    )


def compare_randomized(
    original: Heatmaps, randomized: Heatmaps, predicted: Sequence[str], *, layers: str
) -> RandomizationResult:
    """Return the mean rank correlation of heatmaps with those after weights are random.

    Heatmaps that depend on the weights have a low correlation.

    References
    ----------
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018,
    https://arxiv.org/abs/1810.03292.
    """
    values = [
        rank_correlation(before[name].raw, after[name].raw)
        for before, after, name in zip(original, randomized, predicted, strict=True)
    ]
    defined = [value for value in values if not np.isnan(value)]
    mean = float(np.mean(defined)) if defined else None
    return RandomizationResult(layers, mean, len(defined), len(values) - len(defined))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two heatmaps; NaN if one is constant.

    Examples
    --------
    >>> round(rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([3.0, 2.0, 1.0])), 6)
    -1.0
    """
    from scipy.stats import rankdata

    a, b = (rankdata(values.ravel()) for values in (first, second))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))


@contextmanager
def random_weights(
    model: keras.Model, layer_names: Sequence[str], *, seed: int = 0
) -> Iterator[None]:
    """Shuffle the weights of some layers of a Keras model while the context is open.

    Each array keeps its values in a random order, so that the size of the activations stays
    plausible. The weights are restored at the end.
    """
    rng = np.random.default_rng(seed)
    layers = [model.get_layer(name) for name in layer_names]
    saved = [layer.get_weights() for layer in layers]
    try:
        for layer, arrays in zip(layers, saved, strict=True):
            layer.set_weights([rng.permutation(a.ravel()).reshape(a.shape) for a in arrays])
        yield
    finally:
        for layer, arrays in zip(layers, saved, strict=True):
            layer.set_weights(arrays)


def _other(class_name: str) -> str:
    return CLASSES[1 - CLASSES.index(class_name)]
