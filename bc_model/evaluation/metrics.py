"""Metrics of binary predictions; malignant is the positive class.

An undefined metric is NaN here, without a warning. `bc_model.evaluation.estimates` adds the
intervals and the reasons.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

METRICS = (
    "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "mcc", "roc_auc",
    "average_precision", "brier", "log_loss",
)  # fmt: skip


def all_metrics(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, threshold: float = 0.5
) -> dict[str, Floats]:
    """Return every metric in `METRICS`.

    Parameters
    ----------
    malignant : array-like of bool, shape (n_images,)
        True class.
    prob_malignant : array-like of float, shape (n_images,)
        Estimated probability of malignancy, in [0, 1].
    threshold : float, default=0.5
        Lowest probability at which an image is predicted malignant.

    Returns
    -------
    dict of str to ndarray
        Arrays of shape (); NaN for an undefined metric.

    Examples
    --------
    >>> metrics = all_metrics([True, True, False, False], [0.9, 0.4, 0.6, 0.1])
    >>> float(metrics["accuracy"]), float(metrics["roc_auc"])
    (0.5, 0.75)
    """
    confusion = confusion_counts(malignant, prob_malignant, threshold=threshold)
    return {name: function(confusion) for name, function in CONFUSION_METRICS.items()} | {
        "roc_auc": roc_auc(malignant, prob_malignant),
        "average_precision": average_precision(malignant, prob_malignant),
        "brier": brier(malignant, prob_malignant),
        "log_loss": log_loss(malignant, prob_malignant),
    }


def roc_auc(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the area under the ROC curve, in [0, 1]; NaN if a class is missing.

    It is the probability that a malignant image has a higher estimate than a benign image; a tie
    counts one half.
    """
    truth = np.asarray(malignant, dtype=bool)
    prob = np.asarray(prob_malignant, dtype=np.float64)
    benign, positive = np.sort(prob[~truth]), prob[truth]
    below, not_above = (np.searchsorted(benign, positive, side=side) for side in ("left", "right"))
    return ratio((below + not_above).sum() / 2, np.asarray(benign.size * positive.size))


