"""The bootstrap-t interval over cases: each resample is measured by its own standard error.

With a few dozen cases the usual bootstrap intervals are too short. This one covers what it says;
`docs/decisions/010-intervals.md` holds the measurements that chose it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bc_model.evaluation.functionals import Functional
from bc_model.evaluation.intervals import Interval
from bc_model.evaluation.proportions import korn_graubard
from bc_model.evaluation.sample import CaseSample
from bc_model.evaluation.weighting import Floats

UNSEEN = "all cases gave the same, so their spread is unseen"
OPEN = "too few cases differ to bound it"

_MAX_UNDEFINED = 0.05
_ALL_OF_IT = 0.95
"""An interval over more of the range than this says nothing."""
_OUTERMOST = 0.99


def studentised(
    functional: Functional,
    sample: CaseSample,
    draws: Floats,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    is_share: bool = False,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """Return a figure and its bootstrap-t interval over cases.

    The standard error at the data is the jackknife's over cases, that of each resample the
    linear one (the infinitesimal jackknife), which needs no further evaluations.

    Parameters
    ----------
    functional : callable
        See `functionals`.
    sample : CaseSample
        At least two clusters of each class, or there is no standard error.
    draws : ndarray of shape (n_resamples, sample.size)
        As `CaseSample.draws` returns it.
    bounds : (float, float)
        Range of the figure: the interval is cut there. In [0, 1] an end that comes to lie outside
        is replaced by that of the exact binomial interval (`korn_graubard`): with mistakes in a
        few cases only, some resamples have none, and say nothing of how many there could be.
    is_share : bool, default=False
        A share of pictures: an end lies no farther out than that of the exact binomial interval
        at `_OUTERMOST`. Where one case makes most of the mistakes the bootstrap's tail is wild.
    level : float, default=0.95
        Coverage aimed at, in (0, 1).

    Returns
    -------
    value : float
        NaN where the figure is not defined.
    interval : Interval
        Without ends, and with the reason, when nothing varies, when more than 5 % of the resamples
        have no figure, or when it would leave the whole range open.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12. Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997, section 2.4 and, for whole cases, 3.8.
    """
    once = np.ones((1, sample.size))
    values, slopes = functional(once)
    value = float(values[0])
    if math.isnan(value):
        return value, Interval(None, None)
    parts = _jackknife_parts(functional, sample)
    if np.isnan(parts).any():  # a figure that is lost with a single case
        parts = _linear_parts(slopes, once, sample.stratum)[:, 0]
    error = math.sqrt(float(parts.sum()))
    if error <= 1e-12 * max(1.0, abs(value)):
        return value, Interval(None, None, UNSEEN)
    replicates, replicate_slopes = functional(draws)
    defined = ~np.isnan(replicates)
    if (share := 1 - defined.mean()) > _MAX_UNDEFINED:
        return value, Interval(None, None, f"{100 * share:.0f} % of the resamples had no figure")
    variances = _linear_parts(replicate_slopes[defined], draws[defined], sample.stratum).sum(axis=0)
    t = _t(replicates[defined] - value, np.sqrt(variances))
    tail = round((1 - level) / 2, 9)  # or its last bit decides which resample is meant
    # No interpolation: beside an infinite t it would give NaN.
    low_t, high_t = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
    # Upper end from the lower tail: t says how far the truth lies on the other side.
    low = min(value, value - float(high_t) * error)
    high = max(value, value - float(low_t) * error)
    if bounds == (0.0, 1.0):
        degrees = welch_degrees(parts, np.bincount(sample.stratum))

        def exact(of_level: float) -> tuple[float, float]:
            found = korn_graubard(value, error**2, degrees, n_cases=sample.size, level=of_level)
            assert found.low is not None
            assert found.high is not None
            return found.low, found.high

        if low <= 0.0 or high >= 1.0:
            ends = exact(level)
            low, high = ends[0] if low <= 0.0 else low, ends[1] if high >= 1.0 else high
        if is_share:
            ends = exact(_OUTERMOST)
            low, high = max(low, ends[0]), min(high, ends[1])
    low, high = max(bounds[0], low), min(bounds[1], high)
    if not math.isfinite(high - low) or high - low > _ALL_OF_IT * (bounds[1] - bounds[0]):
        return value, Interval(None, None, OPEN)
    return value, Interval(low, high)


def welch_degrees(parts: Floats, sizes: NDArray[np.intp]) -> float:
    """Return the degrees of freedom of a variance that is a sum over classes.

    Parameters
    ----------
    parts : ndarray of shape (n_classes,)
        Variance that each class adds.
    sizes : ndarray of int, shape (n_classes,)
        Its number of cases.
    """
    return float(parts.sum() ** 2 / (parts**2 / np.maximum(sizes - 1, 1)).sum())


def _linear_parts(slopes: Floats, counts: Floats, stratum: NDArray[np.intp]) -> Floats:
    """Return the variance that each class adds, by the derivatives: (n_classes, n_resamples)."""
    parts = []
    for one in np.unique(stratum):
        slope, count = slopes[:, stratum == one], counts[:, stratum == one]
        k = slope.shape[1]
        mean = np.einsum("ij,ij->i", slope, count)[:, None] / k
        # A single case has no spread here; who needs one refuses it before.
        parts.append(k / max(1, k - 1) * np.einsum("ij,ij->i", (slope - mean) ** 2, count))
    return np.array(parts)


def _jackknife_parts(functional: Functional, sample: CaseSample) -> Floats:
    """Return the variance that each class adds, by leaving out each case: (n_classes,)."""
    left_out, _ = functional(1.0 - np.eye(sample.size))
    groups = [left_out[sample.stratum == one] for one in np.unique(sample.stratum)]
    return np.array([(group.size - 1) * group.var() for group in groups])


def _t(distance: Floats, errors: Floats) -> Floats:
    """Divide; a resample whose cases act all alike is infinitely far from any other value."""
    sure = errors <= 1e-12
    t = distance / np.where(sure, 1.0, errors)
    beyond = np.where(np.abs(distance) <= 1e-12, 0.0, np.copysign(np.inf, distance))
    return np.where(sure, beyond, t)
