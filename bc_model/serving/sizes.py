"""What a picture's size says, held against the sizes that a model learned from."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from bc_model.data.pictures import is_official_shape
from bc_model.serving.bundle import Bundle
from bc_model.words import many

if TYPE_CHECKING:
    import pandas as pd

TOO_MUCH_ENLARGED = 1.5
"""Times: what a picture has of tissue is then too coarse to be what the model learned from."""
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
    """Return how many times a picture is enlarged for the network, 0 for a size that it knows."""
    if f"{width_px}x{height_px}" in bundle.card.input.training_sizes:
        return 0.0
    return _factor(width_px, height_px, bundle)


def is_too_much(factor: float, bundle: Bundle) -> bool:
    """Tell whether a picture is enlarged far more than most that the model learned from."""
    given = bundle.card.input
    reshaped = given.reshaped_sizes
    usual = next((size for size in given.training_sizes if size not in reshaped), None)
    if usual is None:
        return factor > TOO_MUCH_ENLARGED
    width, height = map(int, usual.split("x"))
    return factor > TOO_MUCH_ENLARGED * max(1.0, _factor(width, height, bundle))


def _factor(width_px: int, height_px: int, bundle: Bundle) -> float:
    height, width = bundle.image_size
    return max(height / height_px, width / width_px)


def about_enlarging(width_px: int, height_px: int, bundle: Bundle) -> tuple[str, ...]:
    """Warn of a picture that is enlarged too much: one sentence, or none."""
    factor = enlarged(width_px, height_px, bundle)
    if not is_too_much(factor, bundle):
        return ()
    return (
        f"This picture has {width_px} x {height_px} pixels and is enlarged {factor:.1f} times for "
        f"the model, which learned from pictures of {known_sizes(bundle)}. The estimate means "
        "nothing.",
    )


def about_size(width_px: int, height_px: int, official: bool, bundle: Bundle) -> tuple[str, ...]:
    """Say what to keep in mind of a size: one sentence, or none.

    Parameters
    ----------
    width_px, height_px : int
    official : bool
        The picture has an official name.
    bundle : Bundle
    """
    if not official and is_reshaped(width_px, height_px, bundle):
        return (
            f"The model knows {width_px} x {height_px} pixels from whole BreakHis frames that were "
            "brought to this shape. A field that was cut out at this size is at another scale, "
            "and its estimate means nothing.",
        )
    factor = enlarged(width_px, height_px, bundle)
    if not factor or is_too_much(factor, bundle) or is_official_shape(height_px, width_px):
        return ()
    return (
        f"This picture has {width_px} x {height_px} pixels; the model learned from pictures of "
        f"{known_sizes(bundle)}. It was read whole, so its scale and shape may not be what the "
        "model knows.",
    )


def about_sizes(pictures: pd.DataFrame, bundle: Bundle) -> tuple[str, ...]:
    """Say the same of a whole set.

    Parameters
    ----------
    pictures : DataFrame
        Rows of a manifest, at least one: width_px, height_px, magnification.
    bundle : Bundle
    """
    official = pictures["magnification"].notna()
    shapes = zip(pictures["width_px"], pictures["height_px"], official, strict=True)
    rows = [(int(w), int(h), bool(o), n) for (w, h, o), n in Counter(shapes).items()]
    factors = [(enlarged(w, h, bundle), n) for w, h, _, n in rows]
    coarse = [(factor, n) for factor, n in factors if is_too_much(factor, bundle)]
    reshaped = [n for w, h, official, n in rows if not official and is_reshaped(w, h, bundle)]
    other = [n for w, h, official, n in rows if about_size(w, h, official, bundle)]
    of = f"of {many(len(pictures), 'picture')}"
    said = []
    if coarse:
        low, high = f"{min(coarse)[0]:.1f}", f"{max(coarse)[0]:.1f}"
        times = low if low == high else f"{low} to {high}"
        said.append(
            f"{sum(n for _, n in coarse):,} {of} are enlarged {times} times for the model, which "
            f"learned from pictures of {known_sizes(bundle)}. Their estimates mean nothing."
        )
    if reshaped:
        said.append(
            f"{sum(reshaped):,} {of} have a size that the model knows from whole BreakHis frames "
            "that were brought to this shape. If they were cut out at this size they are at "
            "another scale, and their estimates mean nothing."
        )
    if rest := sum(other) - sum(reshaped):
        said.append(
            f"{rest:,} {of} are of sizes or shapes other than {known_sizes(bundle)}, which the "
            "model learned from; they were read whole."
        )
    return tuple(said)


def is_reshaped(width_px: int, height_px: int, bundle: Bundle) -> bool:
    """Tell whether a size is one of ``reshaped_sizes``, see `size_facts`."""
    return f"{width_px}x{height_px}" in bundle.card.input.reshaped_sizes


def known_sizes(bundle: Bundle) -> str:
    """Name the most frequent sizes that a model learned from, px."""
    sizes = bundle.card.input.training_sizes[:3]
    return " and ".join(size.replace("x", " x ") for size in sizes) or "unknown sizes"
