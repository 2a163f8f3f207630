"""The bootstrap-t interval over cases: each resample is measured by its own standard error.

With a few dozen cases the usual bootstrap intervals are too short. This one covers what it says;
`docs/decisions/010-intervals.md` holds the measurements that chose it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bc_model.evaluation.intervals import Interval, case_names, korn_graubard
from bc_model.evaluation.metrics import Floats, average_precision, ratio, row_blocks

# Pictures without a case are drawn in at most this many random groups of a class: as good as one
# by one, and thousands of them cost no more than a hundred cases.
_MAX_GROUPS = 200


@dataclass(frozen=True)
class CaseSample:
    """The clusters that are drawn: one for each case, within each class.

    Attributes
    ----------
    cluster : ndarray of int, shape (n_images,)
        Of each picture, 0 to ``size - 1``.
    stratum : ndarray of int, shape (size,)
        Class of each cluster, as a rank among the classes present.
    """

    cluster: NDArray[np.intp]
    stratum: NDArray[np.intp]

    @classmethod
    def of(cls, case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> "CaseSample":
        """Find the clusters; unknown cases are empty text, and such pictures are drawn alone."""
        cluster, stratum, _ = case_clusters(_pooled(case_names(case), malignant), malignant)
        return cls(cluster, stratum)

    @property
    def size(self) -> int:
        """Number of clusters."""
        return self.stratum.size

    def sums(self, columns: Floats) -> Floats:
        """Add up what the pictures of each cluster have: (n_images, k) to (size, k)."""
        return np.stack(
            [np.bincount(self.cluster, weights=c, minlength=self.size) for c in columns.T], axis=1
        )

    def draw(self, n_resamples: int, seed: int) -> Floats:
        """Draw clusters with replacement *within each class*, as many as there are.

        A resample never loses a class, so a figure that is defined on the data is defined on every
        resample. In exchange the interval does not cover the chance of having met other numbers of
        benign and malignant cases.

        Parameters
        ----------
        n_resamples : int
        seed : int
            0 or more. The same seed draws the same, in whatever order the pictures of known cases
            come.

        Returns
        -------
        ndarray of float64, shape (n_resamples, size)
            How often each cluster is drawn.
        """
        sizes = np.bincount(self.stratum)
        # One stream a class: its draws do not depend on the other.
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(sizes.size)]
        counts = [_draw(rng, n_resamples, int(k)) for rng, k in zip(streams, sizes, strict=True)]
        return np.concatenate(counts, axis=1).astype(np.float64)


def case_clusters(
    case: ArrayLike, stratum: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Find the clusters that a bootstrap draws: one for each (case, class).

    In this domain a case carries one class. Where it does not, its benign and its malignant
    pictures are two clusters, because the draw is made within each class. A picture whose case is
    unknown is a cluster of its own.

    Parameters
    ----------
    case : array-like of str, shape (n_images,)
        Empty or NA means unknown.
    stratum : array-like, shape (n_images,)
        The class of each picture.

    Returns
    -------
    cluster : ndarray of int, shape (n_images,)
        Cluster of each picture; clusters of one class are numbered in a row.
    cluster_stratum : ndarray of int, shape (n_clusters,)
        Class of each cluster, as a rank among the sorted classes.
    n_unknown : int
        Pictures whose case is unknown.

    Raises
    ------
    ValueError
        The two arrays differ in length.
    """
    names = case_names(case)
    strata = np.asarray(stratum)
    if names.shape != strata.shape:
        raise ValueError(f"case has {names.size} pictures but stratum has {strata.size}")
    unknown = names == ""
    known_names, known_code = np.unique(names[~unknown], return_inverse=True)
    code = np.empty(names.size, dtype=np.intp)
    code[~unknown] = known_code
    code[unknown] = known_names.size + np.arange(int(unknown.sum()))
    _, stratum_code = np.unique(strata, return_inverse=True)
    # A case number stays below `span`, so the pair (class, case) fits one sortable number.
    span = names.size + 1
    pairs, cluster = np.unique(stratum_code * span + code, return_inverse=True)
    return cluster, pairs // span, int(unknown.sum())


