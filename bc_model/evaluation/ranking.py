"""How well the probabilities rank the pictures: areas and curves that need no cut-off.

Malignant is the positive class. With one class only there is no ranking: NaN, or no curve.
"""

import numpy as np
from numpy.typing import ArrayLike

from bc_model.evaluation.weighting import Floats, ratio, row_blocks, weight_matrix


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
        return ratio(np.einsum("ij,ij->i", weight, beaten), pairs)

    matrix, single = weight_matrix(weights, truth.size)
    areas = np.concatenate([of_block(block) for block in row_blocks(matrix)])
    return areas[0, ...] if single else areas


def average_precision(
    malignant: ArrayLike, prob_malignant: ArrayLike, *, weights: ArrayLike | None = None
) -> Floats:
    """Return the area under the precision-recall curve, by steps: the average precision.

    Precision at the cut-off of each malignant picture, averaged over them. Unlike the ROC's it
    depends on the share of malignant pictures, which is its value for a model that tells nothing.

    Parameters
    ----------
    malignant, prob_malignant, weights
        As for `roc_auc`.

    Returns
    -------
    ndarray of float64, shape () or (n_resamples,)
        In (0, 1]; NaN when a class is missing or has no weight.
    """
    truth = np.asarray(malignant, dtype=bool)
    order = np.argsort(-np.asarray(prob_malignant, dtype=np.float64), kind="stable")
    prob = np.asarray(prob_malignant, dtype=np.float64)[order]
    positive = truth[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(prob)), prob.size - 1)

    def of_block(block: Floats) -> Floats:
        weight = np.take(block, order, axis=1)
        called = np.take(np.cumsum(weight, axis=1), last_of_tie, axis=1)
        found = np.take(np.cumsum(weight * positive, axis=1), last_of_tie, axis=1)
        # Where nothing is called there is no precision, and no step of the recall either.
        precision = np.nan_to_num(ratio(found, called), nan=0.0)
        steps = np.diff(found, axis=1, prepend=0.0)
        areas = ratio(np.einsum("ij,ij->i", steps, precision), found[:, -1])
        return np.where(called[:, -1] > found[:, -1], areas, np.nan)

    matrix, single = weight_matrix(weights, truth.size)
    areas = np.concatenate([of_block(block) for block in row_blocks(matrix)])
    return areas[0, ...] if single else areas


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
