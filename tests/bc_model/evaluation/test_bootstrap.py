"""Bootstrap-t intervals, compared with a loop over repeated rows and with exact values."""

import math

import numpy as np
import pytest

from bc_model.evaluation import bootstrap as bootstrap_module
from bc_model.evaluation.bootstrap import (
    NO_SPREAD,
    TOO_WIDE,
    CaseSample,
    bootstrap_t,
    sum_functional,
    welch_degrees,
)
from bc_model.evaluation.estimates import metric_functional
from bc_model.evaluation.intervals import korn_graubard
from bc_model.evaluation.metrics import Floats, all_metrics, ratio


def make_images(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return case, truth and probability: 7 benign and 9 malignant cases of unequal size."""
    rng = np.random.default_rng(seed)
    size = rng.integers(4, 15, 16)
    case = np.repeat(np.arange(16), size)
    malignant = case >= 7
    effect = rng.normal(0, 0.8, 16)[case]
    prob = 1 / (1 + np.exp(-np.where(malignant, 1.0, -1.0) - effect - rng.normal(0, 1, case.size)))
    return case.astype(str), malignant, prob


def mean_of(values: Floats, sample: CaseSample) -> object:
    columns = np.stack([values, np.ones_like(values)], axis=1)
    return sum_functional(sample.sums(columns), lambda sums: ratio(sums[..., 0], sums[..., 1]))


def bootstrap_by_loop(n_resamples: int) -> tuple[float, float, float]:
    """Return sensitivity and interval by the definitions, one resample of rows at a time."""
    case, malignant, prob = make_images()
    right = prob >= 0.5
    names = np.unique(case[malignant])

    def rates(resampled: list[str]) -> tuple[float, float]:
        groups = [right[(case == name) & malignant] for name in resampled]
        proportion = np.concatenate(groups).mean()
        n = sum(group.size for group in groups)
        lead = [(group.sum() - proportion * group.size) / n for group in groups]
        return proportion, math.sqrt(
            len(resampled) / (len(resampled) - 1) * sum(x * x for x in lead)
        )

    value = rates(list(names))[0]
    left_out = np.array([rates([n for n in names if n != name])[0] for name in names])
    error = math.sqrt((names.size - 1) * left_out.var())
    sample = CaseSample.of(case, malignant)
    t = []
    for row in sample.draw(n_resamples, seed=4)[:, sample.cluster].astype(int):
        resampled = [name for name in names for _ in range(row[(case == name) & malignant][0])]
        proportion, spread = rates(resampled)
        t.append((proportion - value) / spread)
    t.sort()
    # 2.5 % of 400 ordered values are at or below the 10th, 97.5 % at or below the 390th.
    low_t, high_t = t[n_resamples // 40 - 1], t[n_resamples - n_resamples // 40 - 1]
    return value, value - high_t * error, value - low_t * error


def test_bootstrap_t_sensitivity_equals_loop_over_rows() -> None:
    case, malignant, prob = make_images()
    sample = CaseSample.of(case, malignant)
    functional = metric_functional("sensitivity", sample, malignant, prob, 0.5)
    value, interval = bootstrap_t(functional, sample, sample.draw(400, seed=4), bounds=(0.0, 1.0))
    assert (value, interval.low, interval.high) == pytest.approx(bootstrap_by_loop(400), abs=1e-12)
    assert interval.note == ""


def test_bootstrap_t_normal_cases_equals_student_interval() -> None:
    # For means of normal cases, t has Student's distribution with 59 degrees of freedom.
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, 60)
    sample = CaseSample.of(np.arange(60).astype(str), np.ones(60, bool))
    draws = sample.draw(20_000, seed=0)
    value, interval = bootstrap_t(mean_of(values, sample), sample, draws)
    assert value == pytest.approx(values.mean(), abs=1e-12)
    reach = 2.001 * values.std(ddof=1) / math.sqrt(60)
    assert interval.low == pytest.approx(value - reach, abs=0.06)
    assert interval.high == pytest.approx(value + reach, abs=0.06)


def test_bootstrap_t_high_auc_has_longer_lower_tail() -> None:
    case, malignant, prob = make_images(3)
    sample = CaseSample.of(case, malignant)
    functional = metric_functional("roc_auc", sample, malignant, prob, 0.5)
    value, interval = bootstrap_t(functional, sample, sample.draw(2000, seed=0), bounds=(0.0, 1.0))
    assert value > 0.8
    assert value - interval.low > interval.high - value  # type: ignore[operator]


def test_bootstrap_t_end_outside_range_is_exact_end() -> None:
    # One incorrect image in one of twelve cases: a third of the resamples have none.
    case = np.repeat(np.arange(12), 10).astype(str)
    malignant = np.ones(120, bool)
    prob = np.full(120, 0.9)
    prob[0] = 0.1
    sample = CaseSample.of(case, malignant)
    functional = metric_functional("accuracy", sample, malignant, prob, 0.5)
    value, interval = bootstrap_t(functional, sample, sample.draw(1000, seed=0), bounds=(0.0, 1.0))
    # Jackknife values: 1 without the incorrect image, 109/110 without any other case.
    left_out = np.array([1.0] + [109 / 110] * 11)
    exact = korn_graubard(119 / 120, 11 * left_out.var(), 11, n_cases=12)
    assert value == pytest.approx(119 / 120)
    assert (interval.low, interval.high) == pytest.approx(exact, abs=1e-9)
    assert 0.9 < interval.low < value < interval.high < 1.0  # type: ignore[operator]


def test_bootstrap_t_one_bad_case_is_limited_by_exact_interval() -> None:
    # Four of 12 cases have one or two errors, and one has almost only errors.
    n_incorrect = [9, 2, 1, 1, 1] + [0] * 7
    case = np.repeat(np.arange(12), 10).astype(str)
    prob = np.concatenate([[0.1] * k + [0.9] * (10 - k) for k in n_incorrect])
    malignant = np.ones(120, bool)
    sample = CaseSample.of(case, malignant)
    functional = metric_functional("accuracy", sample, malignant, prob, 0.5)
    draws = sample.draw(2000, seed=0)
    value, wild = bootstrap_t(functional, sample, draws, bounds=(0.0, 1.0))
    _, tame = bootstrap_t(functional, sample, draws, bounds=(0.0, 1.0), is_proportion=True)
    variance = 11 * np.var([(120 - 14 - (10 - k)) / 110 for k in n_incorrect])
    outermost = korn_graubard(value, float(variance), 11, n_cases=12, level=0.99)
    assert wild.low < outermost[0]  # type: ignore[operator]
    assert tame.low == pytest.approx(outermost[0], abs=1e-12)
    assert tame.high == wild.high


def test_bootstrap_t_no_spread_returns_reason() -> None:
    case, malignant, _ = make_images()
    sample = CaseSample.of(case, malignant)
    functional = metric_functional("accuracy", sample, malignant, malignant * 1.0, 0.5)
    value, interval = bootstrap_t(functional, sample, sample.draw(100, seed=0))
    assert (value, interval.low, interval.note) == (1.0, None, NO_SPREAD)


def test_bootstrap_t_infinite_range_returns_reason() -> None:
    case = np.repeat(np.arange(6), 4).astype(str)
    values = np.zeros(24)
    values[:4] = 1.0
    sample = CaseSample.of(case, np.ones(24, bool))
    draws = sample.draw(1000, seed=0)
    _, interval = bootstrap_t(mean_of(values, sample), sample, draws, bounds=(0.0, math.inf))
    assert (interval.low, interval.note) == (None, TOO_WIDE)
    _, interval = bootstrap_t(mean_of(values, sample), sample, draws, bounds=(-1.0, 1.0))
    assert interval.high == 1.0
    assert -0.2 < interval.low < 1 / 6  # type: ignore[operator]


def test_bootstrap_t_undefined_resamples_returns_reason() -> None:
    case, malignant, prob = make_images()
    sample = CaseSample.of(case, malignant)

    def partly_undefined(counts: Floats) -> tuple[Floats, Floats]:
        values, slopes = metric_functional("accuracy", sample, malignant, prob, 0.5)(counts)
        return np.where(counts[:, 0] == 2, np.nan, values), slopes

    value, interval = bootstrap_t(partly_undefined, sample, sample.draw(2000, seed=0))
    assert not math.isnan(value)
    assert interval.low is None
    assert interval.note.endswith("undefined in 20 % of the resamples")


def test_bootstrap_t_undefined_metric_has_no_interval() -> None:
    case, malignant, prob = make_images()
    sample = CaseSample.of(case[malignant], malignant[malignant])
    functional = metric_functional(
        "specificity", sample, malignant[malignant], prob[malignant], 0.5
    )
    value, interval = bootstrap_t(functional, sample, sample.draw(100, seed=0))
    assert math.isnan(value)
    assert interval.low is None


def test_welch_degrees_equals_manual_values() -> None:
    # Equal variances of two classes of 5 cases have 4 + 4 degrees of freedom.
    assert welch_degrees(np.array([0.2, 0.2]), np.array([5, 5])) == pytest.approx(8)
    assert welch_degrees(np.array([0.0, 0.2]), np.array([1, 7])) == pytest.approx(6)


def test_bootstrap_t_groups_of_unknown_cases_keep_the_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    malignant = rng.random(1500) < 0.6
    prob = np.clip(0.4 * malignant + 0.6 * rng.random(1500), 0, 1)
    unknown = np.full(1500, "")
    widths = []
    for groups in (200, 10_000):
        monkeypatch.setattr(bootstrap_module, "_MAX_GROUPS", groups)
        sample = CaseSample.of(unknown, malignant)
        assert sample.size == min(2 * groups, 1500)
        functional = metric_functional("accuracy", sample, malignant, prob, 0.5)
        value, interval = bootstrap_t(functional, sample, sample.draw(1000, seed=0))
        assert value == pytest.approx(float(all_metrics(malignant, prob)["accuracy"]))
        widths.append(interval.high - interval.low)  # type: ignore[operator]
    assert widths[0] == pytest.approx(widths[1], rel=0.15)
