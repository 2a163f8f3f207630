"""Calibration measurement: manual bins, scikit-learn, and a perfectly calibrated model."""

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from bc_model.evaluation.calibration import CalibrationResult, measure_calibration
from bc_model.utils.serialization import dumps, loads


def calibrated(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prob = rng.beta(0.7, 0.5, n)
    return rng.random(n) < prob, prob, np.full(n, "")


def test_measure_calibration_four_images_equals_manual_values() -> None:
    # One of two images is malignant in the bin from 0.2 to 0.3, and both in the last bin.
    found = measure_calibration(
        np.array([True, False, True, True]),
        np.array([0.25, 0.29, 0.95, 1.0]),
        np.array(list("abcd")),
    )
    low, high = found.bins
    assert (low.prob_low, low.prob_high, low.mean_prob) == pytest.approx((0.2, 0.3, 0.27))
    assert (low.observed.value, low.observed.n_images, low.observed.n_cases) == (0.5, 2, 2)
    assert (high.prob_low, high.prob_high, high.mean_prob, high.observed.value) == (
        0.9,
        1.0,
        0.975,
        1.0,
    )
    # The error is 0.23 for half of the images and 0.025 for the others.
    assert found.ece == pytest.approx((0.23 + 0.025) / 2, abs=1e-12)


def test_measure_calibration_bins_equal_sklearn() -> None:
    malignant, prob, case = calibrated()
    found = measure_calibration(malignant, prob, case)
    observed, expected = calibration_curve(malignant, prob, n_bins=10)
    assert [one.observed.value for one in found.bins] == pytest.approx(observed, abs=1e-12)
    assert [one.mean_prob for one in found.bins] == pytest.approx(expected, abs=1e-12)


def test_measure_calibration_equal_count_equals_sklearn() -> None:
    malignant, prob, case = calibrated()
    observed, expected = calibration_curve(malignant, prob, n_bins=10, strategy="quantile")
    # 400 images in each.
    error = np.abs(observed - expected).mean()
    assert measure_calibration(malignant, prob, case).ece_equal_count == pytest.approx(
        error, abs=1e-12
    )


def test_measure_calibration_calibrated_model_has_simulated_error() -> None:
    found = [measure_calibration(*calibrated(seed=seed)) for seed in range(20)]
    mean = np.mean([one.ece for one in found])
    assert mean == pytest.approx(np.mean([one.ece_if_calibrated for one in found]), rel=0.2)
    assert mean > 0.005  # The error of a calibrated model is above 0.
    malignant, prob, case = calibrated()
    overconfident = prob**2 / (prob**2 + (1 - prob) ** 2)
    wrong = measure_calibration(malignant, overconfident, case)
    assert wrong.ece > 5 * wrong.ece_if_calibrated


def test_measure_calibration_bin_uses_effective_number_of_cases() -> None:
    # One case of 90 images and ten cases of one image: 100**2 / (90**2 + 10) effective cases.
    case = np.array(["big"] * 90 + [f"small{k}" for k in range(10)])
    malignant = np.array([True] * 90 + [False] * 10)
    (only,) = measure_calibration(malignant, np.full(100, 0.55), case).bins
    effective = 100**2 / (90**2 + 10)
    z = stats.norm.ppf(0.975)
    center = (0.9 + z**2 / 2 / effective) / (1 + z**2 / effective)
    assert only.observed.n_cases == 11
    assert (only.observed.ci_low + only.observed.ci_high) / 2 == pytest.approx(center, abs=1e-9)  # type: ignore[operator]
    alone = measure_calibration(malignant, np.full(100, 0.55), np.full(100, "")).bins[0].observed
    theirs = stats.binomtest(90, 100).proportion_ci(0.95, method="wilson")
    assert (alone.ci_low, alone.ci_high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("prob", [[0.5], [0.0, 1.0], [0.3, 0.3, 0.3]])
def test_measure_calibration_few_images_round_trips_json(prob: list[float]) -> None:
    n = len(prob)
    found = measure_calibration(np.arange(n) % 2 == 1, np.array(prob), np.full(n, "x"))
    assert loads(CalibrationResult, dumps(found)) == found
    assert (found.n_images, found.n_cases) == (n, 1)
