"""Temperature scaling: one number that makes probabilities mean what they say.

Logits are divided by it before the softmax. It moves no picture past another and no cut-off of 0.5,
so heatmaps, ranks and areas stay as they are; only the probabilities grow bolder or meeker.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bc_model.evaluation.intervals import wilson
from bc_model.evaluation.metrics import Floats
from bc_model.inference.model_card import DecisionThreshold, Temperature
from bc_model.utils.formatting import many
from bc_model.utils.metric import Metric

LOWEST, HIGHEST = 0.05, 20.0
"""A temperature at either end was not found but run into."""
FEWEST_CASES = 3
"""Of each class. One case more or less then still moves the temperature, but not at will."""


def fit_temperature(
    margin: Floats, malignant: NDArray[np.bool_], case: NDArray[np.str_]
) -> Temperature:
    """Fit a temperature on validation pictures.

    Lowest log loss, every *case* counted once: a case with many pictures would else decide alone.
    Classes are not weighed: a probability is about the mix of classes that the data has. The
    pictures must not be those that the model learned from, and not those that it is judged on.
    They did choose the epoch, which leaves the temperature a little too low.

    Parameters
    ----------
    margin : ndarray of shape (n,)
        Logit of malignant minus logit of benign, before any temperature.
    malignant : ndarray of bool, shape (n,)
    case : ndarray of str, shape (n,)
        Empty where unknown: such a picture counts as a case.

    Returns
    -------
    Temperature
        1, and why, with fewer than `FEWEST_CASES` of a class, with pictures that are all on their
        right side or logits that are all tiny (the bolder the better), or where the logits tell
        nothing (the meeker the better).

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.
    """
    from scipy.optimize import minimize_scalar  # who only reads reports does without SciPy

    n, cases = margin.size, np.unique(case[case != ""]).size
    if malignant.all() or not malignant.any():
        return _unfitted("the validation part holds one class only", n, cases)
    few = min(_n_cases(case[malignant == truth]) for truth in (False, True))
    if few < FEWEST_CASES:
        return _unfitted(
            f"the validation part has {many(few, 'case')} of a class, fewer than {FEWEST_CASES}",
            n,
            cases,
        )
    weights = case_weights(case)
    signed = np.where(malignant, margin, -margin)

    def loss(log_temperature: float) -> float:
        return float(weights @ np.logaddexp(0.0, -signed / np.exp(log_temperature)))

    bounds = np.log([LOWEST, HIGHEST])
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    value = float(np.exp(found.x))
    if value < LOWEST * 1.01:
        all_correct = "every validation picture is on its right side of 0.5"
        into_end = f"the fit ran into its lower end of {LOWEST}"
        return _unfitted(all_correct if (signed > 0).all() else into_end, n, cases)
    if value > HIGHEST * 0.99:
        return _unfitted("the logits tell nothing on the validation part", n, cases)
    of_cases = f"of {cases} cases, each case counted once" if cases else "of unknown cases"
    return Temperature(
        value=value,
        method=f"fitted by lowest log loss on {n} validation pictures {of_cases}",
        n_images=n,
        n_cases=cases,
        log_loss_before=loss(0.0),
        log_loss_after=loss(found.x),
    )


def rescale_threshold(
    threshold: DecisionThreshold, before: float, after: float
) -> DecisionThreshold:
    """Return the decision threshold of a model card for another temperature.

    Parameters
    ----------
    threshold : DecisionThreshold
        Threshold that was selected while the temperature was `before`.
    before, after : float

    Returns
    -------
    DecisionThreshold
        The value that predicts the same images malignant. It is the default where the threshold
        was selected for means over cases, which follow no such rule.

    Examples
    --------
    >>> apply_threshold(DecisionThreshold(0.9, "set by hand"), 1.0, 2.0).value
    0.75
    """
    from scipy.special import expit, logit  # as above

    old = threshold.value
    change = f"temperature {before:.3f} became {after:.3f}"
    if before == after:
        return threshold
    if threshold.unit == "case":
        reset = f"default: {old:.3f} was chosen by case before {change}; choose it again"
        return DecisionThreshold(0.5, reset)
    value = float(expit(logit(old) * before / after))
    if value == old:
        return threshold
    method = f"{threshold.method}; carried over from {old:.3f} as {change}"
    return replace(threshold, value=value, method=method)


def case_weights(case: NDArray[np.str_]) -> Floats:
    """Return weights that add up to 1 and are the same in all for every case, shape (n,)."""
    names = case.astype(object)
    unknown = np.flatnonzero(case == "")
    names[unknown] = [f"\0{k}" for k in unknown]  # no case is called so
    _, code, sizes = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    weights: Floats = 1.0 / (sizes.size * sizes[code])
    return weights


def _n_cases(case: NDArray[np.str_]) -> int:
    """Count cases; a picture of an unknown one counts as one."""
    return int(np.unique(case[case != ""]).size + (case == "").sum())


def _unfitted(why: str, n: int, cases: int) -> Temperature:
    return Temperature(1.0, f"not fitted, {why}: probabilities are raw", n, cases)


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

    prob_low: float
    prob_high: float
    mean_prob: float
    observed: Metric


@dataclass(frozen=True)
class CalibrationResult:
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
    ece_if_calibrated: float
    ece_equal_count: float
    ece_equal_count_if_calibrated: float
    n_images: int
    n_cases: int


def measure_calibration(
    malignant: NDArray[np.bool_],
    prob_malignant: Floats,
    case: NDArray[np.str_],
    *,
    n_bins: int = N_BINS,
    seed: int = 0,
) -> CalibrationResult:
    """Hold the probabilities against the truth.

    Parameters
    ----------
    malignant, prob_malignant, case : ndarray of shape (n_images,)
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
    return CalibrationResult(
        bins=tuple(
            _bin(k / n_bins, (k + 1) / n_bins, by_width == k, malignant, prob, case)
            for k in np.unique(by_width).tolist()
        ),
        ece=float(_errors(malignant[None], prob, by_width)[0]),
        ece_if_calibrated=float(_errors(truths, prob, by_width).mean()),
        ece_equal_count=float(_errors(malignant[None], prob, by_count)[0]),
        ece_equal_count_if_calibrated=float(_errors(truths, prob, by_count).mean()),
        n_images=prob.size,
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
    proportion = float(malignant[members].mean())
    interval = wilson(proportion * effective, effective)
    observed = Metric(proportion, interval.low, interval.high, names.size, sizes.size, _METHOD)
    return Bin(low, high, float(prob[members].mean()), observed)


def _errors(truths: NDArray[np.bool_], prob: Floats, bins: NDArray[np.intp]) -> Floats:
    """Return the expected calibration error of each row of truths."""
    member = np.eye(int(bins.max()) + 1)[bins]
    return np.abs((truths - prob) @ member).sum(axis=1) / prob.size
