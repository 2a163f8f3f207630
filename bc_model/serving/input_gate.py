"""Whether a picture is stained like those that a model learned from.

A model answers whatever it is shown, an empty slide or a photograph as well. The passport has
quantiles of how its training pictures are stained; what lies far outside of them is said.
"""

from typing import Any

import numpy as np

from bc_model.data.stain import STAIN_COLUMNS, are_grey, stain_statistics

_QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
_ALLOWED = 0.5
"""How far beyond the 1st and 99th percentile a statistic may lie, as a share of their distance from
the median."""
SHARE_BEYOND = 0.015
"""Of BreakHis pictures whose case was left out of the percentiles, this share lies further."""

_WORDS = {"mean": ("paler", "stronger"), "sd": ("more even", "more uneven")}
_STAINS = {"residual": "other colours"}


def stain_quantiles(stain: np.ndarray) -> dict[str, list[float]]:
    """Return quantiles of how training pictures are stained: what a picture can be held against.

    Parameters
    ----------
    stain : ndarray of shape (n, 6)
        See `bc_model.data.stain.stain_statistics`.

    Returns
    -------
    dict
        ``quantiles``, and for each of `STAIN_COLUMNS` its values at these, optical density: what a
        passport has as ``input.statistics``.
    """
    found = np.quantile(stain, _QUANTILES, axis=0).round(5)
    return {"quantiles": list(_QUANTILES)} | {
        column: found[:, i].tolist() for i, column in enumerate(STAIN_COLUMNS)
    }


def knows_stain(passport: dict[str, Any]) -> bool:
    """Tell whether a passport says how the training pictures are stained."""
    return "statistics" in passport["input"]


def strange_stain(found: np.ndarray, grey: bool, passport: dict[str, Any]) -> list[str]:
    """Name what a picture's staining has that no training picture's had.

    Parameters
    ----------
    found : ndarray of shape (6,), float
        Of one picture, see `bc_model.data.stain.stain_statistics`.
    grey : bool
        See `bc_model.data.stain.are_grey`: among the statistics alone it is not found.
    passport : dict
        See `knows_stain`.

    Returns
    -------
    list of str
        Such as 'eosin paler'; empty where it lies within or near the training pictures.
    """
    if grey:  # then the rest follows
        return ["no colour"]
    statistics = passport["input"]["statistics"]
    strange = []
    for column, value in zip(STAIN_COLUMNS, found, strict=True):
        known = dict(zip(statistics["quantiles"], statistics[column], strict=True))
        low, median, high = known[0.01], known[0.5], known[0.99]
        stain, _, kind = column.rpartition("_")
        below, above = _WORDS[kind]
        if value < low - _ALLOWED * (median - low):
            strange.append(f"{_STAINS.get(stain, stain)} {below}")
        elif value > high + _ALLOWED * (high - median):
            strange.append(f"{_STAINS.get(stain, stain)} {above}")
    return strange


def stain_warnings(pixels: np.ndarray, passport: dict[str, Any]) -> tuple[str, ...]:
    """Hold a picture's staining against what the model learned from.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        As the network is given them.
    passport : dict
        Without ``input.statistics`` nothing is known, and nothing said.

    Returns
    -------
    tuple of str
        One sentence, or none.
    """
    if not knows_stain(passport):
        return ()
    one = pixels[None]
    strange = strange_stain(stain_statistics(one)[0], bool(are_grey(one)[0]), passport)
    if not strange:
        return ()
    return (
        f"Stained unlike anything that the model learned from: {', '.join(strange)}. It may be "
        "of another stain or laboratory, blank, or no tissue; do not rely on the estimate.",
    )
