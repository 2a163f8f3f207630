"""Metrics of a two-class verdict, for one set of weights or a whole bootstrap of them at once.

Malignant is the positive class throughout. What is not defined (a class is missing) is NaN here,
never 0 and never a warning; `report` turns it into words.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "roc_auc",
    "log_loss",
)

# Bounds the temporary float64 copies of a weights matrix to 32 MB each.
_BLOCK_ELEMENTS = 4_000_000


def all_metrics(
    malignant: ArrayLike,
    prob_malignant: ArrayLike,
    *,
    threshold: float = 0.5,
    weights: ArrayLike | None = None,
) -> dict[str, Floats]:
    """Return every metric named in `METRICS`.

    Parameters
    ----------
    malignant : array-like of bool, shape (n,)
        The truth.
    prob_malignant : array-like of float, shape (n,)
        Estimated probability of malignancy, in [0, 1].
    threshold : float, default=0.5
        A picture is called malignant at this probability or above.
    weights : array-like, shape (n,) or (n_resamples, n), optional
        Not negative. None counts every picture once.

    Returns
    -------
    dict of str to ndarray
        Arrays of shape () or (n_resamples,); NaN where a metric is not defined.
    """
    confusion = confusion_counts(malignant, prob_malignant, threshold=threshold, weights=weights)
    return {
        "accuracy": accuracy(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
        "sensitivity": sensitivity(confusion),
        "specificity": specificity(confusion),
        "roc_auc": roc_auc(malignant, prob_malignant, weights=weights),
        "log_loss": log_loss(malignant, prob_malignant, weights=weights),
    }


def confusion_counts(
    malignant: ArrayLike,
    prob_malignant: ArrayLike,
    *,
    threshold: float = 0.5,
    weights: ArrayLike | None = None,
) -> Floats:
    """Count truths against verdicts.

    Parameters
    ----------
    malignant, prob_malignant, threshold, weights
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape (2, 2) or (n_resamples, 2, 2)
        Rows are the truth, columns the verdict, each in the order benign, malignant.

    Examples
    --------
    >>> confusion_counts([True, True, False], [0.9, 0.2, 0.5]).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    truth = np.asarray(malignant, dtype=bool)
    called = np.asarray(prob_malignant, dtype=np.float64) >= threshold
    cells = np.stack([~truth & ~called, ~truth & called, truth & ~called, truth & called], axis=1)
    sums = _weighted(cells.astype(np.float64), weights)
    return sums.reshape(*sums.shape[:-1], 2, 2)


def accuracy(confusion: NDArray[Any]) -> Floats:
    """Return the share of right verdicts in [0, 1] of confusion counts (..., 2, 2).

    It means nothing without the base rate: on BreakHis, calling everything malignant scores 0.69.
    """
    return _ratio(
        confusion[..., 0, 0] + confusion[..., 1, 1], np.asarray(confusion.sum(axis=(-2, -1)))
    )


def sensitivity(confusion: NDArray[Any]) -> Floats:
    """Return the share of malignant pictures called malignant, of confusion counts (..., 2, 2).

    NaN without malignant pictures.
    """
    return _ratio(confusion[..., 1, 1], confusion[..., 1, 0] + confusion[..., 1, 1])


def specificity(confusion: NDArray[Any]) -> Floats:
    """Return the share of benign pictures called benign, of confusion counts (..., 2, 2).

    NaN without benign pictures.
    """
    return _ratio(confusion[..., 0, 0], confusion[..., 0, 0] + confusion[..., 0, 1])


def balanced_accuracy(confusion: NDArray[Any]) -> Floats:
    """Return the mean of sensitivity and specificity, of confusion counts (..., 2, 2).

    NaN with one class only, where scikit-learn returns the recall of that class: half of the
    figure would be missing without anyone seeing it.
    """
    return (sensitivity(confusion) + specificity(confusion)) / 2


def roc_auc(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, weights: ArrayLike | None = None
) -> Floats:
    """Return the area under the ROC curve; ties count one half (mid-ranks), exactly.

    It is the chance that a malignant picture gets a higher probability than a benign one.

    Parameters
    ----------
    malignant, prob_malignant, weights
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape () or (n_resamples,)
        In [0, 1]; NaN when a class is missing or has no weight.
    """
    truth = np.asarray(malignant, dtype=bool)
    prob = np.asarray(prob_malignant, dtype=np.float64)
    # Sorted once for all replicates: a malignant picture beats the benign weight below it, and
    # half of the benign weight that stands level with it.
    benign = np.flatnonzero(~truth)
    benign = benign[np.argsort(prob[benign], kind="stable")]
    positive = np.flatnonzero(truth)
    below = np.searchsorted(prob[benign], prob[positive], side="left")
    not_above = np.searchsorted(prob[benign], prob[positive], side="right")
    tied = bool((below != not_above).any())

    def of_block(block: Floats) -> Floats:
        cumulative = np.zeros((len(block), benign.size + 1))
        np.cumsum(np.take(block, benign, axis=1), axis=1, out=cumulative[:, 1:])
        weight = np.take(block, positive, axis=1)
        beaten = np.take(cumulative, below, axis=1)
        if tied:
            beaten += np.take(cumulative, not_above, axis=1)
            beaten /= 2
        pairs = cumulative[:, -1] * weight.sum(axis=1)
        return _ratio(np.einsum("ij,ij->i", weight, beaten), pairs)

    matrix, single = _matrix(weights, truth.size)
    areas = np.concatenate([of_block(block) for block in _blocks(matrix)])
    return areas[0, ...] if single else areas


