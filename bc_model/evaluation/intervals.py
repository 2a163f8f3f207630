"""Confidence intervals, and the case names that they are computed over."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bc_model.utils.metric import Metric


@dataclass(frozen=True)
class Interval:
    """The two ends of an interval, or None twice and a `note` that says why there is none."""

    low: float | None
    high: float | None
    note: str = ""


def case_names(case: ArrayLike) -> NDArray[np.str_]:
    """Return case names as text, with ``""`` for what is unknown (None, NaN, NA, blank).

    Parameters
    ----------
    case : array-like of shape (n_images,)

    Returns
    -------
    ndarray of str, shape (n_images,)
    """
    values = np.asarray(case, dtype=object)
    known = ~pd.isna(values)
    return np.array([str(v).strip() if k else "" for v, k in zip(values, known, strict=True)], str)


LEVEL = 0.95


def wilson(successes: float, n: float, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval for a share of independent observations.

    Parameters
    ----------
    successes : float
        0 to `n`.
    n : float
        Observations, such as cases; may be an effective number.
    level : float, default=0.95

    References
    ----------
    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the
    American Statistical Association 22, 1927.

    Examples
    --------
    >>> interval = wilson(9, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.596, 0.982)
    """
    from scipy.special import ndtri  # not needed by who only reads reports

    if n <= 0:
        return Interval(None, None, "no cases")
    z = float(ndtri((1 + level) / 2))
    proportion, spread = successes / n, z * z / n
    center = (proportion + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(proportion * (1 - proportion) / n + spread / (4 * n))
    # At the ends the two are equal on paper and differ in the last bits.
    return Interval(
        0.0 if successes == 0 else center - reach, 1.0 if successes == n else center + reach
    )


def korn_graubard(
    proportion: float, variance: float, degrees: float, *, n_cases: int, level: float = LEVEL
) -> Interval:
    """Return the exact binomial interval for a share of pictures that come in cases.

    Clopper and Pearson's interval at the number of independent observations that would vary as
    much: ``proportion (1 - share) / variance``, less what a variance from few cases is itself unsure.
    Where nothing varies each case counts as one observation.

    Parameters
    ----------
    share : float
        In [0, 1].
    variance : float
        Of the share, over cases.
    degrees : float
        Degrees of freedom of the variance.
    n_cases : int
        Observations where nothing varies.
    level : float, default=0.95

    References
    ----------
    Korn and Graubard, "Confidence Intervals for Proportions with Small Expected Number of Positive
    Counts Estimated from Survey Data", Survey Methodology 24, 1998.

    Examples
    --------
    >>> interval = korn_graubard(1.0, 0.0, 9, n_cases=10)  # no mistake in ten cases
    >>> round(interval.low, 3), interval.high
    (0.692, 1.0)
    """
    from scipy.special import betaincinv, ndtri, stdtrit

    tail = (1 - level) / 2
    n = float(n_cases)
    if variance > 0 and 0 < proportion < 1:
        unsure = float(ndtri(1 - tail) / stdtrit(degrees, 1 - tail))
        n = proportion * (1 - proportion) / variance * unsure**2
    low = (
        0.0
        if proportion == 0
        else float(betaincinv(n * proportion, n * (1 - proportion) + 1, tail))
    )
    high = (
        1.0
        if proportion == 1
        else float(betaincinv(n * proportion + 1, n * (1 - proportion), 1 - tail))
    )
    return Interval(low, high)


_Ends = tuple[float, float, float]


def mean_interval(one: Metric, other: Metric, *, weight: float = 0.5) -> Interval:
    """Return the interval of a mean of two figures; without ends when one of them has none.

    Parameters
    ----------
    one, other : Figure
        From different cases.
    weight : float, default=0.5
        Of the first; the second has the rest.
    """
    first, second = _ends(one), _ends(other)
    if first is None or second is None:
        return Interval(None, None, one.note if first is None else other.note)
    mean = weight * first[1] + (1 - weight) * second[1]
    low, high = (
        math.hypot(weight * (first[1] - first[i]), (1 - weight) * (second[1] - second[i]))
        for i in (0, 2)
    )
    return Interval(max(0.0, mean - low), min(1.0, mean + high))


def predictive_values(
    sensitivity: Metric, specificity: Metric, prevalence: float
) -> dict[str, Metric]:
    """Return what a verdict is worth where malignant tissue has a given share.

    By Bayes, from sensitivity and specificity alone: the share of malignant pictures in the test
    data plays no part. The intervals are added up on the scale of log odds.

    Parameters
    ----------
    sensitivity, specificity : Figure
        At one cut-off.
    prevalence : float
        Share of malignant ones where the model is to be used, in (0, 1).

    Returns
    -------
    dict of str to Figure
        ``positive``: of those called malignant, the share that is; ``negative``: of those called
        benign, the share that is. Not defined where nothing is called so.

    Raises
    ------
    ValueError
        The prevalence is not between 0 and 1.
    """
    # Written so that NaN fails as well.
    if not 0.0 < prevalence < 1.0:
        raise ValueError(f"a prevalence lies between 0 and 1, both left out, got {prevalence}")
    return {
        "positive": _proportion_correct(sensitivity, specificity, prevalence, "malignant"),
        "negative": _proportion_correct(specificity, sensitivity, 1.0 - prevalence, "benign"),
    }


def _proportion_correct(found: Metric, spared: Metric, proportion: float, called: str) -> Metric:
    """Return the share that is right among those called so.

    `found` is the share called so of those who are, `spared` the share not called so of the rest,
    and `proportion` the share of those who are among all.
    """
    n, n_cases = found.n_images + spared.n_images, found.n_cases + spared.n_cases
    method = f"Bayes at a share of {proportion:g} {called}, from the intervals of both rates"

    def blank(value: float | None, note: str) -> Metric:
        return Metric(value, None, None, n, n_cases, method, note)

    if found.value is None or spared.value is None:
        return blank(None, found.note if found.value is None else spared.note)
    right, wrong = proportion * found.value, (1 - proportion) * (1 - spared.value)
    if right + wrong == 0:
        return blank(None, f"nothing is called {called}")
    value = right / (right + wrong)
    rate, other_rate = _ends(found), _ends(spared)
    if rate is None or other_rate is None:
        return blank(value, found.note if rate is None else spared.note)
    # log odds = log prior odds + log rate - log (1 - other rate), at the low end, itself, the high.
    rise = [_log(end) for end in rate]
    fall = [_log(1 - end) for end in other_rate]
    prior = math.log(proportion / (1 - proportion))
    if math.isfinite(rise[1]) and math.isfinite(fall[1]):
        center = prior + rise[1] - fall[1]
        low = center - math.hypot(rise[1] - rise[0], fall[0] - fall[1])
        high = center + math.hypot(rise[2] - rise[1], fall[1] - fall[2])
    else:
        # A rate of 0 or 1 is infinitely far from any other: its own ends are all there is.
        low, high = prior + rise[0] - fall[0], prior + rise[2] - fall[2]
    notes = "; ".join(dict.fromkeys(one.note for one in (found, spared) if one.note))
    return Metric(value, _proportion(low), _proportion(high), n, n_cases, method, notes)


def _ends(metric: Metric) -> _Ends | None:
    if metric.value is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return metric.ci_low, metric.value, metric.ci_high


def _log(proportion: float) -> float:
    return math.log(proportion) if proportion > 0 else -math.inf


def _proportion(log_odds: float) -> float:
    """Turn log odds into a share without an overflow."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)
