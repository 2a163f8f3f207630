"""Check whether the staining of an image resembles that of a model's training images.

A model predicts a class for any input, such as an empty slide or a photograph. The model card
contains quantiles of the staining of the training images; values far outside of them fail a check.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.checks import Check, make_check
from bc_model.data.images import has_official_shape
from bc_model.data.stain import STAIN_COLUMNS, are_gray, stain_statistics
from bc_model.inference.bundle import Bundle
from bc_model.inference.model_card import ModelCard, StainStatistics

if TYPE_CHECKING:
    import pandas as pd


_QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
_LOWEST = 0
_ALLOWED = 0.5
"""How far beyond the 1st and 99th percentile a statistic may lie, as a share of their distance from
the median."""

_BLANK_BELOW = 0.5
"""Of the 1st percentile of hematoxylin's spread: less has no nuclei. Of 1,053 BreakHis pictures
whose case was left out none has less than 0.79 of it; glass with a camera's noise has 0.2. Fat and
collagen have less as well, and eosin, so that a picture is blank only if nothing else varies."""
_GRAYSCALE, _BLANK = "grayscale", "blank"
_BELOW_AND_ABOVE = {"mean": ("paler", "stronger"), "sd": ("more_even", "more_uneven")}
_STAIN_CODES = {
    column.removesuffix("_mean"): code
    for column, code in zip(STAIN_COLUMNS[::2], ("hematoxylin", "eosin", "residual"), strict=True)
}


def summarize_staining(stain: np.ndarray, gray: np.ndarray) -> StainStatistics:
    """Return how training pictures are stained: what a picture can be held against.

    Parameters
    ----------
    stain : ndarray of shape (n, 6)
        See `bc_model.data.stain.stain_statistics`.
    grey : ndarray of shape (n,), bool
        See `bc_model.data.stain.are_grey`.

    Returns
    -------
    StainStatistics
    """
    found = np.quantile(stain, _QUANTILES, axis=0).round(5)
    columns = {column: tuple(found[:, i].tolist()) for i, column in enumerate(STAIN_COLUMNS)}
    return StainStatistics(_QUANTILES, columns, float(gray.mean()))


def measure_out_of_distribution_proportion(stain: np.ndarray, facts: StainStatistics) -> float:
    """Return how many of some pictures are stained strangely, a share; greyness is left out.

    Parameters
    ----------
    stain : ndarray of shape (n, 6)
        Of pictures that the facts do not come from.
    facts : StainStatistics
        As `summarize_staining` returns it.
    """
    return float(np.mean([bool(find_staining_differences(one, False, facts)) for one in stain]))


def has_stain_statistics(card: ModelCard) -> bool:
    """Tell whether a passport says how the training pictures are stained."""
    return card.input.stain is not None


def expected_out_of_distribution_proportion(card: ModelCard) -> float | None:
    """Return how many pictures of other cases of the same kind are strange, a share, if measured.

    Of the model's validation part, or of cases that were left out of the quantiles.
    """
    stain = card.input.stain
    return stain.out_of_distribution_proportion if stain else None


def find_staining_differences(
    found: np.ndarray, gray: bool, statistics: StainStatistics
) -> list[str]:
    """Return how the staining of an image differs from the training images.

    Parameters
    ----------
    found : ndarray of shape (6,), float
        Statistics of one image, see `bc_model.data.stain.stain_statistics`.
    grey : bool
        Whether the image is grayscale, see `bc_model.data.stain.are_grey`.
    statistics : StainStatistics

    Returns
    -------
    list of str
        Codes such as 'eosin_paler', see `bc_model.checks.TERMS`; 'blank' or 'grayscale' alone;
        empty if the statistics lie within or near those of the training images.
    """
    if gray and not statistics.grayscale_proportion:  # every other difference follows from it
        return [_GRAYSCALE]
    (spread, least), *others = (
        (value, statistics.values[column][_LOWEST])
        for column, value in zip(STAIN_COLUMNS, found, strict=True)
        if column.endswith("_sd")  # hematoxylin comes first
    )
    if spread < _BLANK_BELOW * least and all(value < low for value, low in others):
        return [_BLANK]
    differences = []
    for column, value in zip(STAIN_COLUMNS, found, strict=True):
        known = dict(zip(statistics.quantiles, statistics.values[column], strict=True))
        low, median, high = known[0.01], known[0.5], known[0.99]
        stain, _, kind = column.rpartition("_")
        below, above = _BELOW_AND_ABOVE[kind]
        if value < low - _ALLOWED * (median - low):
            differences.append(f"{_STAIN_CODES[stain]}_{below}")
        elif value > high + _ALLOWED * (high - median):
            differences.append(f"{_STAIN_CODES[stain]}_{above}")
    return differences


def check_staining(pixels: np.ndarray, card: ModelCard) -> Check | None:
    """Return a check if the staining of an image differs from the training images.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        Input of the network.
    card : ModelCard
        Without ``input.stain`` no check is made.

    Returns
    -------
    Check or None
        BC103 (blank) and BC104 (grayscale) are blocking; BC120 lists other differences.
    """
    if card.input.stain is None:
        return None
    batch = pixels[None]
    differences = find_staining_differences(
        stain_statistics(batch)[0], bool(are_gray(batch)[0]), card.input.stain
    )
    match differences:
        case []:
            return None
        case ["blank"]:
            return make_check("BC103")
        case ["grayscale"]:
            return make_check("BC104")
    return make_check("BC120", differences=differences)


MAX_UPSAMPLING = 1.5
"""Relative to the training images; above it, tissue is too coarse for the model to interpret."""
_MOST_KEPT = 10


def summarize_sizes(images: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return what a passport says of the sizes of training pictures.

    Parameters
    ----------
    pictures : DataFrame
        Rows of a manifest: width_px, height_px, and magnification, which only official names say.

    Returns
    -------
    dict
        ``training_sizes``, such as '700x460', the most frequent first; ``reshaped_sizes``, those of
        them that only official pictures have which are not of a frame's shape any more.
    """
    width, height = images["width_px"], images["height_px"]
    sizes = width.astype(str) + "x" + height.astype(str)
    official = images["magnification"].notna()
    shaped = [has_official_shape(h, w) for w, h in zip(width, height, strict=True)]
    is_reshaped = official & ~np.array(shaped, bool)
    most = [str(size) for size in sizes.value_counts().index[:_MOST_KEPT]]
    alone = set(sizes[is_reshaped]) - set(sizes[~is_reshaped])
    reshaped = tuple(size for size in most if size in alone)
    return {"training_sizes": tuple(most), "reshaped_sizes": reshaped}


