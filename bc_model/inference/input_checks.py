"""Check whether the staining and the size of an image resemble the training images of a model.

A model predicts a class for any input, such as an empty slide or a photograph. The model card
contains the distribution of the training images, and values far outside of it fail a check.
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

MAX_UPSAMPLING = 1.5
"""Relative to the training images. With a larger factor, tissue is too coarse for the model."""

_QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
_TOLERANCE = 0.5
"""Accepted excess over the 1st and 99th percentile, relative to their distance from the median."""
_BLANK_BELOW = 0.5
"""Relative to the 1st percentile of the hematoxylin spread; lower values indicate no nuclei. The
minimum of 1,053 BreakHis images of unseen cases is 0.79, and glass with camera noise has 0.2. Fat
and collagen also have low values, so an image is blank only if the other stains vary little too."""
_MAX_LISTED_SIZES = 10
_BELOW_AND_ABOVE = {"mean": ("paler", "stronger"), "sd": ("more_even", "more_uneven")}
_STAIN_CODES = {
    column.removesuffix("_mean"): code
    for column, code in zip(STAIN_COLUMNS[::2], ("hematoxylin", "eosin", "residual"), strict=True)
}


def summarize_staining(stain: np.ndarray, gray: np.ndarray) -> StainStatistics:
    """Return the staining statistics of training images for the model card.

    `stain`, shape (n, 6), is from `stain_statistics`, and `gray`, shape (n,), from `are_gray`.
    """
    values = np.quantile(stain, _QUANTILES, axis=0).round(5)
    columns = {column: tuple(values[:, i].tolist()) for i, column in enumerate(STAIN_COLUMNS)}
    return StainStatistics(_QUANTILES, columns, float(gray.mean()))


def measure_out_of_distribution_proportion(stain: np.ndarray, statistics: StainStatistics) -> float:
    """Return the proportion of images whose staining differs from the training images.

    `stain` has the shape (n, 6). Grayscale is not checked.
    """
    return float(np.mean([bool(find_staining_differences(x, False, statistics)) for x in stain]))


def expected_out_of_distribution_proportion(card: ModelCard) -> float | None:
    """Return the proportion with unusual staining among unseen cases of the training dataset."""
    stain = card.input.stain
    return stain.out_of_distribution_proportion if stain else None


def find_staining_differences(
    stain: np.ndarray, is_gray: bool, statistics: StainStatistics
) -> list[str]:
    """Return how the staining of an image, shape (6,), differs from the training images.

    The result is a list of codes such as 'eosin_paler', see `bc_model.checks.TERMS`; only 'blank'
    or only 'grayscale'; or empty if all values are within or near those of the training images.
    """
    if is_gray and not statistics.grayscale_proportion:  # all other differences result from it
        return ["grayscale"]
    (spread, smallest), *others = (
        (value, statistics.values[column][0])
        for column, value in zip(STAIN_COLUMNS, stain, strict=True)
        if column.endswith("_sd")  # hematoxylin is first
    )
    if spread < _BLANK_BELOW * smallest and all(value < low for value, low in others):
        return ["blank"]
    differences = []
    for column, value in zip(STAIN_COLUMNS, stain, strict=True):
        quantiles = dict(zip(statistics.quantiles, statistics.values[column], strict=True))
        low, median, high = quantiles[0.01], quantiles[0.5], quantiles[0.99]
        stain_name, _, kind = column.rpartition("_")
        below, above = _BELOW_AND_ABOVE[kind]
        if value < low - _TOLERANCE * (median - low):
            differences.append(f"{_STAIN_CODES[stain_name]}_{below}")
        elif value > high + _TOLERANCE * (high - median):
            differences.append(f"{_STAIN_CODES[stain_name]}_{above}")
    return differences


def check_staining(pixels: np.ndarray, card: ModelCard) -> Check | None:
    """Return a check if the staining differs from the training images.

    BC103 (blank) and BC104 (grayscale) are blocking; BC120 lists other differences. `pixels` is the
    input of the network, shape (height, width, 3), uint8.
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