def log_loss(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, weights: ArrayLike | None = None
) -> Floats:
    """Return the mean cross-entropy in nats; smaller is better, 0 is perfect.

    A probability of exactly 0 or 1 is taken as one machine epsilon off, as in scikit-learn, so
    that a single certain mistake costs 36 nats and not infinity.

    Parameters
    ----------
    malignant, prob_malignant, weights
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape () or (n_resamples,)
        NaN only when there is no weight at all; one class is enough.
    """
    truth = np.asarray(malignant, dtype=bool)
    epsilon = np.finfo(np.float64).eps
    prob = np.clip(np.asarray(prob_malignant, dtype=np.float64), epsilon, 1 - epsilon)
    loss = -np.log(np.where(truth, prob, 1 - prob))
    sums = _weighted(np.stack([loss, np.ones_like(loss)], axis=1), weights)
    return _ratio(sums[..., 0], sums[..., 1])


def roc_curve(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, max_points: int = 500
) -> tuple[Floats, Floats, Floats] | None:
    """Return the ROC curve from (0, 0) to (1, 1), thinned to its corners.

    Parameters
    ----------
    malignant, prob_malignant
        As for `all_metrics`.
    max_points : int, default=500
        If there are more corners, points at even steps along the curve are kept, with both ends.

    Returns
    -------
    (fpr, tpr, threshold) of float64 arrays of one shape, or None when a class is missing
        Both rates rise, thresholds fall; the first threshold is infinite (nothing is malignant).
    """
    truth = np.asarray(malignant, dtype=bool)
    prob = np.asarray(prob_malignant, dtype=np.float64)
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-prob, kind="stable")
    truth, prob = truth[order], prob[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(prob)), prob.size - 1)
    true_positives = np.insert(np.cumsum(truth)[last_of_tie], 0, 0)
    false_positives = np.insert(np.cumsum(~truth)[last_of_tie], 0, 0)
    threshold = np.insert(prob[last_of_tie], 0, np.inf)
    # Points inside a straight run add nothing to the picture; whole counts make the test exact.
    up, right = np.diff(true_positives), np.diff(false_positives)
    turns = up[:-1] * right[1:] != up[1:] * right[:-1]
    keep = np.flatnonzero(np.concatenate([[True], turns, [True]]))
    if keep.size > max_points:
        length = (true_positives / truth.sum() + false_positives / (~truth).sum())[keep]
        steps = np.linspace(0.0, length[-1], max_points)
        keep = keep[np.unique(np.searchsorted(length, steps).clip(max=keep.size - 1))]
    return (
        false_positives[keep] / (~truth).sum(),
        true_positives[keep] / truth.sum(),
        threshold[keep],
    )


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Divide; NaN where the whole is zero."""
    out = np.full(np.shape(whole), np.nan)
    return np.divide(part, whole, out=out, where=np.asarray(whole) != 0)


def _matrix(weights: ArrayLike | None, n: int) -> tuple[NDArray[Any], bool]:
    """Return weights as (n_resamples, n), and whether the caller gave one set only."""
    array = np.ones(n) if weights is None else np.asarray(weights)
    if array.ndim not in (1, 2) or array.shape[-1] != n:
        raise ValueError(f"weights must have shape ({n},) or (n_resamples, {n}), got {array.shape}")
    return np.atleast_2d(array), array.ndim == 1


def _blocks(matrix: NDArray[Any]) -> Iterator[Floats]:
    """Yield the matrix as float64 in bands of rows; bootstrap weights come as small integers."""
    rows = max(1, _BLOCK_ELEMENTS // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows].astype(np.float64)


def _weighted(columns: Floats, weights: ArrayLike | None) -> Floats:
    """Return weighted sums of columns (n, k): (k,) for one set of weights or (n_resamples, k)."""
    matrix, single = _matrix(weights, len(columns))
    sums = np.concatenate([block @ columns for block in _blocks(matrix)])
    return sums[0] if single else sums
