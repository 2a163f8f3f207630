"""Check whether the staining of an image resembles that of a model's training images.

A model predicts a class for any input, such as an empty slide or a photograph. The model card
contains quantiles of the staining of the training images; values far outside of them fail a check.
"""

import numpy as np

from bc_model.checks import Check, make_check
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
_GRAYSCALE, _BLANK = "grayscale", "blank"
_BELOW_AND_ABOVE = {"mean": ("paler", "stronger"), "sd": ("more_even", "more_uneven")}
_STAIN_CODES = {
    column.removesuffix("_mean"): code
    for column, code in zip(STAIN_COLUMNS[::2], ("hematoxylin", "eosin", "residual"), strict=True)
}


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
    if grey and not statistics.grayscale_proportion:  # every other difference follows from it
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
    differences = strange_stain(
        stain_statistics(batch)[0], bool(are_grey(batch)[0]), card.input.stain
    )
    match differences:
        case []:
            return None
        case ["blank"]:
            return make_check("BC103")
        case ["grayscale"]:
            return make_check("BC104")
    return make_check("BC120", differences=differences)
