"""Metrics, compared with manual values and scikit-learn."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from bc_model.evaluation.metrics import (
    METRICS,
    accuracy,
    all_metrics,
    average_precision,
    balanced_accuracy,
    brier,
    confusion_counts,
    f1,
    log_loss,
    mcc,
    pr_curve,
    roc_auc,
    roc_curve,
    sensitivity,
    specificity,
)

# Benign at 0.1, 0.4, 0.8; malignant at 0.4, 0.8, 0.9, 0.3, 0.6. At 0.5,
# two of three benign and three of five malignant images are correct.
TRUTH = np.array([0, 0, 0, 1, 1, 1, 1, 1], dtype=bool)
PROB = np.array([0.1, 0.4, 0.8, 0.4, 0.8, 0.9, 0.3, 0.6])


def _sample(seed: int, n: int = 400, *, ties: bool = False) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.69
    prob = np.clip(0.35 * truth + 0.65 * rng.random(n), 0, 1)
    case = np.array([f"{'m' if t else 'b'}{rng.integers(12)}" for t in truth])
    return truth, prob.round(1) if ties else prob, case


def _by_sklearn(truth: Any, prob: Any, threshold: float) -> dict[str, float]:
    predicted = prob >= threshold
    return {
        "accuracy": oracle.accuracy_score(truth, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(truth, predicted),
        "sensitivity": oracle.recall_score(truth, predicted),
        "specificity": oracle.recall_score(truth, predicted, pos_label=False),
        "f1": oracle.f1_score(truth, predicted),
        "mcc": oracle.matthews_corrcoef(truth, predicted),
        "roc_auc": oracle.roc_auc_score(truth, prob),
        "average_precision": oracle.average_precision_score(truth, prob),
        "brier": oracle.brier_score_loss(truth, prob),
        "log_loss": oracle.log_loss(truth, prob),
    }


def test_metrics_eight_images_equal_manual_values() -> None:
    confusion = confusion_counts(TRUTH, PROB)
    assert confusion.tolist() == [[2, 1], [2, 3]]
    assert accuracy(confusion) == 5 / 8
    assert sensitivity(confusion) == 3 / 5
    assert specificity(confusion) == 2 / 3
    assert balanced_accuracy(confusion) == pytest.approx((3 / 5 + 2 / 3) / 2, abs=1e-15)
    # Number of benign images below each malignant image, a tie counts one half:
    # 0.4 -> 1 + 1/2, 0.8 -> 2 + 1/2, 0.9 -> 3, 0.3 -> 1, 0.6 -> 2: 10 of 15 pairs.
    assert roc_auc(TRUTH, PROB) == pytest.approx(10 / 15, abs=1e-15)
    # Precision 3/4, sensitivity 3/5.
    assert f1(confusion) == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5), abs=1e-15)
    assert mcc(confusion) == pytest.approx((3 * 2 - 1 * 2) / math.sqrt(4 * 5 * 3 * 4), abs=1e-15)
    # Precision at 0.9, 0.8, 0.6, 0.4, 0.3: 1, 2/3, 3/4, 4/6, 5/7, a fifth of the recall each.
    expected = (1 + 2 / 3 + 3 / 4 + 4 / 6 + 5 / 7) / 5
    assert average_precision(TRUTH, PROB) == pytest.approx(expected, abs=1e-15)
    errors = [0.01, 0.16, 0.64, 0.36, 0.04, 0.01, 0.49, 0.16]
    assert brier(TRUTH, PROB) == pytest.approx(sum(errors) / 8, abs=1e-15)


def test_log_loss_equals_manual_values() -> None:
    assert log_loss([True, False], [0.5, 0.5]) == pytest.approx(math.log(2), abs=1e-15)
    assert log_loss([True, False], [0.25, 0.5]) == pytest.approx(1.5 * math.log(2), abs=1e-15)


def test_log_loss_certain_error_is_finite() -> None:
    loss = float(log_loss([True, False], [0.0, 1.0]))
    assert loss == pytest.approx(-math.log(np.finfo(float).eps))
    assert loss == pytest.approx(oracle.log_loss([1, 0], [0.0, 1.0]), abs=1e-12)
    assert log_loss([True, False], [1.0, 0.0]) == pytest.approx(0, abs=1e-12)


def test_confusion_counts_probability_at_threshold_is_malignant() -> None:
    assert confusion_counts([True, False], [0.5, 0.5], threshold=0.5).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_all_metrics_equal_sklearn(seed: int, threshold: float, ties: bool) -> None:
    truth, prob, _ = _sample(seed, ties=ties)
    ours = all_metrics(truth, prob, threshold=threshold)
    expected = _by_sklearn(truth, prob, threshold)
    assert tuple(ours) == METRICS
    for name in METRICS:
        assert ours[name].shape == ()
        assert float(ours[name]) == pytest.approx(expected[name], abs=1e-12), name


@pytest.mark.parametrize("malignant", [True, False])
def test_all_metrics_one_class_is_nan(malignant: bool) -> None:
    truth = np.full(4, malignant)
    values = all_metrics(truth, [0.1, 0.6, 0.7, 0.9])
    undefined = {"balanced_accuracy", "f1", "mcc", "roc_auc", "average_precision"}
    undefined.add("specificity" if malignant else "sensitivity")
    for name in METRICS:
        assert np.isnan(values[name]) == (name in undefined), name
    assert roc_curve(truth, [0.1, 0.6, 0.7, 0.9]) is None


def test_areas_constant_probability_is_chance() -> None:
    assert roc_auc(TRUTH, np.full(8, 0.7)) == 0.5
    assert average_precision(TRUTH, np.full(8, 0.7)) == 5 / 8


def test_mcc_constant_prediction_is_nan() -> None:
    assert np.isnan(mcc(confusion_counts(TRUTH, PROB, threshold=0.0)))
    assert np.isnan(mcc(confusion_counts(TRUTH, PROB, threshold=1.0)))
    assert f1(confusion_counts(TRUTH, PROB, threshold=1.0)) == 0.0


def test_roc_curve_equals_manual_values() -> None:
    # In descending order: 0.9 M | 0.8 B M | 0.6 M | 0.4 B M | 0.3 M | 0.1 B.
    curve = roc_curve(TRUTH, PROB)
    assert curve is not None
    fpr, tpr, threshold = curve
    assert np.allclose(fpr, [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    assert np.allclose(tpr, [0, 0.2, 0.4, 0.6, 0.8, 1, 1])
    assert threshold.tolist() == [np.inf, 0.9, 0.8, 0.6, 0.4, 0.3, 0.1]


@pytest.mark.parametrize("ties", [False, True])
def test_roc_curve_equals_sklearn(ties: bool) -> None:
    truth, prob, _ = _sample(11, n=300, ties=ties)
    ours = roc_curve(truth, prob)
    assert ours is not None
    every = np.column_stack(oracle.roc_curve(truth, prob, drop_intermediate=False))
    kept = every[np.isin(every[:, 2], ours[2])]
    assert np.column_stack(ours) == pytest.approx(kept, abs=1e-12)
    # Each omitted point is on the line between its neighbors.
    along = every[:, 0] + every[:, 1]
    for axis in (0, 1):
        line = np.interp(along, ours[0] + ours[1], ours[axis])
        assert line == pytest.approx(every[:, axis], abs=1e-12)
    if not ties:
        assert len(kept) < len(every) / 2


def test_roc_curve_many_points_is_thinned() -> None:
    truth, prob, _ = _sample(12, n=20_000)
    full, thin = roc_curve(truth, prob, max_points=10**6), roc_curve(truth, prob)
    assert full is not None
    assert thin is not None
    fpr, tpr, threshold = thin
    assert 200 < fpr.size <= 500 < full[0].size
    assert (fpr[0], tpr[0], threshold[0]) == (0, 0, np.inf)
    assert (fpr[-1], tpr[-1]) == (1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (np.diff(threshold) < 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(float(roc_auc(truth, prob)), abs=5e-4)


@pytest.mark.parametrize("ties", [False, True])
def test_pr_curve_equals_sklearn(ties: bool) -> None:
    truth, prob, _ = _sample(13, n=300, ties=ties)
    ours = pr_curve(truth, prob)
    assert ours is not None
    precision, recall, threshold = oracle.precision_recall_curve(truth, prob)
    # scikit-learn starts at the lowest threshold and ends with an additional point.
    expected = np.column_stack([recall[:-1], precision[:-1], threshold])[::-1]
    last = int(np.argmax(expected[:, 0] == 1.0))
    assert np.column_stack(ours) == pytest.approx(expected[: last + 1], abs=1e-12)


def test_pr_curve_many_points_is_thinned() -> None:
    truth, prob, _ = _sample(14, n=20_000)
    thin = pr_curve(truth, prob)
    assert thin is not None
    recall, precision, threshold = thin
    assert 200 < recall.size <= 501
    assert recall[-1] == 1.0
    assert (np.diff(recall) >= 0).all()
    assert (np.diff(threshold) < 0).all()
    area = np.trapezoid(precision, recall) + precision[0] * recall[0]
    assert area == pytest.approx(float(average_precision(truth, prob)), abs=2e-3)
    assert pr_curve([True, True], [0.1, 0.2]) is None


def test_all_metrics_one_image_has_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = all_metrics([True], [1.0])
    assert values["accuracy"] == 1
    assert np.isnan(values["roc_auc"])
