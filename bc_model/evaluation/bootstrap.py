"""Bootstrap-t confidence intervals over cases.

Resamples contain entire cases, and each is scaled by its own standard error, because the usual
bootstrap intervals are too short with a few dozen cases. ``docs/decisions/010-intervals.md``
contains the coverage measurements.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bc_model.evaluation.intervals import Interval, korn_graubard
from bc_model.evaluation.metrics import Floats, average_precision, ratio
from bc_model.evaluation.predictions import case_names

Functional = Callable[[Floats], tuple[Floats, Floats]]
"""A metric as a function of the counts of the cases: counts (n_resamples, n_cases) to values
(n_resamples,) and derivatives (n_resamples, n_cases)."""

NO_SPREAD = "all cases have the same value, so their spread is unknown"
TOO_WIDE = "too few cases differ for an interval"

_MAX_UNDEFINED = 0.05
"""Maximum proportion of resamples without a value."""
_MAX_WIDTH = 0.95
"""Maximum width of an informative interval, relative to the range of the metric."""
_OUTER_LEVEL = 0.99
"""Level of the exact interval that limits the interval of a proportion."""
# Images without a case form at most this many random groups per class. Thousands of single images
# give the same interval but take much longer.
_MAX_GROUPS = 200
_MAX_THRESHOLDS = 500
# Far below any count, so that the step does not change the last bit of the value.
_STEP = 1e-30
# Limits the temporary arrays of one block of resamples to 32 MB each.
_BLOCK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class CaseSample:
    """The clusters that a bootstrap draws: the cases of each class.

    Attributes
    ----------
    cluster : ndarray of int, shape (n_images,)
        Cluster of each image, 0 to ``size - 1``.
    stratum : ndarray of int, shape (size,)
        Class of each cluster, as a rank among the classes that are present.
    """

    cluster: NDArray[np.intp]
    stratum: NDArray[np.intp]

    @classmethod
    def of(cls, case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> "CaseSample":
        """Return the clusters of images; an image of an unknown case (``""``) is a cluster."""
        return cls(*case_clusters(_group_unknown(case_names(case), malignant), malignant))

    @property
    def size(self) -> int:
        """Number of clusters."""
        return self.stratum.size

    def sums(self, columns: Floats) -> Floats:
        """Return the sums over the images of each cluster: (n_images, k) to (size, k)."""
        return np.stack(
            [np.bincount(self.cluster, weights=c, minlength=self.size) for c in columns.T], axis=1
        )

    def draw(self, n_resamples: int, seed: int) -> Floats:
        """Draw clusters with replacement within each class, as many as there are.

        A resample never loses a class, so a metric that is defined for the data is defined for
        the resamples. The intervals therefore do not cover a variation of the numbers of benign
        and malignant cases.

        Parameters
        ----------
        n_resamples : int
            Number of resamples.
        seed : int
            Random seed, 0 or more. The order of the images of known cases has no influence.

        Returns
        -------
        ndarray of float64, shape (n_resamples, size)
            How often each cluster is sampled.
        """
        sizes = np.bincount(self.stratum)
        # One random stream per class, so that the classes are independent.
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(sizes.size)]
        counts = [_draw(rng, n_resamples, int(k)) for rng, k in zip(streams, sizes, strict=True)]
        return np.concatenate(counts, axis=1).astype(np.float64)


def case_clusters(case: ArrayLike, stratum: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the cluster of each image, and the class of each cluster as a rank.

    A cluster is a pair of case and class, or one image of an unknown case.
    """
    names = case_names(case)
    strata = np.asarray(stratum)
    if names.shape != strata.shape:
        raise ValueError(
            f"Expected one class per image, got {strata.size} for {names.size} images."
        )
    unknown = names == ""
    known_names, known_code = np.unique(names[~unknown], return_inverse=True)
    code = np.empty(names.size, dtype=np.intp)
    code[~unknown] = known_code
    code[unknown] = known_names.size + np.arange(int(unknown.sum()))
    _, stratum_code = np.unique(strata, return_inverse=True)
    # A case code is below `span`, so the pair (class, case) fits into one sortable number.
    span = names.size + 1
    pairs, cluster = np.unique(stratum_code * span + code, return_inverse=True)
    return cluster, pairs // span


