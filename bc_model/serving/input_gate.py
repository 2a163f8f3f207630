"""Whether a picture is stained like those that a model learned from.

A model answers whatever it is shown, an empty slide or a photograph as well. The passport has
quantiles of how its training pictures are stained; what lies far outside of them is said.
"""

from typing import Any

import numpy as np

from bc_model.data.stain import STAIN_COLUMNS, are_grey, stain_statistics

_QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
_LOWEST = 0
_ALLOWED = 0.5
"""How far beyond the 1st and 99th percentile a statistic may lie, as a share of their distance from
the median."""

_BLANK_BELOW = 0.5
"""Of the 1st percentile of haematoxylin's spread: less has no nuclei. Of 1,053 BreakHis pictures
whose case was left out none has less than 0.79 of it; glass with a camera's noise has 0.2. Fat and
collagen have less as well, and eosin, so that a picture is blank only if nothing else varies."""
_NO_COLOUR, _BLANK = "no colour", "blank"
_WORDS = {"mean": ("paler", "stronger"), "sd": ("more even", "more uneven")}
_STAINS = {"residual": "other colours"}


def stain_facts(stain: np.ndarray, grey: np.ndarray) -> dict[str, Any]:
    """Return how training pictures are stained: what a picture can be held against.

    Parameters
    ----------
    stain : ndarray of shape (n, 6)
        See `bc_model.data.stain.stain_statistics`.
    grey : ndarray of shape (n,), bool
        See `bc_model.data.stain.are_grey`.

    Returns
    -------
    dict
        ``quantiles``, and for each of `STAIN_COLUMNS` its values at these, optical density; and
        ``grey_share``, of the pictures without colour: what a passport has as ``input.statistics``.
    """
    found = np.quantile(stain, _QUANTILES, axis=0).round(5)
    columns = {column: found[:, i].tolist() for i, column in enumerate(STAIN_COLUMNS)}
    return {"quantiles": list(_QUANTILES), **columns, "grey_share": float(grey.mean())}


def strange_share(stain: np.ndarray, facts: dict[str, Any]) -> float:
    """Return how many of some pictures are stained strangely, a share; greyness is left out.

    Parameters
    ----------
    stain : ndarray of shape (n, 6)
        Of pictures that the facts do not come from.
    facts : dict
        As `stain_facts` returns it.
    """
    passport = {"input": {"statistics": facts}}
    return float(np.mean([bool(strange_stain(one, False, passport)) for one in stain]))


def knows_stain(passport: dict[str, Any]) -> bool:
    """Tell whether a passport says how the training pictures are stained."""
    return "statistics" in passport["input"]


def usual_strange_share(passport: dict[str, Any]) -> float | None:
    """Return how many pictures of other cases of the same kind are strange, a share, if measured.

    Of the model's validation part, or of cases that were left out of the quantiles.
    """
    share: float | None = passport["input"].get("statistics", {}).get("strange_share")
    return share


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
        Such as 'eosin paler'; 'blank' or 'no colour' alone; empty where it lies within or near the
        training pictures.
    """
    statistics = passport["input"]["statistics"]
    if grey and not statistics.get("grey_share", 0.0):  # then the rest follows
        return [_NO_COLOUR]
    (spread, least), *others = (
        (value, statistics[column][_LOWEST])
        for column, value in zip(STAIN_COLUMNS, found, strict=True)
        if column.endswith("_sd")  # of haematoxylin first
    )
    if spread < _BLANK_BELOW * least and all(value < low for value, low in others):
        return [_BLANK]
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


def stain_warning(pixels: np.ndarray, passport: dict[str, Any]) -> tuple[str, bool]:
    """Hold a picture's staining against what the model learned from.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        As the network is given them.
    passport : dict
        Without ``input.statistics`` nothing is known, and nothing said.

    Returns
    -------
    sentence : str
        Empty where there is nothing to say.
    is_void : bool
        Whether the estimate means nothing: blank, or no colour.
    """
    if not knows_stain(passport):
        return "", False
    one = pixels[None]
    strange = strange_stain(stain_statistics(one)[0], bool(are_grey(one)[0]), passport)
    if not strange:
        return "", False
    if strange == [_NO_COLOUR]:
        return "This picture has no colour: it is not stained. The estimate means nothing.", True
    if strange == [_BLANK]:
        return "This picture is blank, or nearly of one colour. The estimate means nothing.", True
    return (
        f"Stained unlike anything that the model learned from: {', '.join(strange)}. It may be of "
        "another stain or laboratory, or no tissue; do not rely on the estimate.",
        False,
    )
