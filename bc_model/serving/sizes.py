"""Check the size of an image against the sizes of a model's training images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.checks import Check, make_check
from bc_model.data.pictures import is_official_shape
from bc_model.serving.bundle import Bundle

if TYPE_CHECKING:
    import pandas as pd

MAX_UPSAMPLING = 1.5
"""Relative to the training images; above it, tissue is too coarse for the model to interpret."""
_MOST_KEPT = 10


def size_facts(pictures: pd.DataFrame) -> dict[str, tuple[str, ...]]:
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
    width, height = pictures["width_px"], pictures["height_px"]
    sizes = width.astype(str) + "x" + height.astype(str)
    official = pictures["magnification"].notna()
    shaped = [is_official_shape(h, w) for w, h in zip(width, height, strict=True)]
    is_reshaped = official & ~np.array(shaped, bool)
    most = [str(size) for size in sizes.value_counts().index[:_MOST_KEPT]]
    alone = set(sizes[is_reshaped]) - set(sizes[~is_reshaped])
    reshaped = tuple(size for size in most if size in alone)
    return {"training_sizes": tuple(most), "reshaped_sizes": reshaped}


def enlarged(width_px: int, height_px: int, bundle: Bundle) -> float:
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
    factor = enlarged(width_px, height_px, bundle)
    if is_too_much(factor, bundle):
        sizes = known_sizes(bundle)
        return make_check("BC105", **size, factor=round(factor, 3), training_sizes=sizes)
    if not official and is_reshaped(width_px, height_px, bundle):
        return make_check("BC131", **size)
    if factor and not is_official_shape(height_px, width_px):
        return make_check("BC130", **size, training_sizes=known_sizes(bundle))
    return None


def check_sizes(pictures: pd.DataFrame, bundle: Bundle) -> tuple[Check, ...]:
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
    official = pictures["magnification"].notna()
    shapes = Counter(zip(pictures["width_px"], pictures["height_px"], official, strict=True))
    counts: Counter[str] = Counter()
    factors = []
    for (width, height, is_official), n in shapes.items():
        check = check_size(int(width), int(height), bool(is_official), bundle)
        if check is None:
            continue
        counts[check.code] += n
        if check.code == "BC105":
            factors.append(check.params["factor"])
    n_images, sizes = len(pictures), known_sizes(bundle)
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
    """Return whether a size is one of ``reshaped_sizes``, see `size_facts`."""
    return f"{width_px}x{height_px}" in bundle.card.input.reshaped_sizes


def known_sizes(bundle: Bundle) -> list[str]:
    """Return up to three training sizes such as '700 x 460', the most frequent first."""
    sizes = bundle.card.input.training_sizes[:3]
    return [size.replace("x", " x ") for size in sizes] or ["an unknown number of"]
