"""Whether a picture is stained like those that a model learned from.

A model answers whatever it is shown, an empty slide or a photograph as well. The passport has
quantiles of how its training pictures are stained; what lies far outside of them is said.
"""

import numpy as np

from bc_model.data.stain import STAIN_COLUMNS, are_grey, stain_statistics
from bc_model.serving.passport import ModelCard, StainStatistics

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


def stain_facts(stain: np.ndarray, grey: np.ndarray) -> StainStatistics:
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
    return StainStatistics(_QUANTILES, columns, float(grey.mean()))


def strange_share(stain: np.ndarray, facts: StainStatistics) -> float:
    """Return how many of some pictures are stained strangely, a share; greyness is left out.

    Parameters
    ----------
    stain : ndarray of shape (n, 6)
        Of pictures that the facts do not come from.
    facts : StainStatistics
        As `stain_facts` returns it.
    """
    return float(np.mean([bool(strange_stain(one, False, facts)) for one in stain]))


def knows_stain(card: ModelCard) -> bool:
    """Tell whether a passport says how the training pictures are stained."""
    return card.input.stain is not None


def usual_strange_share(card: ModelCard) -> float | None:
    """Return how many pictures of other cases of the same kind are strange, a share, if measured.

    Of the model's validation part, or of cases that were left out of the quantiles.
    """
    stain = card.input.stain
    return stain.out_of_distribution_proportion if stain else None


def strange_stain(found: np.ndarray, grey: bool, statistics: StainStatistics) -> list[str]:
    """Name what a picture's staining has that no training picture's had.

    Parameters
    ----------
    found : ndarray of shape (6,), float
        Of one picture, see `bc_model.data.stain.stain_statistics`.
    grey : bool
        See `bc_model.data.stain.are_grey`: among the statistics alone it is not found.
    statistics : StainStatistics

    Returns
    -------
    list of str
        Such as 'eosin paler'; 'blank' or 'no colour' alone; empty where it lies within or near the
        training pictures.
    """
    if grey and not statistics.grayscale_proportion:  # then the rest follows
        return [_NO_COLOUR]
    (spread, least), *others = (
        (value, statistics.values[column][_LOWEST])
        for column, value in zip(STAIN_COLUMNS, found, strict=True)
        if column.endswith("_sd")  # of haematoxylin first
    )
    if spread < _BLANK_BELOW * least and all(value < low for value, low in others):
        return [_BLANK]
    strange = []
    for column, value in zip(STAIN_COLUMNS, found, strict=True):
        known = dict(zip(statistics.quantiles, statistics.values[column], strict=True))
        low, median, high = known[0.01], known[0.5], known[0.99]
        stain, _, kind = column.rpartition("_")
        below, above = _WORDS[kind]
        if value < low - _ALLOWED * (median - low):
            strange.append(f"{_STAINS.get(stain, stain)} {below}")
        elif value > high + _ALLOWED * (high - median):
            strange.append(f"{_STAINS.get(stain, stain)} {above}")
    return strange


def stain_warning(pixels: np.ndarray, card: ModelCard) -> tuple[str, bool]:
    """Hold a picture's staining against what the model learned from.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        As the network is given them.
    card : ModelCard
        Without ``input.statistics`` nothing is known, and nothing said.

    Returns
    -------
    sentence : str
        Empty where there is nothing to say.
    is_void : bool
        Whether the estimate means nothing: blank, or no colour.
    """
    if card.input.stain is None:
        return "", False
    one = pixels[None]
    strange = strange_stain(stain_statistics(one)[0], bool(are_grey(one)[0]), card.input.stain)
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
