"""Closed-form intervals, compared with SciPy and manual values."""

import numpy as np
import pytest
from scipy import stats

from bc_model.evaluation.intervals import korn_graubard, mean_interval, predictive_values, wilson
from bc_model.utils.measurement import Metric


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 12), (3, 12), (12, 12), (54, 70), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_equals_scipy(k: int, n: int, level: float) -> None:
    theirs = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    ours = wilson(k, n, level=level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0.0 <= ours.low <= k / n <= ours.high <= 1.0  # type: ignore[operator]


def test_wilson_no_case_has_no_interval() -> None:
    assert wilson(0, 0).low is None


@pytest.mark.parametrize(("k", "n"), [(0, 12), (3, 12), (12, 12)])
def test_korn_graubard_independent_observations_equals_clopper_pearson(k: int, n: int) -> None:
    # Infinite degrees of freedom and the variance of n independent observations.
    proportion = k / n
    theirs = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    ours = korn_graubard(proportion, proportion * (1 - proportion) / n, 1e9, n_cases=n)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_korn_graubard_clusters_and_few_degrees_are_wider() -> None:
    plain = korn_graubard(0.8, 0.8 * 0.2 / 100, 1e9, n_cases=100)
    clustered = korn_graubard(0.8, 4 * 0.8 * 0.2 / 100, 1e9, n_cases=100)
    uncertain = korn_graubard(0.8, 4 * 0.8 * 0.2 / 100, 8, n_cases=100)
    for narrow, wide in ((plain, clustered), (clustered, uncertain)):
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


SENSITIVITY = Metric(0.9, 0.8, 0.96, 60, 12, "m")
SPECIFICITY = Metric(0.7, 0.5, 0.85, 40, 8, "m")


def test_mean_interval_equals_manual_values() -> None:
    # The distances to the ends are 0.1 and 0.2, and 0.06 and 0.15.
    interval = mean_interval(SENSITIVITY, SPECIFICITY)
    assert interval.low == pytest.approx(0.8 - (0.1**2 + 0.2**2) ** 0.5 / 2, abs=1e-12)
    assert interval.high == pytest.approx(0.8 + (0.06**2 + 0.15**2) ** 0.5 / 2, abs=1e-12)
    weighed = mean_interval(SENSITIVITY, SPECIFICITY, weight=0.75)
    assert weighed.low == pytest.approx(0.85 - np.hypot(0.75 * 0.1, 0.25 * 0.2), abs=1e-12)
    assert mean_interval(SENSITIVITY, Metric(0.7, None, None, 1, 1, "m", "why")).note == "why"


def test_predictive_values_equal_manual_values() -> None:
    # 100 of 1000 images are malignant: 90 true and 270 false positives, 630 true and 10 false
    # negatives.
    found = predictive_values(SENSITIVITY, SPECIFICITY, 0.1)
    assert found["positive"].value == pytest.approx(90 / 360, abs=1e-12)
    assert found["negative"].value == pytest.approx(630 / 640, abs=1e-12)
    assert (found["positive"].n_images, found["positive"].n_cases) == (100, 20)
    for metric in found.values():
        assert metric.ci_low < metric.value < metric.ci_high  # type: ignore[operator]


def test_predictive_values_interval_equals_simulation() -> None:
    # Rates that vary on the log scale according to their intervals give the same interval.
    rng = np.random.default_rng(0)
    spread = 0.03
    draws = [np.log(rate) + spread * rng.standard_normal(400_000) for rate in (0.9, 0.3)]
    odds = np.log(0.1 / 0.9) + draws[0] - draws[1]
    low, high = np.quantile(1 / (1 + np.exp(-odds)), [0.025, 0.975])
    reach = np.exp(1.959964 * spread)
    rates = Metric(0.9, 0.9 / reach, 0.9 * reach, 60, 12, "m")
    others = Metric(0.7, 1 - 0.3 * reach, 1 - 0.3 / reach, 40, 8, "m")
    found = predictive_values(rates, others, 0.1)["positive"]
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "value", "low", "high"),
    [
        # Without false positives, every positive is correct; the specificity is at least 0.5.
        ((0.9, 0.8, 0.96), (1.0, 0.5, 1.0), 1.0, 0.1 * 0.8 / (0.1 * 0.8 + 0.9 * 0.5), 1.0),
        # Without true positives, no positive is correct.
        ((0.0, 0.0, 0.2), (0.5, 0.4, 0.6), 0.0, 0.0, 0.1 * 0.2 / (0.1 * 0.2 + 0.9 * 0.4)),
    ],
)
def test_predictive_values_rate_of_zero_or_one_has_interval(
    sensitivity: tuple[float, float, float],
    specificity: tuple[float, float, float],
    value: float,
    low: float,
    high: float,
) -> None:
    rates = [
        Metric(rate, lower, upper, 10, 5, "m") for rate, lower, upper in (sensitivity, specificity)
    ]
    found = predictive_values(*rates, 0.1)["positive"]
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(
        (value, low, high), abs=1e-12
    )


def test_predictive_values_undefined_returns_reason() -> None:
    undefined = Metric(None, None, None, 0, 0, "m", "no malignant images")
    assert predictive_values(undefined, SPECIFICITY, 0.1)["positive"].note == "no malignant images"
    nothing = Metric(0.0, 0.0, 0.1, 9, 3, "m")
    everything = Metric(1.0, 0.9, 1.0, 9, 3, "m")
    assert predictive_values(nothing, everything, 0.1)["positive"].value is None
    open_end = Metric(0.9, None, None, 9, 3, "m", "too few")
    assert predictive_values(open_end, SPECIFICITY, 0.1)["positive"].note == "too few"
    for prevalence in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="prevalence"):
            predictive_values(SENSITIVITY, SPECIFICITY, prevalence)
