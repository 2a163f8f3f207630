"""Whether a picture is stained like those that a model learned from.

A model answers whatever it is shown, an empty slide or a photograph as well. The passport has
quantiles of how its training pictures are stained; what lies far outside of them is said.
"""

from typing import Any

import numpy as np

from bc_model.data.stain import STAIN_COLUMNS, stain_statistics

_ALLOWED = 0.5
"""How far beyond the 1st and 99th percentile a statistic may lie, as a share of their distance from
the median. Of BreakHis pictures whose case was left out of the percentiles, 1.5 % lie further."""

_WORDS = {"mean": ("paler", "stronger"), "sd": ("more even", "more uneven")}
_STAINS = {"residual": "other colours"}
_COLOURLESS = 4.0
"""Mean difference of the largest and smallest channel, of 255, below which a picture is grey; the
least coloured of 1,053 BreakHis pictures has 7.9."""


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
    statistics = passport["input"].get("statistics")
    if statistics is None:
        return ()
    found = stain_statistics(pixels[None])[0]
    spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    strange = ["no colour"] if spread.mean() < _COLOURLESS else []
    for column, value in zip(STAIN_COLUMNS, found, strict=True):
        known = dict(zip(statistics["quantiles"], statistics[column], strict=True))
        low, median, high = known[0.01], known[0.5], known[0.99]
        stain, _, kind = column.rpartition("_")
        below, above = _WORDS[kind]
        if value < low - _ALLOWED * (median - low):
            strange.append(f"{_STAINS.get(stain, stain)} {below}")
        elif value > high + _ALLOWED * (high - median):
            strange.append(f"{_STAINS.get(stain, stain)} {above}")
    if not strange:
        return ()
    return (
        f"Stained unlike anything that the model learned from: {', '.join(strange)}. It may be "
        "of another stain or laboratory, blank, or no tissue; do not rely on the estimate.",
    )