def _draw(rng: np.random.Generator, rows: int, k: int) -> NDArray[np.int32]:
    """Draw k of k clusters with replacement, `rows` times; return multiplicities (rows, k)."""
    picks = rng.integers(0, k, size=(rows, k))
    picks += k * np.arange(rows)[:, None]
    return np.bincount(picks.ravel(), minlength=rows * k).reshape(rows, k).astype(np.int32)


def _pooled(case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Name random groups for the pictures of unknown cases where there are very many."""
    names = case.astype(object)
    rng = np.random.default_rng(0)
    for truth in (False, True):
        unknown = np.flatnonzero((case == "") & (malignant == truth))
        if unknown.size > _MAX_GROUPS:
            groups = rng.permutation(unknown.size) % _MAX_GROUPS
            names[unknown] = [f"\0{k}" for k in groups]  # no case is called so
    return names.astype(str)


Functional = Callable[[Floats], tuple[Floats, Floats]]
"""Counts (n_resamples, n_cases) to values (n_resamples,) and derivatives (n_resamples, n_cases)."""

# Far below any count: the step then leaves the value itself as it is, to the last bit.
_STEP = 1e-30
_MAX_THRESHOLDS = 500


def sum_functional(columns: Floats, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Functional:
    """Make a functional of sums over cases, such as confusion counts.

    The derivative is taken by a step into the complex plane, which is exact to the last digits and
    needs no second formula beside the metric's own.

    Parameters
    ----------
    columns : ndarray of float64, shape (n_cases, k)
        What one draw of each case adds to each of the sums.
    function : callable
        Sums (..., k), real or complex, to values (...). Smooth; NaN where it is not defined.

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


def confusion_functional(
    cells: Floats, function: Callable[[NDArray[Any]], NDArray[Any]]
) -> Functional:
    """Make a functional of a metric of confusion counts.

    Parameters
    ----------
    cells : ndarray of float64, shape (n_cases, 4)
        Of each case: benign called benign, benign called malignant, malignant called benign,
        malignant called malignant.
    function : callable
        Confusion counts (..., 2, 2) to values (...).
    """
    return sum_functional(cells, lambda sums: function(sums.reshape(*sums.shape[:-1], 2, 2)))


def mean_functional(columns: Floats) -> Functional:
    """Make a functional of a mean: ``columns`` are, of each case, a sum and what it is over."""
    return sum_functional(columns, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def difference_functional(first: Functional, second: Functional) -> Functional:
    """Make the functional of second minus first: both see the same draw."""

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        (one, slope_of_one), (other, slope_of_other) = first(counts), second(counts)
        return other - one, slope_of_other - slope_of_one

    return functional


def roc_auc_functional(
    malignant: NDArray[np.bool_], prob_malignant: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Functional:
    """Make a functional of the area under the ROC curve.

    Parameters
    ----------
    malignant, prob_malignant, cluster : ndarrays of shape (n_images,)
        `cluster` is the case of each picture, 0 to ``n_cases - 1``; a case has one class.
    n_cases : int
    """
    sizes = np.bincount(cluster, minlength=n_cases).astype(np.float64)
    positive = np.isin(np.arange(n_cases), cluster[malignant])
    wins = _wins(malignant, prob_malignant, cluster, n_cases)[positive][:, ~positive]

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        of_malignant, of_benign = counts[:, positive], counts[:, ~positive]
        n_malignant = (of_malignant @ sizes[positive])[:, None]
        n_benign = (of_benign @ sizes[~positive])[:, None]
        beaten = ratio(of_benign @ wins.T, np.broadcast_to(n_benign, of_malignant.shape))
        beating = ratio(of_malignant @ wins, np.broadcast_to(n_malignant, of_benign.shape))
        area = ratio((of_malignant * beaten).sum(axis=1), n_malignant[:, 0])
        slope = np.empty(counts.shape)
        for side, won, whole in ((positive, beaten, n_malignant), (~positive, beating, n_benign)):
            lead = won - area[:, None] * sizes[side]
            slope[:, side] = ratio(lead, np.broadcast_to(whole, lead.shape))
        return area, slope

    return functional


def average_precision_functional(
    malignant: NDArray[np.bool_], prob_malignant: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Functional:
    """Make a functional of the average precision; parameters as for `of_area`.

    With thousands of malignant pictures the steps of several are taken together, and what that
    adds or takes away at the data is given back: the figure itself stays exact.
    """
    thresholds = np.unique(prob_malignant[malignant])[::-1]
    every = -(-thresholds.size // _MAX_THRESHOLDS)
    exact = float(average_precision(malignant, prob_malignant))
    coarse = _average_precision(
        thresholds[::-1][::every][::-1], malignant, prob_malignant, cluster, n_cases
    )
    shift = exact - float(coarse(np.ones((1, n_cases)))[0][0])

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        values, slopes = coarse(counts)
        return values + shift, slopes

    return functional


def _average_precision(
    thresholds: Floats,
    malignant: NDArray[np.bool_],
    prob: Floats,
    cluster: NDArray[np.intp],
    n_cases: int,
) -> Functional:
    """Make the functional that steps at the given falling cut-offs only."""
    found = _at_or_above(thresholds, prob[malignant], cluster[malignant], n_cases)
    called = _at_or_above(thresholds, prob, cluster, n_cases)
    sizes = np.bincount(cluster[malignant], minlength=n_cases).astype(np.float64)
    steps = np.diff(found, axis=0, prepend=0.0)

    def of_block(counts: Floats) -> tuple[Floats, Floats]:
        n_called, step = counts @ called.T, counts @ steps.T
        total = (counts @ sizes)[:, None]
        # Where nothing is called there is no precision, and no step of the recall either.
        proportion = np.divide(1.0, n_called, out=np.zeros_like(n_called), where=n_called > 0)
        precision = (counts @ found.T) * proportion
        area = ratio(np.einsum("ij,ij->i", precision, step), total[:, 0])
        weight = step * proportion
        by_case = precision @ steps + weight @ found - (weight * precision) @ called
        return area, ratio(by_case - area[:, None] * sizes, np.broadcast_to(total, counts.shape))

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        published_ranges = row_blocks(counts, width=thresholds.size)
        values, slopes = zip(*map(of_block, published_ranges), strict=True)
        return np.concatenate(values), np.concatenate(slopes)

    return functional


def _wins(
    malignant: NDArray[np.bool_], prob: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Floats:
    """Count the pairs that each case wins against each other, a tie one half: (cases, cases)."""
    order = np.argsort(prob[~malignant], kind="stable")
    benign, of_benign = prob[~malignant][order], cluster[~malignant][order]
    below = np.zeros((benign.size + 1, n_cases))
    below[np.arange(1, benign.size + 1), of_benign] = 1.0
    np.cumsum(below, axis=0, out=below)
    sides = [np.searchsorted(benign, prob[malignant], side=side) for side in ("left", "right")]
    beaten = (below[sides[0]] + below[sides[1]]) / 2
    return _sum_rows(beaten, cluster[malignant], n_cases)


def _at_or_above(
    thresholds: Floats, prob: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Floats:
    """Count the pictures of each case at or above each falling cut-off: (thresholds, cases)."""
    first = np.searchsorted(-thresholds, -prob)
    counts = np.zeros((thresholds.size + 1, n_cases))
    np.add.at(counts, (first, cluster), 1.0)
    return np.cumsum(counts[:-1], axis=0)


def _sum_rows(rows: Floats, cluster: NDArray[np.intp], n_cases: int) -> Floats:
    """Add up the rows of each case: (pictures, k) to (cases, k)."""
    sums = np.zeros((n_cases, rows.shape[1]))
    np.add.at(sums, cluster, rows)
    return sums


EXTERNAL = "all cases gave the same, so their spread is unseen"
OPEN = "too few cases differ to bound it"

_MAX_UNDEFINED = 0.05
_ALL_OF_IT = 0.95
"""An interval over more of the range than this says nothing."""
_OUTERMOST = 0.99


def bootstrap_t(
    functional: Functional,
    sample: CaseSample,
    draws: Floats,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    is_proportion: bool = False,
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
    is_proportion : bool, default=False
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
        return value, Interval(None, None, EXTERNAL)
    replicates, replicate_slopes = functional(draws)
    defined = ~np.isnan(replicates)
    if (proportion := 1 - defined.mean()) > _MAX_UNDEFINED:
        return value, Interval(
            None, None, f"{100 * proportion:.0f} % of the resamples had no figure"
        )
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
        if is_proportion:
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
