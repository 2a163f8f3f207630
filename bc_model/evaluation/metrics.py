"""Metrics of a two-class prediction.

Malignant is the positive class throughout. What is not defined (a class is missing) is NaN here,
never 0 and never a warning; `estimate` turns it into words.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Bounds the temporary float64 copies of a weights matrix to 32 MB each.
_BLOCK_ELEMENTS = 4_000_000


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Divide; NaN where the whole is zero. Complex numbers stay complex."""
    out = np.full(np.shape(whole), np.nan, dtype=np.result_type(part, whole, np.float64))
    return np.divide(part, whole, out=out, where=np.real(whole) != 0)


def row_blocks(matrix: NDArray[Any], width: int | None = None) -> Iterator[Floats]:
    """Yield a matrix as float64 in bands of rows; bootstrap weights come as small integers.

    Parameters
    ----------
    matrix : ndarray of shape (rows, columns)
    width : int, optional
        Elements that a row costs whoever works on the bands; default is its columns.
    """
    rows = max(1, _BLOCK_ELEMENTS // max(1, width or matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows].astype(np.float64)


def roc_auc(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the area under the ROC curve; ties count one half (mid-ranks), exactly.

    It is the probability that a malignant image has a higher estimate than a benign image.

    Parameters
    ----------
    malignant, prob_malignant
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape ()
        In [0, 1]; NaN when a class is missing.
    """
    truth = np.asarray(malignant, dtype=bool)
    prob = np.asarray(prob_malignant, dtype=np.float64)
    benign, positive = np.sort(prob[~truth]), prob[truth]
    below, not_above = (np.searchsorted(benign, positive, side=side) for side in ("left", "right"))
    return ratio((below + not_above).sum() / 2, np.asarray(benign.size * positive.size))


def average_precision(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the area under the precision-recall curve, by steps: the average precision.

    It is the mean precision at the thresholds of the malignant images. Unlike the ROC AUC it
    depends on the proportion of malignant images, which is its value for a constant model.

    Parameters
    ----------
    malignant, prob_malignant
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape ()
        In (0, 1]; NaN when a class is missing.
    """
    truth = np.asarray(malignant, dtype=bool)
    prob = np.asarray(prob_malignant, dtype=np.float64)
    if truth.all() or not truth.any():
        return np.array(np.nan)
    order = np.argsort(-prob, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(prob[order])), prob.size - 1)
    found = np.cumsum(truth[order])[last_of_tie]
    return np.array(np.diff(found, prepend=0) @ (found / (last_of_tie + 1)) / found[-1])


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


def pr_curve(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, max_points: int = 500
) -> tuple[Floats, Floats, Floats] | None:
    """Return the precision-recall curve, from the highest cut-off to the lowest.

    Parameters
    ----------
    malignant, prob_malignant
        As for `roc_auc`.
    max_points : int, default=500
        If there are more cut-offs, those at even steps of the recall are kept, with both ends.

    Returns
    -------
    (recall, precision, threshold) of float64 arrays of one shape, or None when a class is missing
        Recall rises and thresholds fall; each point is a cut-off that a picture has.
    """
    truth = np.asarray(malignant, dtype=bool)
    prob = np.asarray(prob_malignant, dtype=np.float64)
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-prob, kind="stable")
    truth, prob = truth[order], prob[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(prob)), prob.size - 1)
    recall = np.cumsum(truth)[last_of_tie] / truth.sum()
    precision = np.cumsum(truth)[last_of_tie] / (last_of_tie + 1)
    # Below the last malignant picture recall has ended and precision only falls.
    keep = np.arange(1 + int(np.searchsorted(recall, 1.0)))
    if keep.size > max_points:
        steps = np.linspace(recall[0], 1.0, max_points)
        keep = np.unique(np.append(np.searchsorted(recall, steps).clip(max=keep[-1]), keep[-1]))
    return recall[keep], precision[keep], prob[last_of_tie][keep]


METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "f1",
    "mcc",
    "roc_auc",
    "average_precision",
    "brier",
    "log_loss",
)