def upsampling_factor(width_px: int, height_px: int, bundle: Bundle) -> float:
    """Return how many times an image is upsampled for the network; 0 for a training size."""
    if f"{width_px}x{height_px}" in bundle.card.input.training_sizes:
        return 0.0
    return _factor(width_px, height_px, bundle)


def is_too_much(factor: float, bundle: Bundle) -> bool:
    """Return whether an image is upsampled far more than most training images."""
    given = bundle.card.input
    reshaped = given.reshaped_sizes
    usual = next((size for size in given.training_sizes if size not in reshaped), None)
    if usual is None:
        return factor > MAX_UPSAMPLING
    width, height = map(int, usual.split("x"))
    return factor > MAX_UPSAMPLING * max(1.0, _factor(width, height, bundle))


def _factor(width_px: int, height_px: int, bundle: Bundle) -> float:
    height, width = bundle.image_size
    return max(height / height_px, width / width_px)


def check_size(width_px: int, height_px: int, official: bool, bundle: Bundle) -> Check | None:
    """Return a check if the size of an image is unusual for the model.

    Parameters
    ----------
    width_px, height_px : int
    official : bool
        Whether the image has an official BreakHis name.
    bundle : Bundle

    Returns
    -------
    Check or None
        BC105 (blocking) for an image that is upsampled too much, BC131 for a size that only
        resized full frames have in training, BC130 for another size or aspect ratio.
    """
    size: dict[str, Any] = {"width_px": width_px, "height_px": height_px}
    factor = upsampling_factor(width_px, height_px, bundle)
    if is_too_much(factor, bundle):
        sizes = training_sizes_label(bundle)
        return make_check("BC105", **size, factor=round(factor, 3), training_sizes=sizes)
    if not official and is_reshaped(width_px, height_px, bundle):
        return make_check("BC131", **size)
    if factor and not has_official_shape(height_px, width_px):
        return make_check("BC130", **size, training_sizes=training_sizes_label(bundle))
    return None


def check_sizes(images: pd.DataFrame, bundle: Bundle) -> tuple[Check, ...]:
    """Return the checks of `check_size` for a dataset, with counts.

    Parameters
    ----------
    pictures : DataFrame
        At least one row of a manifest: width_px, height_px, magnification.
    bundle : Bundle

    Returns
    -------
    tuple of Check
        BC150, BC151 and BC152: BC105, BC131 and BC130 for at least one image.
    """
    official = images["magnification"].notna()
    shapes = Counter(zip(images["width_px"], images["height_px"], official, strict=True))
    counts: Counter[str] = Counter()
    factors = []
    for (width, height, is_official), n in shapes.items():
        check = check_size(int(width), int(height), bool(is_official), bundle)
        if check is None:
            continue
        counts[check.code] += n
        if check.code == "BC105":
            factors.append(check.params["factor"])
    n_images, sizes = len(images), training_sizes_label(bundle)
    found = []
    if n := counts["BC105"]:
        found.append(
            make_check(
                "BC150", n_found=n, n_images=n_images, training_sizes=sizes,
                min_factor=min(factors), max_factor=max(factors),
            )
        )  # fmt: skip
    if n := counts["BC131"]:
        found.append(make_check("BC151", n_found=n, n_images=n_images))
    if n := counts["BC130"]:
        found.append(make_check("BC152", n_found=n, n_images=n_images, training_sizes=sizes))
    return tuple(found)


def is_reshaped(width_px: int, height_px: int, bundle: Bundle) -> bool:
    """Return whether a size is one of ``reshaped_sizes``, see `summarize_sizes`."""
    return f"{width_px}x{height_px}" in bundle.card.input.reshaped_sizes


def training_sizes_label(bundle: Bundle) -> list[str]:
    """Return up to three training sizes such as '700 x 460', the most frequent first."""
    sizes = bundle.card.input.training_sizes[:3]
    return [size.replace("x", " x ") for size in sizes] or ["an unknown number of"]
