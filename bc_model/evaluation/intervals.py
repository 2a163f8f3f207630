"""Closed-form confidence intervals of proportions and of combinations of two metrics.

Intervals of other metrics come from `bc_model.evaluation.bootstrap`.
"""

import math
from dataclasses import dataclass

from bc_model.utils.measurement import Metric

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """The ends of an interval, or None twice and a `note` with the reason."""

    low: float | None
    high: float | None
    note: str = ""


def wilson(successes: float, n: float, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a proportion of independent observations.

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
    from scipy.special import ndtri  # Reading a report does not need SciPy.

    if n <= 0:
        return Interval(None, None, "no cases")
    z = float(ndtri((1 + level) / 2))
    proportion, spread = successes / n, z * z / n
    center = (proportion + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(proportion * (1 - proportion) / n + spread / (4 * n))
    # The exact ends avoid rounding errors at 0 and 1.
    return Interval(
        0.0 if successes == 0 else center - reach, 1.0 if successes == n else center + reach
    )


def korn_graubard(
    proportion: float, variance: float, degrees: float, *, n_cases: int, level: float = LEVEL
) -> tuple[float, float]:
    """Return the exact binomial interval of a proportion of images that are grouped in cases.

    It is the Clopper-Pearson interval at the effective number of independent observations, which
    is reduced for the uncertainty of a variance from few cases. If the variance is zero, each
    case counts as one observation.

    References
    ----------
    Korn and Graubard, "Confidence Intervals for Proportions with Small Expected Number of Positive
    Counts Estimated from Survey Data", Survey Methodology 24, 1998.

    Examples
    --------
    >>> low, high = korn_graubard(1.0, 0.0, 9, n_cases=10)  # no error in ten cases
    >>> round(low, 3), high
    (0.692, 1.0)
    """
    from scipy.special import betaincinv, ndtri, stdtrit

    tail = (1 - level) / 2
    n = float(n_cases)
    if variance > 0 and 0 < proportion < 1:
        correction = float(ndtri(1 - tail) / stdtrit(degrees, 1 - tail))
        n = proportion * (1 - proportion) / variance * correction**2
    hits, misses = n * proportion, n * (1 - proportion)
    return (
        0.0 if proportion == 0 else float(betaincinv(hits, misses + 1, tail)),
        1.0 if proportion == 1 else float(betaincinv(hits + 1, misses, 1 - tail)),
    )


def mean_interval(first: Metric, second: Metric, *, weight: float = 0.5) -> Interval:
    """Return the interval of the weighted mean of two metrics of different cases."""
    ends = _ends(first), _ends(second)
    if ends[0] is None or ends[1] is None:
        return Interval(None, None, first.note if ends[0] is None else second.note)
    (one, other), rest = (ends[0], ends[1]), 1 - weight
    mean = weight * one[1] + rest * other[1]
    low, high = (
        math.hypot(weight * (one[1] - one[i]), rest * (other[1] - other[i])) for i in (0, 2)
    )
    return Interval(max(0.0, mean - low), min(1.0, mean + high))


def predictive_values(
    sensitivity: Metric, specificity: Metric, prevalence: float
) -> dict[str, Metric]:
    """Return the positive and the negative predictive value at a prevalence.

    They follow from Bayes' theorem. The proportion of malignant test images has no influence. The
    intervals are combined on the log-odds scale.

    Parameters
    ----------
    sensitivity, specificity : Metric
        Rates at the same threshold.
    prevalence : float
        Proportion of malignant images where the model is used. ValueError outside of (0, 1).

    Returns
    -------
    dict of str to Metric
        ``positive`` and ``negative``; undefined if no image is predicted in that class.

    Examples
    --------
    >>> rate = Metric(0.9, 0.8, 0.95, 60, 12, "")
    >>> round(predictive_values(rate, rate, 0.5)["positive"].value, 3)
    0.9
    """
    # NaN fails this comparison as well.
    if not 0.0 < prevalence < 1.0:
        raise ValueError(f"Invalid prevalence. Expected 0 < prevalence < 1, got {prevalence}.")
    return {
        "positive": _predictive_value(sensitivity, specificity, prevalence, "malignant"),
        "negative": _predictive_value(specificity, sensitivity, 1.0 - prevalence, "benign"),
    }


def _predictive_value(own: Metric, other: Metric, proportion: float, class_name: str) -> Metric:
    """Return the predictive value of a class from its own rate and the rate of the other class."""
    n_images, n_cases = own.n_images + other.n_images, own.n_cases + other.n_cases
    method = (
        f"Bayes at a proportion of {proportion:g} {class_name}, from the intervals of the rates"
    )

    def without_interval(value: float | None, note: str) -> Metric:
        return Metric(value, None, None, n_images, n_cases, method, note)

    if own.value is None or other.value is None:
        return without_interval(None, own.note if own.value is None else other.note)
    correct, incorrect = proportion * own.value, (1 - proportion) * (1 - other.value)
    if correct + incorrect == 0:
        return without_interval(None, f"no image is predicted {class_name}")
    value = correct / (correct + incorrect)
    rate, other_rate = _ends(own), _ends(other)
    if rate is None or other_rate is None:
        return without_interval(value, own.note if rate is None else other.note)
    # log odds = log prior odds + log rate - log (1 - other rate), at the low end, value, high end.
    rise = [_log(end) for end in rate]
    fall = [_log(1 - end) for end in other_rate]
    prior = math.log(proportion / (1 - proportion))
    if math.isfinite(rise[1]) and math.isfinite(fall[1]):
        center = prior + rise[1] - fall[1]
        low = center - math.hypot(rise[1] - rise[0], fall[0] - fall[1])
        high = center + math.hypot(rise[2] - rise[1], fall[1] - fall[2])
    else:
        # The logarithm of a rate of 0 or 1 is infinite, so only the ends can be combined.
        low, high = prior + rise[0] - fall[0], prior + rise[2] - fall[2]
    notes = "; ".join(dict.fromkeys(metric.note for metric in (own, other) if metric.note))
    return Metric(value, _sigmoid(low), _sigmoid(high), n_images, n_cases, method, notes)


def _ends(metric: Metric) -> tuple[float, float, float] | None:
    """Return the low end, the value and the high end; None without an interval."""
    if metric.value is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return metric.ci_low, metric.value, metric.ci_high


def _log(proportion: float) -> float:
    return math.log(proportion) if proportion > 0 else -math.inf


def _sigmoid(log_odds: float) -> float:
    """Return the proportion of log odds without an overflow."""
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1 + odds)
