"""Whether a probability means what it says: the reliability diagram and the expected error.

Of the pictures given about 0.8, are 80 % malignant? This looks; `calibration` mends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.proportions import wilson
from bc_model.evaluation.weighting import Floats

N_BINS = 10
_N_SIMULATED = 200
_METHOD = "95 % Wilson at the effective number of cases: pictures of a case share their truth"


@dataclass(frozen=True)
class Bin:
    """Pictures of about one probability.

    Attributes
    ----------
    low, high : float
        Range of the probabilities; `high` belongs to the next bin, but for the last one.
    mean_prob : float
        What the model said, on average.
    observed : Figure
        Share of malignant pictures.
    """

    low: float
    high: float
    mean_prob: float
    observed: Figure


@dataclass(frozen=True)
class Reliability:
    """How far the probabilities are from what they say.

    Attributes
    ----------
    bins : tuple of Bin
        Of equal width; empty ones are left out.
    ece, ece_equal_count : float
        Expected calibration error: mean distance of said and seen over the pictures, with bins of
        equal width and of equal count.
    ece_by_chance, ece_equal_count_by_chance : float
        What a perfectly calibrated model would show on as many independent pictures. The error is
        never 0, so it must be read beside this; pictures of a case make it larger still.
    n, n_cases : int
    """

    bins: tuple[Bin, ...]
    ece: float
    ece_by_chance: float
    ece_equal_count: float
    ece_equal_count_by_chance: float
    n: int
    n_cases: int


def reliability(
    malignant: NDArray[np.bool_],
    prob_malignant: Floats,
    case: NDArray[np.str_],
    *,
    n_bins: int = N_BINS,
    seed: int = 0,
) -> Reliability:
    """Hold the probabilities against the truth.

    Parameters
    ----------
    malignant, prob_malignant, case : ndarray of shape (n_pictures,)
        At least one picture; an unknown case is empty text.
    n_bins : int, default=10
    seed : int, default=0
        Of the simulation of what chance alone would show.

    References
    ----------
    Guo and others, "On Calibration of Modern Neural Networks", 2017. The bias: Kumar, Liang and Ma,
    "Verified Uncertainty Calibration", 2019.
    """
    prob = np.asarray(prob_malignant, dtype=np.float64)
    by_width = np.minimum((prob * n_bins).astype(int), n_bins - 1)
    # Ties stay together: a bin is a range of probabilities, not of positions.
    quantiles = np.quantile(prob, np.linspace(0, 1, n_bins + 1)[1:-1])
    by_count = np.searchsorted(quantiles, prob, side="right")
    truths = np.random.default_rng(seed).random((_N_SIMULATED, prob.size)) < prob
    return Reliability(
        bins=tuple(
            _bin(k / n_bins, (k + 1) / n_bins, by_width == k, malignant, prob, case)
            for k in np.unique(by_width).tolist()
        ),
        ece=float(_errors(malignant[None], prob, by_width)[0]),
        ece_by_chance=float(_errors(truths, prob, by_width).mean()),
        ece_equal_count=float(_errors(malignant[None], prob, by_count)[0]),
        ece_equal_count_by_chance=float(_errors(truths, prob, by_count).mean()),
        n=prob.size,
        n_cases=np.unique(case[case != ""]).size,
    )


def _bin(
    low: float,
    high: float,
    members: NDArray[np.bool_],
    malignant: NDArray[np.bool_],
    prob: Floats,
    case: NDArray[np.str_],
) -> Bin:
    names = case[members]
    _, sizes = np.unique(names[names != ""], return_counts=True)
    alone = int((names == "").sum())
    # Kish's effective number: as many equal cases would vary as much as these unequal ones.
    effective = names.size**2 / (float((sizes.astype(float) ** 2).sum()) + alone)
    share = float(malignant[members].mean())
    interval = wilson(share * effective, effective)
    observed = Figure(share, interval.low, interval.high, names.size, sizes.size, _METHOD)
    return Bin(low, high, float(prob[members].mean()), observed)


def _errors(truths: NDArray[np.bool_], prob: Floats, bins: NDArray[np.intp]) -> Floats:
    """Return the expected calibration error of each row of truths."""
    member = np.eye(int(bins.max()) + 1)[bins]
    return np.abs((truths - prob) @ member).sum(axis=1) / prob.size
