"""Selective prediction: manual examples, brute force, cross-fitting, and coverage by simulation."""

import math

import numpy as np
import pandas as pd
import pytest

from bc_model.checks import Check
from bc_model.errors import ConfigError, DataError
from bc_model.evaluation.estimates import estimate_mean
from bc_model.evaluation.predictions import check_predictions, read_predictions
from bc_model.evaluation.selective import (
    OUT_OF_FOLD_IMAGES,
    fit_conformal,
    fit_uncertain_band,
    measure_band,
    risk_coverage,
    summarize_selective,
)
from bc_model.inference.bundle import bundled_model_dir, open_bundle
from bc_model.inference.model_card import ConformalThresholds

FAST = {"n_resamples": 50}

# Case a has two images, so each has half the weight of the only image of the other cases.
MALIGNANT = np.array([True, True, True, False, False])
PROB = np.array([0.95, 0.3, 0.6, 0.2, 0.1])
CASE = np.array(["a", "a", "b", "c", "d"])


def simulate(n_cases: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return class, probability and case of images whose cases differ in size and difficulty."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, n_cases)
    case = np.repeat(np.arange(n_cases), sizes)
    malignant = (np.arange(n_cases) % 2 == 0)[case]
    margin = np.where(malignant, 1.0, -1.0) + rng.normal(0, 1.0, n_cases)[case]
    margin += rng.normal(0, 0.7, case.size)
    return malignant, 1 / (1 + np.exp(-margin)), case.astype(str)


def brute_force(malignant: np.ndarray, prob: np.ndarray, case: np.ndarray, target: float) -> float:
    """Return the half width between the last answered and the first uncertain image."""
    distance = np.abs(np.log(prob / (1 - prob)))
    best = math.inf
    ends = sorted(set(distance), reverse=True)
    for k, end in enumerate(ends):
        errors = covered = 0.0
        for name in set(case):
            own = case == name
            answered = own & (distance >= end)
            covered += answered.sum() / own.sum()
            errors += (answered & ((prob >= 0.5) != malignant)).sum() / own.sum()
        if errors / covered <= target:
            best = (end + ends[k + 1]) / 2 if k + 1 < len(ends) else 0.0
    return best


def test_risk_coverage_equals_manual_values() -> None:
    curve = risk_coverage(MALIGNANT, PROB, CASE, **FAST)
    # The distances from 0.5 are in the order 0.95 (a), 0.1 (d), 0.2 (c), 0.3 (a), 0.6 (b).
    assert [point.coverage for point in curve] == pytest.approx([0.125, 0.375, 0.625, 0.75, 1.0])
    assert [point.risk for point in curve] == pytest.approx([0, 0, 0, 0.125 / 0.75, 0.125])
    assert [point.n_images for point in curve] == [1, 2, 3, 4, 5]
    assert [point.n_cases for point in curve] == [1, 2, 3, 3, 4]
    assert curve[-1].half_width == 0.0
    # Only one malignant case is answered, so the spread between cases is unknown.
    assert curve[0].ci_low is None


def test_risk_coverage_keeps_at_most_the_given_points_and_the_last_one() -> None:
    malignant, prob, case = simulate(60, 1)
    full = risk_coverage(malignant, prob, case, max_points=1000, **FAST)
    few = risk_coverage(malignant, prob, case, max_points=10, **FAST)
    assert len(few) == 10
    assert {point.half_width for point in few} <= {point.half_width for point in full}
    assert few[-1] == full[-1]
    assert few[-1].coverage == 1.0


def test_interval_of_cases_of_equal_size_is_that_of_the_error_rate() -> None:
    rng = np.random.default_rng(3)
    case = np.repeat(np.arange(30), 4).astype(str)
    malignant = np.arange(120) < 60
    prob = np.clip(np.where(malignant, 0.7, 0.3) + rng.normal(0, 0.25, 120), 0.01, 0.99)
    last = risk_coverage(malignant, prob, case, n_resamples=400)[-1]
    errors = (prob >= 0.5) != malignant
    expected = estimate_mean(errors, case, malignant, is_proportion=True, n_resamples=400)
    assert last.risk == pytest.approx(expected.value)
    assert (last.ci_low, last.ci_high) == pytest.approx((expected.ci_low, expected.ci_high))


def test_interval_with_one_error_is_not_shorter_than_without_any() -> None:
    case = np.repeat(np.arange(30), 10).astype(str)
    malignant = np.arange(300) < 150
    prob = np.where(malignant, 0.9, 0.1)
    none = risk_coverage(malignant, prob, case)[-1]
    prob[0] = 0.2
    one = risk_coverage(malignant, prob, case)[-1]
    assert one.risk == pytest.approx(1 / 300)
    # Clopper and Pearson: without an error in 30 cases, 1 - 0.025 ** (1 / 30).
    assert none.ci_high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert one.ci_high is not None
    assert one.ci_high >= 1 - 0.025 ** (1 / 30) - 1e-12


@pytest.mark.parametrize("target", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("seed", [0, 1])
def test_fit_uncertain_band_equals_brute_force(seed: int, target: float) -> None:
    malignant, prob, case = simulate(24, seed)
    half_width = brute_force(malignant, prob, case, target)
    band = fit_uncertain_band(malignant, prob, case, target_risk=target, **FAST)
    if math.isinf(half_width):
        assert band is None
        return
    assert band is not None
    assert np.log(band.high / (1 - band.high)) == pytest.approx(half_width)
    assert band.low == pytest.approx(1 - band.high)
    assert band.risk.value is not None
    assert band.risk.value <= target


def test_cross_fitted_values_are_from_ranges_without_the_measured_case() -> None:
    malignant, prob, case = simulate(20, 5)
    distance = np.abs(np.log(prob / (1 - prob)))
    answered = np.zeros(case.size, bool)
    for name in set(case):
        own = case == name
        width = brute_force(malignant[~own], prob[~own], case[~own], 0.1)
        answered[own] = distance[own] >= width
    weight = np.array([1 / (case == name).sum() for name in case])
    errors = (prob >= 0.5) != malignant
    band = fit_uncertain_band(malignant, prob, case, target_risk=0.1, **FAST)
    assert band is not None
    assert band.cross_fitted_coverage.value == pytest.approx((weight * answered).sum() / 20)
    assert band.cross_fitted_risk.value == pytest.approx(
        (weight * answered * errors).sum() / (weight * answered).sum()
    )
    by_fold = fit_uncertain_band(
        malignant, prob, case, target_risk=0.1, fold=case.astype(int), **FAST
    )
    assert by_fold == band


def test_fit_uncertain_band_is_symmetric_in_logits_around_the_threshold() -> None:
    malignant, prob, case = simulate(40, 2)
    band = fit_uncertain_band(malignant, prob, case, threshold=0.3, target_risk=0.15, **FAST)
    assert band is not None
    low, center, high = (math.log(p / (1 - p)) for p in (band.low, 0.3, band.high))
    assert high - center == pytest.approx(center - low)
    table = pd.DataFrame(
        {"case": case, "prob_malignant": prob, "class": np.where(malignant, "malignant", "benign")}
    )
    measured = measure_band(table, (band.low, band.high), threshold=0.3, **FAST)
    assert measured == (band.coverage, band.risk)


def test_fit_uncertain_band_without_errors_is_empty_and_with_errors_only_is_none() -> None:
    perfect = fit_uncertain_band(MALIGNANT, np.where(MALIGNANT, 0.9, 0.1), CASE, **FAST)
    assert perfect is not None
    assert (perfect.low, perfect.high, perfect.coverage.value) == (0.5, 0.5, 1.0)
    assert fit_uncertain_band(~MALIGNANT, np.where(MALIGNANT, 0.9, 0.1), CASE, **FAST) is None


def test_invalid_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 < target < 1, got 0"):
        fit_uncertain_band(MALIGNANT, PROB, CASE, target_risk=0)
    with pytest.raises(ConfigError, match="0 < alpha < 1, got 1"):
        fit_conformal(MALIGNANT, PROB, CASE, alpha=1)
    with pytest.raises(DataError, match="got 5, 4 and 5 values"):
        risk_coverage(MALIGNANT, PROB[:4], CASE)
    with pytest.raises(DataError, match="at least one image"):
        risk_coverage([], [], [])


def test_fit_conformal_with_single_images_is_the_usual_order_statistic() -> None:
    rng = np.random.default_rng(0)
    malignant = np.arange(90) < 50
    prob = rng.random(90)
    found = fit_conformal(malignant, prob, np.arange(90).astype(str), alpha=0.1)
    assert isinstance(found, ConformalThresholds)
    # ceil((n + 1) (1 - alpha)): the 46th of 50 scores, and the 37th of 40.
    assert found.min_prob_malignant == pytest.approx(1 - np.sort(1 - prob[malignant])[45])
    assert found.max_prob_benign == pytest.approx(np.sort(prob[~malignant])[36])


def test_fit_conformal_covers_new_cases_of_each_class_in_simulations() -> None:
    misses: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(300):
        malignant, prob, case = simulate(100, seed)
        fitted = np.char.str_len(case) > 0
        new = case.astype(int) >= 50
        fitted &= ~new
        found = fit_conformal(malignant[fitted], prob[fitted], case[fitted], alpha=0.1)
        assert isinstance(found, ConformalThresholds)
        is_missed = np.where(
            malignant, prob < found.min_prob_malignant, prob > found.max_prob_benign
        )
        for name in np.unique(case[new]):
            own = case == name
            misses[bool(malignant[own][0])].append(float(is_missed[own].mean()))
    for values in misses.values():
        # 7,500 new cases in 300 fits: the standard error is below 0.005.
        assert 0.05 < np.mean(values) < 0.115


@pytest.mark.parametrize(("n_benign", "alpha", "min_cases"), [(18, 0.05, 19), (8, 0.1, 9)])
def test_fit_conformal_with_few_cases_is_a_check(
    n_benign: int, alpha: float, min_cases: int
) -> None:
    malignant = np.arange(n_benign + 30) >= n_benign
    prob = np.where(malignant, 0.9, 0.1)
    case = np.arange(malignant.size).astype(str)
    check = fit_conformal(malignant, prob, case, alpha=alpha)
    assert isinstance(check, Check)
    assert check.code == "BC190"
    assert check.params == {
        "n_cases": n_benign, "class_name": "benign", "alpha": alpha, "min_cases": min_cases,
    }  # fmt: skip
    enough = np.arange(min_cases + 30) >= min_cases
    names = np.arange(enough.size).astype(str)
    fitted = fit_conformal(enough, np.where(enough, 0.9, 0.1), names, alpha=alpha)
    assert isinstance(fitted, ConformalThresholds)


def table_of(n_cases: int) -> pd.DataFrame:
    malignant, prob, case = simulate(n_cases, 9)
    return check_predictions(
        pd.DataFrame(
            {
                "path": [f"{k}.png" for k in range(case.size)], "sha256": "", "case": case,
                "class": np.where(malignant, "malignant", "benign"), "magnification": 200,
                "prob_malignant": prob,
            }
        )
    )  # fmt: skip


def test_summarize_selective_needs_ten_cases_and_both_classes() -> None:
    options = {"images": "validation images", "threshold": 0.5, **FAST}
    assert summarize_selective(table_of(9), **options) is None
    table = table_of(30)
    assert summarize_selective(table[table["class"] == "benign"], **options) is None
    found = summarize_selective(table, **options)
    assert found is not None
    assert found.n_cases == 30
    assert found.band is not None
    assert [check.code for check in found.checks] == ["BC190"]
    inverted = table.assign(prob_malignant=1 - table["prob_malignant"])
    missing = summarize_selective(inverted, **options)
    assert missing is not None
    assert missing.band is None
    assert [check.code for check in missing.checks] == ["BC193", "BC190"]


def test_bundled_model_card_contains_the_range_of_its_cross_validation() -> None:
    bundle = open_bundle(bundled_model_dir("bundled"))
    stored = bundle.card.metrics.selective
    assert stored is not None
    predictions = read_predictions(bundle.file("cross_validation.csv"))
    computed = summarize_selective(predictions, images=OUT_OF_FOLD_IMAGES, threshold=0.5)
    assert computed is not None
    assert computed.band == stored.band
    assert computed.checks == stored.checks
    assert [p.risk for p in computed.curve] == pytest.approx([p.risk for p in stored.curve])
    assert bundle.uncertain_band == pytest.approx((0.1454, 0.8546), abs=1e-4)