def summarize_sizes(images: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return ``training_sizes`` and ``reshaped_sizes`` for the model card, see `ModelInput`.

    `images` has the columns width_px, height_px and magnification, which only images with an
    official name have.
    """
    width, height = images["width_px"], images["height_px"]
    sizes = width.astype(str) + "x" + height.astype(str)
    has_frame_shape = [has_official_shape(h, w) for w, h in zip(width, height, strict=True)]
    is_reshaped = images["magnification"].notna() & ~np.array(has_frame_shape, bool)
    training = tuple(str(size) for size in sizes.value_counts().index[:_MAX_LISTED_SIZES])
    reshaped = set(sizes[is_reshaped]) - set(sizes[~is_reshaped])
    return {
        "training_sizes": training,
        "reshaped_sizes": tuple(size for size in training if size in reshaped),
    }


def upsampling_factor(width_px: int, height_px: int, bundle: Bundle) -> float:
    """Return the upsampling factor of an image for the network; 0 for a training size."""
    if f"{width_px}x{height_px}" in bundle.card.input.training_sizes:
        return 0.0
    return _resize_factor(width_px, height_px, bundle)


def _resize_factor(width_px: int, height_px: int, bundle: Bundle) -> float:
    height, width = bundle.image_size
    return max(height / height_px, width / width_px)


def _is_too_coarse(factor: float, bundle: Bundle) -> bool:
    """Return whether an image is upsampled far more than most training images."""
    card = bundle.card.input
    usual = next((size for size in card.training_sizes if size not in card.reshaped_sizes), None)
    if usual is None:
        return factor > MAX_UPSAMPLING
    width, height = map(int, usual.split("x"))
    return factor > MAX_UPSAMPLING * max(1.0, _resize_factor(width, height, bundle))


def _size_labels(bundle: Bundle) -> list[str]:
    """Return up to three training sizes such as '700 x 460', the most frequent first."""
    sizes = bundle.card.input.training_sizes[:3]
    return [size.replace("x", " x ") for size in sizes] or ["an unknown number of"]


def check_size(width_px: int, height_px: int, is_official: bool, bundle: Bundle) -> Check | None:
    """Return a check if the size of an image is unusual for the model.

    BC105 (blocking) is an image that is upsampled too much, BC131 a size that only resized full
    frames have in training, and BC130 another size or aspect ratio. `is_official` states whether
    the image has an official BreakHis name.
    """
    size: dict[str, Any] = {"width_px": width_px, "height_px": height_px}
    factor = upsampling_factor(width_px, height_px, bundle)
    if _is_too_coarse(factor, bundle):
        sizes = _size_labels(bundle)
        return make_check("BC105", **size, factor=round(factor, 3), training_sizes=sizes)
    if not is_official and f"{width_px}x{height_px}" in bundle.card.input.reshaped_sizes:
        return make_check("BC131", **size)
    if factor and not has_official_shape(height_px, width_px):
        return make_check("BC130", **size, training_sizes=_size_labels(bundle))
    return None


def check_sizes(images: pd.DataFrame, bundle: Bundle) -> tuple[Check, ...]:
    """Return the checks of `check_size` for the images of a dataset, with counts.

    BC150, BC151 and BC152 count the images with BC105, BC131 and BC130. `images` has the columns
    width_px, height_px and magnification.
    """
    is_official = images["magnification"].notna()
    shapes = Counter(zip(images["width_px"], images["height_px"], is_official, strict=True))
    counts: Counter[str] = Counter()
    factors = []
    for (width, height, official), n in shapes.items():
        check = check_size(int(width), int(height), bool(official), bundle)
        if check is None:
            continue
        counts[check.code] += n
        if check.code == "BC105":
            factors.append(check.params["factor"])
    sizes = {"training_sizes": _size_labels(bundle)}
    extremes = {"min_factor": min(factors, default=0), "max_factor": max(factors, default=0)}
    params: dict[str, tuple[str, dict[str, Any]]] = {
        "BC105": ("BC150", sizes | extremes),
        "BC131": ("BC151", {}),
        "BC130": ("BC152", sizes),
    }
    return tuple(
        make_check(code, n_found=counts[single], n_images=len(images), **extra)
        for single, (code, extra) in params.items()
        if counts[single]
    )