def average_precision(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the average precision: the area under the stepwise precision-recall curve.

    Unlike the ROC AUC it depends on the proportion of malignant images, which is its value for a
    constant model.
    """
    truth = np.asarray(malignant, dtype=bool)
    if truth.all() or not truth.any():
        return np.array(np.nan)
    true_positives, rank, _ = _cumulative_counts(truth, prob_malignant)
    steps = np.diff(true_positives, prepend=0)
    return np.array(steps @ (true_positives / rank) / true_positives[-1])


def roc_curve(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, max_points: int = 500
) -> tuple[Floats, Floats, Floats] | None:
    """Return fpr, tpr and threshold of the corners of the ROC curve; None without both classes.

    Both rates increase, and the first threshold is infinite. If there are more than `max_points`
    corners, points at even steps along the curve are kept, including both ends.
    """
    truth = np.asarray(malignant, dtype=bool)
    if truth.all() or not truth.any():
        return None
    true_positives, rank, threshold = _cumulative_counts(truth, prob_malignant)
    false_positives = np.insert(rank - true_positives, 0, 0)
    true_positives, threshold = np.insert(true_positives, 0, 0), np.insert(threshold, 0, np.inf)
    # Points on a straight segment are omitted; integer counts make the test exact.
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
    """Return recall, precision and threshold of the precision-recall curve, or None.

    The recall increases up to 1. If there are more than `max_points` thresholds, those at even
    steps of the recall are kept, including both ends. None without both classes.
    """
    truth = np.asarray(malignant, dtype=bool)
    if truth.all() or not truth.any():
        return None
    true_positives, rank, threshold = _cumulative_counts(truth, prob_malignant)
    recall, precision = true_positives / truth.sum(), true_positives / rank
    # Below the last malignant image only the precision changes.
    keep = np.arange(1 + int(np.searchsorted(recall, 1.0)))
    if keep.size > max_points:
        steps = np.linspace(recall[0], 1.0, max_points)
        keep = np.unique(np.append(np.searchsorted(recall, steps).clip(max=keep[-1]), keep[-1]))
    return recall[keep], precision[keep], threshold[keep]


def confusion_counts(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, threshold: float = 0.5
) -> Floats:
    """Return the confusion matrix.

    Examples
    --------
    >>> confusion_counts([True, True, False], [0.9, 0.2, 0.5]).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    truth = np.asarray(malignant, dtype=bool)
    predicted = np.asarray(prob_malignant, dtype=np.float64) >= threshold
    return np.bincount(2 * truth + predicted, minlength=4).reshape(2, 2).astype(np.float64)


def accuracy(confusion: NDArray[Any]) -> Floats:
    """Return the proportion of correct predictions, from confusion counts (..., 2, 2).

    Compare it with the majority baseline: on BreakHis, predicting always malignant scores 0.69.
    """
    return ratio(
        confusion[..., 0, 0] + confusion[..., 1, 1], np.asarray(confusion.sum(axis=(-2, -1)))
    )


def majority_baseline(malignant_proportion: float) -> tuple[str, float]:
    """Return the majority class, and the accuracy of always predicting it.

    Examples
    --------
    >>> majority_baseline(0.25)
    ('benign', 0.75)
    """
    if malignant_proportion >= 0.5:
        return "malignant", malignant_proportion
    return "benign", 1 - malignant_proportion


def sensitivity(confusion: NDArray[Any]) -> Floats:
    """Return the proportion of malignant images predicted malignant, from counts (..., 2, 2)."""
    return ratio(confusion[..., 1, 1], confusion[..., 1, 0] + confusion[..., 1, 1])


def specificity(confusion: NDArray[Any]) -> Floats:
    """Return the proportion of benign images predicted benign, from counts (..., 2, 2)."""
    return ratio(confusion[..., 0, 0], confusion[..., 0, 0] + confusion[..., 0, 1])


def balanced_accuracy(confusion: NDArray[Any]) -> Floats:
    """Return the mean of sensitivity and specificity, from confusion counts (..., 2, 2).

    NaN with one class only, where scikit-learn returns the recall of that class.
    """
    return (sensitivity(confusion) + specificity(confusion)) / 2


def f1(confusion: NDArray[Any]) -> Floats:
    """Return the harmonic mean of sensitivity and precision, from confusion counts (..., 2, 2).

    It ignores true negatives and increases with the proportion of malignant images. NaN with one
    class only.
    """
    (_, fp), (fn, tp) = np.moveaxis(confusion, (-2, -1), (0, 1))
    has_both_classes = (np.real(confusion.sum(axis=-1)) != 0).all(axis=-1)
    return ratio(2 * tp, np.where(has_both_classes, 2 * tp + fp + fn, 0))


def mcc(confusion: NDArray[Any]) -> Floats:
    """Return the Matthews correlation coefficient in [-1, 1], from confusion counts (..., 2, 2).

    NaN if a true or predicted class is missing, where scikit-learn returns 0.
    """
    (tn, fp), (fn, tp) = np.moveaxis(confusion, (-2, -1), (0, 1))
    # One root per margin: the product of all four exceeds the exact integers of a float.
    margins = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    return ratio(tp * tn - fp * fn, margins)


CONFUSION_METRICS: dict[str, Callable[[NDArray[Any]], Floats]] = {
    function.__name__: function
    for function in (accuracy, balanced_accuracy, sensitivity, specificity, f1, mcc)
}
"""Metrics that are functions of confusion counts (..., 2, 2); NaN where they are undefined."""


def brier(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the Brier score: the mean squared error of the probabilities.

    In [0, 1]; 0 is perfect. Predicting always the proportion p of malignant images scores
    p (1 - p).
    """
    return _mean(squared_errors(malignant, prob_malignant))


def log_loss(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the mean cross-entropy in nats; 0 is perfect.

    Probabilities are clipped by one machine epsilon, as in scikit-learn, so that a single certain
    error costs 36 nats instead of infinity.
    """
    return _mean(log_losses(malignant, prob_malignant))


def squared_errors(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the squared error of each probability, shape (n_images,), in [0, 1]."""
    errors = np.asarray(prob_malignant, dtype=np.float64) - np.asarray(malignant, dtype=bool)
    return np.square(errors)


def log_losses(malignant: ArrayLike, prob_malignant: ArrayLike) -> Floats:
    """Return the cross-entropy of each probability, shape (n_images,), in nats."""
    truth = np.asarray(malignant, dtype=bool)
    epsilon = np.finfo(np.float64).eps
    prob = np.clip(np.asarray(prob_malignant, dtype=np.float64), epsilon, 1 - epsilon)
    return -np.log(np.where(truth, prob, 1 - prob))


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[Any]:
    """Divide; NaN where the denominator is zero. Complex numbers stay complex."""
    dtype = np.result_type(numerator, denominator, np.float64)
    out = np.full(np.shape(denominator), np.nan, dtype=dtype)
    return np.divide(numerator, denominator, out=out, where=np.real(denominator) != 0)


def _mean(values: Floats) -> Floats:
    return ratio(values.sum(), np.asarray(values.size))


def _cumulative_counts(
    truth: NDArray[np.bool_], prob_malignant: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return true positives, predicted positives and threshold at each distinct probability."""
    prob = np.asarray(prob_malignant, dtype=np.float64)
    order = np.argsort(-prob, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(prob[order])), prob.size - 1)
    return np.cumsum(truth[order])[last_of_tie], last_of_tie + 1, prob[order][last_of_tie]