def bootstrap_t(
    functional: Functional,
    sample: CaseSample,
    draws: Floats,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    is_proportion: bool = False,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """Return a metric and its bootstrap-t interval over cases.

    The standard error of the data is the jackknife over cases. The standard error of a resample
    is the linear one (infinitesimal jackknife), which needs no further evaluations.

    Parameters
    ----------
    functional : callable
        The metric as a `Functional`.
    sample : CaseSample
        At least two clusters of each class.
    draws : ndarray of shape (n_resamples, sample.size)
        Result of `CaseSample.draw`.
    bounds : (float, float)
        Range of the metric, which limits the interval. An end outside of [0, 1] is replaced by
        the end of the exact binomial interval (`korn_graubard`): if few cases have errors, some
        resamples have none and contain no information about their number.
    is_proportion : bool, default=False
        Whether the metric is a proportion of images. The exact binomial interval of level 0.99
        then limits the interval, because a single case with most of the errors makes the tails
        of the bootstrap unstable.
    level : float, default=0.95
        Coverage probability, in (0, 1).

    Returns
    -------
    value : float
        NaN if the metric is undefined.
    interval : Interval
        No ends, but a reason, if no case differs, if more than 5 % of the resamples have no
        value, or if the interval contains most of the range.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12. Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997, sections 2.4 and 3.8.
    """
    once = np.ones((1, sample.size))
    values, slopes = functional(once)
    value = float(values[0])
    if math.isnan(value):
        return value, Interval(None, None)
    parts = _jackknife_variances(functional, sample)
    if np.isnan(parts).any():  # Without one of the cases the metric is undefined.
        parts = _linear_variances(slopes, once, sample.stratum)[:, 0]
    error = math.sqrt(float(parts.sum()))
    if error <= 1e-12 * max(1.0, abs(value)):
        return value, Interval(None, None, NO_SPREAD)
    replicates, replicate_slopes = functional(draws)
    defined = ~np.isnan(replicates)
    if (undefined := 1 - defined.mean()) > _MAX_UNDEFINED:
        return value, Interval(
            None, None, f"the metric is undefined in {100 * undefined:.0f} % of the resamples"
        )
    variances = _linear_variances(replicate_slopes[defined], draws[defined], sample.stratum)
    t = _t_statistics(replicates[defined] - value, np.sqrt(variances.sum(axis=0)))
    tail = round((1 - level) / 2, 9)  # Rounding errors would select another resample.
    # Interpolation next to an infinite t would give NaN.
    low_t, high_t = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
    # The upper end uses the lower tail, because t has the sign of replicate minus value.
    low = min(value, value - float(high_t) * error)
    high = max(value, value - float(low_t) * error)
    if bounds == (0.0, 1.0):
        degrees = welch_degrees(parts, np.bincount(sample.stratum))

        def exact(exact_level: float) -> tuple[float, float]:
            interval = korn_graubard(
                value, error**2, degrees, n_cases=sample.size, level=exact_level
            )
            assert interval.low is not None
            assert interval.high is not None
            return interval.low, interval.high

        if low <= 0.0 or high >= 1.0:
            ends = exact(level)
            low, high = ends[0] if low <= 0.0 else low, ends[1] if high >= 1.0 else high
        if is_proportion:
            ends = exact(_OUTER_LEVEL)
            low, high = max(low, ends[0]), min(high, ends[1])
    low, high = max(bounds[0], low), min(bounds[1], high)
    if not math.isfinite(high - low) or high - low > _MAX_WIDTH * (bounds[1] - bounds[0]):
        return value, Interval(None, None, TOO_WIDE)
    return value, Interval(low, high)


def welch_degrees(parts: Floats, sizes: NDArray[np.intp]) -> float:
    """Return the Welch-Satterthwaite degrees of freedom of a variance."""
    return float(parts.sum() ** 2 / (parts**2 / np.maximum(sizes - 1, 1)).sum())


def sum_functional(columns: Floats, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Functional:
    """Return the functional of a metric of sums over cases, such as confusion counts.

    `columns` contains the contribution of each case to each sum, and `function` maps real or
    complex sums (..., k) to values (...). A complex step gives the derivative to the last digits.

    References
    ----------
    Squire and Trapp, "Using Complex Variables to Estimate Derivatives of Real Functions", SIAM
    Review 40(1), 1998.
    """
    k = columns.shape[1]

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        sums = counts @ columns
        value = np.asarray(function(sums))
        slopes = [function(sums + 1j * _STEP * np.eye(k)[i]).imag / _STEP for i in range(k)]
        return value, np.stack(slopes, axis=-1) @ columns.T

    return functional


def mean_functional(columns: Floats) -> Functional:
    """Return the functional of a mean; the columns are the sum and the count of each case."""
    return sum_functional(columns, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def difference_functional(first: Functional, second: Functional) -> Functional:
    """Return the functional of second minus first, for the same resamples."""

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        (value, slope), (other_value, other_slope) = first(counts), second(counts)
        return other_value - value, other_slope - slope

    return functional


def roc_auc_functional(
    malignant: NDArray[np.bool_], prob_malignant: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Functional:
    """Return the functional of the area under the ROC curve."""
    sizes = np.bincount(cluster, minlength=n_cases).astype(np.float64)
    positive = np.isin(np.arange(n_cases), cluster[malignant])
    wins = _pairwise_wins(malignant, prob_malignant, cluster, n_cases)[positive][:, ~positive]

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        positive_counts, negative_counts = counts[:, positive], counts[:, ~positive]
        n_malignant = (positive_counts @ sizes[positive])[:, None]
        n_benign = (negative_counts @ sizes[~positive])[:, None]
        won = ratio(negative_counts @ wins.T, np.broadcast_to(n_benign, positive_counts.shape))
        lost = ratio(positive_counts @ wins, np.broadcast_to(n_malignant, negative_counts.shape))
        area = ratio((positive_counts * won).sum(axis=1), n_malignant[:, 0])
        slope = np.empty(counts.shape)
        for side, score, total in ((positive, won, n_malignant), (~positive, lost, n_benign)):
            lead = score - area[:, None] * sizes[side]
            slope[:, side] = ratio(lead, np.broadcast_to(total, lead.shape))
        return area, slope

    return functional


def average_precision_functional(
    malignant: NDArray[np.bool_], prob_malignant: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Functional:
    """Return the functional of the average precision; parameters as in `roc_auc_functional`.

    If there are thousands of thresholds, groups of them are merged. A constant shift keeps the
    value of the data exact.
    """
    thresholds = np.unique(prob_malignant[malignant])[::-1]
    step = -(-thresholds.size // _MAX_THRESHOLDS)
    exact = float(average_precision(malignant, prob_malignant))
    coarse = _average_precision_at(
        thresholds[::-1][::step][::-1], malignant, prob_malignant, cluster, n_cases
    )
    shift = exact - float(coarse(np.ones((1, n_cases)))[0][0])

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        values, slopes = coarse(counts)
        return values + shift, slopes

    return functional


def _average_precision_at(
    thresholds: Floats,
    malignant: NDArray[np.bool_],
    prob: Floats,
    cluster: NDArray[np.intp],
    n_cases: int,
) -> Functional:
    """Return the functional of the average precision at the given decreasing thresholds."""
    found = _count_at_or_above(thresholds, prob[malignant], cluster[malignant], n_cases)
    predicted = _count_at_or_above(thresholds, prob, cluster, n_cases)
    sizes = np.bincount(cluster[malignant], minlength=n_cases).astype(np.float64)
    steps = np.diff(found, axis=0, prepend=0.0)

    def evaluate_block(counts: Floats) -> tuple[Floats, Floats]:
        n_predicted, step = counts @ predicted.T, counts @ steps.T
        total = (counts @ sizes)[:, None]
        # Without predicted images there is no precision, but also no step of the recall.
        inverse = np.divide(1.0, n_predicted, out=np.zeros_like(n_predicted), where=n_predicted > 0)
        precision = (counts @ found.T) * inverse
        area = ratio(np.einsum("ij,ij->i", precision, step), total[:, 0])
        weight = step * inverse
        slopes = precision @ steps + weight @ found - (weight * precision) @ predicted
        return area, ratio(slopes - area[:, None] * sizes, np.broadcast_to(total, counts.shape))

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        rows = max(1, _BLOCK_ELEMENTS // max(1, thresholds.size))
        blocks = [
            evaluate_block(counts[start : start + rows]) for start in range(0, len(counts), rows)
        ]
        values, slopes = zip(*blocks, strict=True)
        return np.concatenate(values), np.concatenate(slopes)

    return functional


def _draw(rng: np.random.Generator, rows: int, k: int) -> NDArray[np.int32]:
    """Draw k of k clusters with replacement, `rows` times; return multiplicities (rows, k)."""
    picks = rng.integers(0, k, size=(rows, k))
    picks += k * np.arange(rows)[:, None]
    return np.bincount(picks.ravel(), minlength=rows * k).reshape(rows, k).astype(np.int32)


def _group_unknown(case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Return case names in which very many images of unknown cases form random groups."""
    names = case.astype(object)
    rng = np.random.default_rng(0)
    for truth in (False, True):
        unknown = np.flatnonzero((case == "") & (malignant == truth))
        if unknown.size > _MAX_GROUPS:
            groups = rng.permutation(unknown.size) % _MAX_GROUPS
            names[unknown] = [f"\0{k}" for k in groups]  # No case has such a name.
    return names.astype(str)


def _pairwise_wins(
    malignant: NDArray[np.bool_], prob: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Floats:
    """Count the image pairs that each case wins against each other; a tie counts one half."""
    order = np.argsort(prob[~malignant], kind="stable")
    benign, benign_cluster = prob[~malignant][order], cluster[~malignant][order]
    below = np.zeros((benign.size + 1, n_cases))
    below[np.arange(1, benign.size + 1), benign_cluster] = 1.0
    np.cumsum(below, axis=0, out=below)
    sides = [np.searchsorted(benign, prob[malignant], side=side) for side in ("left", "right")]
    wins = np.zeros((n_cases, n_cases))
    np.add.at(wins, cluster[malignant], (below[sides[0]] + below[sides[1]]) / 2)
    return wins


def _count_at_or_above(
    thresholds: Floats, prob: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Floats:
    """Count the images of each case at or above each decreasing threshold."""
    first = np.searchsorted(-thresholds, -prob)
    counts = np.zeros((thresholds.size + 1, n_cases))
    np.add.at(counts, (first, cluster), 1.0)
    return np.cumsum(counts[:-1], axis=0)


def _linear_variances(slopes: Floats, counts: Floats, stratum: NDArray[np.intp]) -> Floats:
    """Return the linear variance component of each class: (n_classes, n_resamples)."""
    parts = []
    for code in np.unique(stratum):
        slope, count = slopes[:, stratum == code], counts[:, stratum == code]
        k = slope.shape[1]
        mean = np.einsum("ij,ij->i", slope, count)[:, None] / k
        # A single case has no spread; callers refuse this where it matters.
        parts.append(k / max(1, k - 1) * np.einsum("ij,ij->i", (slope - mean) ** 2, count))
    return np.array(parts)


def _jackknife_variances(functional: Functional, sample: CaseSample) -> Floats:
    """Return the jackknife variance component of each class: (n_classes,)."""
    left_out, _ = functional(1.0 - np.eye(sample.size))
    groups = [left_out[sample.stratum == code] for code in np.unique(sample.stratum)]
    return np.array([(group.size - 1) * group.var() for group in groups])


def _t_statistics(distance: Floats, errors: Floats) -> Floats:
    """Divide; without a standard error, any other value is infinitely distant."""
    is_exact = errors <= 1e-12
    t = distance / np.where(is_exact, 1.0, errors)
    infinite = np.where(np.abs(distance) <= 1e-12, 0.0, np.copysign(np.inf, distance))
    return np.where(is_exact, infinite, t)