def all_metrics(
    malignant: ArrayLike,
    prob_malignant: ArrayLike,
    *,
    threshold: float = 0.5,
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

    Returns
    -------
    dict of str to ndarray
        Arrays of shape (); NaN where a metric is not defined.
    """
    confusion = confusion_counts(malignant, prob_malignant, threshold=threshold)
    return {
        "accuracy": accuracy(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
        "sensitivity": sensitivity(confusion),
        "specificity": specificity(confusion),
        "f1": f1(confusion),
        "mcc": mcc(confusion),
        "roc_auc": roc_auc(malignant, prob_malignant),
        "average_precision": average_precision(malignant, prob_malignant),
        "brier": brier(malignant, prob_malignant),
        "log_loss": log_loss(malignant, prob_malignant),
    }


def confusion_counts(
    malignant: ArrayLike,
    prob_malignant: ArrayLike,
    *,
    threshold: float = 0.5,
) -> Floats:
    """Count truths against verdicts.

    Parameters
    ----------
    malignant, prob_malignant, threshold
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape (2, 2)
        Rows are the truth, columns the verdict, each in the order benign, malignant.

    Examples
    --------
    >>> confusion_counts([True, True, False], [0.9, 0.2, 0.5]).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    truth = np.asarray(malignant, dtype=bool)
    called = np.asarray(prob_malignant, dtype=np.float64) >= threshold
    return np.bincount(2 * truth + called, minlength=4).reshape(2, 2).astype(np.float64)


def accuracy(confusion: NDArray[Any]) -> Floats:
    """Return the share of right verdicts in [0, 1] of confusion counts (..., 2, 2).

    It means nothing without the base rate: on BreakHis, calling everything malignant scores 0.69.
    """
    return ratio(
        confusion[..., 0, 0] + confusion[..., 1, 1], np.asarray(confusion.sum(axis=(-2, -1)))
    )


def sensitivity(confusion: NDArray[Any]) -> Floats:
    """Return the share of malignant pictures called malignant, of confusion counts (..., 2, 2).

    NaN without malignant pictures.
    """
    return ratio(confusion[..., 1, 1], confusion[..., 1, 0] + confusion[..., 1, 1])


def specificity(confusion: NDArray[Any]) -> Floats:
    """Return the share of benign pictures called benign, of confusion counts (..., 2, 2).

    NaN without benign pictures.
    """
    return ratio(confusion[..., 0, 0], confusion[..., 0, 0] + confusion[..., 0, 1])


def balanced_accuracy(confusion: NDArray[Any]) -> Floats:
    """Return the mean of sensitivity and specificity, of confusion counts (..., 2, 2).

    NaN with one class only, where scikit-learn returns the recall of that class: half of the
    figure would be missing without anyone seeing it.
    """
    return (sensitivity(confusion) + specificity(confusion)) / 2


def f1(confusion: NDArray[Any]) -> Floats:
    """Return the harmonic mean of sensitivity and precision, of confusion counts (..., 2, 2).

    It does not look at benign pictures called benign, and it rises with the share of malignant
    ones. NaN with one class only: without malignant pictures nothing can be found, and without
    benign ones every call is right.
    """
    (_, fp), (fn, tp) = _cells(confusion)
    whole = np.where(_has_both_classes(confusion), 2 * tp + fp + fn, 0)
    return ratio(2 * tp, whole)


def mcc(confusion: NDArray[Any]) -> Floats:
    """Return Matthews's correlation of truth and verdict in [-1, 1], of counts (..., 2, 2).

    NaN when a class is missing or every picture is called the same, where scikit-learn returns 0:
    a correlation with something that does not vary is not there, rather than none.
    """
    (tn, fp), (fn, tp) = _cells(confusion)
    # A root a margin: the product of all four would leave the exact integers of a float.
    margins = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    return ratio(tp * tn - fp * fn, margins)


def brier(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the mean squared error of the probabilities; smaller is better, 0 is perfect.

    In [0, 1], the form for two classes. Always answering the base rate p scores p (1 - p).

    Parameters
    ----------
    malignant, prob_malignant
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape ()
        NaN only without images; one class is enough.
    """
    return _mean(squared_errors(malignant, prob_malignant))


def log_loss(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the mean cross-entropy in nats; smaller is better, 0 is perfect.

    A probability of exactly 0 or 1 is taken as one machine epsilon off, as in scikit-learn, so
    that a single certain mistake costs 36 nats and not infinity.

    Parameters
    ----------
    malignant, prob_malignant
        As for `all_metrics`.

    Returns
    -------
    ndarray of float64, shape ()
        NaN only without images; one class is enough.
    """
    return _mean(log_losses(malignant, prob_malignant))


def squared_errors(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the squared error of each probability, shape (n,), in [0, 1]."""
    errors = np.asarray(prob_malignant, dtype=np.float64) - np.asarray(malignant, dtype=bool)
    return np.square(errors)


def log_losses(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the cross-entropy of each probability, shape (n,), in nats."""
    truth = np.asarray(malignant, dtype=bool)
    epsilon = np.finfo(np.float64).eps
    prob = np.clip(np.asarray(prob_malignant, dtype=np.float64), epsilon, 1 - epsilon)
    return -np.log(np.where(truth, prob, 1 - prob))


def _cells(confusion: NDArray[Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return (tn, fp), (fn, tp), each of shape (...)."""
    return (confusion[..., 0, 0], confusion[..., 0, 1]), (
        confusion[..., 1, 0],
        confusion[..., 1, 1],
    )


def _has_both_classes(confusion: NDArray[Any]) -> NDArray[np.bool_]:
    truths = np.real(confusion.sum(axis=-1))
    return np.asarray((truths != 0).all(axis=-1))


def _mean(values: Floats) -> Floats:
    return ratio(values.sum(), np.asarray(values.size))
