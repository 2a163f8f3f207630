"""How well the probabilities rank the pictures: areas and curves that need no cut-off.

Malignant is the positive class. With one class only there is no ranking: NaN, or no curve.
"""

import numpy as np
from numpy.typing import ArrayLike

from bc_model.evaluation.weighting import Floats, ratio


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
