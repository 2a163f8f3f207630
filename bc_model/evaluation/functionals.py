"""Figures as functions of how often each case is drawn, each with its derivative.

A bootstrap over cases changes nothing but these counts, so what the pictures of a case add to a
figure is summed once, and two thousand resamples are a few small matrix products. The derivative
by the count of each case gives every resample its standard error (`bootstrap_t`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bc_model.evaluation.ranking import average_precision
from bc_model.evaluation.weighting import Floats, ratio, row_blocks

Functional = Callable[[Floats], tuple[Floats, Floats]]
"""Counts (n_resamples, n_cases) to values (n_resamples,) and derivatives (n_resamples, n_cases)."""

# Far below any count: the step then leaves the value itself as it is, to the last bit.
_STEP = 1e-30
_MAX_CUT_OFFS = 500


def of_sums(columns: Floats, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Functional:
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


def of_confusion(cells: Floats, function: Callable[[NDArray[Any]], NDArray[Any]]) -> Functional:
    """Make a functional of a metric of confusion counts.

    Parameters
    ----------
    cells : ndarray of float64, shape (n_cases, 4)
        Of each case: benign called benign, benign called malignant, malignant called benign,
        malignant called malignant.
    function : callable
        Confusion counts (..., 2, 2) to values (...).
    """
    return of_sums(cells, lambda sums: function(sums.reshape(*sums.shape[:-1], 2, 2)))


def of_means(columns: Floats) -> Functional:
    """Make a functional of a mean: ``columns`` are, of each case, a sum and what it is over."""
    return of_sums(columns, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def of_difference(first: Functional, second: Functional) -> Functional:
    """Make the functional of second minus first: both see the same draw."""

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        (one, slope_of_one), (other, slope_of_other) = first(counts), second(counts)
        return other - one, slope_of_other - slope_of_one

    return functional


def of_area(
    malignant: NDArray[np.bool_], prob_malignant: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Functional:
    """Make a functional of the area under the ROC curve.

    Parameters
    ----------
    malignant, prob_malignant, cluster : ndarrays of shape (n_pictures,)
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


def of_average_precision(
    malignant: NDArray[np.bool_], prob_malignant: Floats, cluster: NDArray[np.intp], n_cases: int
) -> Functional:
    """Make a functional of the average precision; parameters as for `of_area`.

    With thousands of malignant pictures the steps of several are taken together, and what that
    adds or takes away at the data is given back: the figure itself stays exact.
    """
    cut_offs = np.unique(prob_malignant[malignant])[::-1]
    every = -(-cut_offs.size // _MAX_CUT_OFFS)
    exact = float(average_precision(malignant, prob_malignant))
    coarse = _average_precision(
        cut_offs[::-1][::every][::-1], malignant, prob_malignant, cluster, n_cases
    )
    shift = exact - float(coarse(np.ones((1, n_cases)))[0][0])

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        values, slopes = coarse(counts)
        return values + shift, slopes

    return functional


def _average_precision(
    cut_offs: Floats,
    malignant: NDArray[np.bool_],
    prob: Floats,
    cluster: NDArray[np.intp],
    n_cases: int,
) -> Functional:
    """Make the functional that steps at the given falling cut-offs only."""
    found = _at_or_above(cut_offs, prob[malignant], cluster[malignant], n_cases)
    called = _at_or_above(cut_offs, prob, cluster, n_cases)
    sizes = np.bincount(cluster[malignant], minlength=n_cases).astype(np.float64)
    steps = np.diff(found, axis=0, prepend=0.0)

    def of_block(counts: Floats) -> tuple[Floats, Floats]:
        n_called, step = counts @ called.T, counts @ steps.T
        total = (counts @ sizes)[:, None]
        # Where nothing is called there is no precision, and no step of the recall either.
        share = np.divide(1.0, n_called, out=np.zeros_like(n_called), where=n_called > 0)
        precision = (counts @ found.T) * share
        area = ratio(np.einsum("ij,ij->i", precision, step), total[:, 0])
        weight = step * share
        by_case = precision @ steps + weight @ found - (weight * precision) @ called
        return area, ratio(by_case - area[:, None] * sizes, np.broadcast_to(total, counts.shape))

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        bands = row_blocks(counts, width=cut_offs.size)
        values, slopes = zip(*map(of_block, bands), strict=True)
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


def _at_or_above(cut_offs: Floats, prob: Floats, cluster: NDArray[np.intp], n_cases: int) -> Floats:
    """Count the pictures of each case at or above each falling cut-off: (cut_offs, cases)."""
    first = np.searchsorted(-cut_offs, -prob)
    counts = np.zeros((cut_offs.size + 1, n_cases))
    np.add.at(counts, (first, cluster), 1.0)
    return np.cumsum(counts[:-1], axis=0)


def _sum_rows(rows: Floats, cluster: NDArray[np.intp], n_cases: int) -> Floats:
    """Add up the rows of each case: (pictures, k) to (cases, k)."""
    sums = np.zeros((n_cases, rows.shape[1]))
    np.add.at(sums, cluster, rows)
    return sums
