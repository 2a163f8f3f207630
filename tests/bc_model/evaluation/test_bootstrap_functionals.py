"""Functionals: equal to the metric of repeated images, with the correct derivative."""

import numpy as np
import pytest

from bc_model.evaluation import bootstrap as bootstrap_module
from bc_model.evaluation.bootstrap import CaseSample, sum_functional
from bc_model.evaluation.estimates import metric_functional
from bc_model.evaluation.metrics import METRICS, Floats, all_metrics, ratio

N_CASES = 14


def make_images(*, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    case = rng.integers(0, N_CASES, 200)
    malignant = case % 3 != 0
    prob = np.clip(0.3 * malignant + 0.7 * rng.random(200), 0, 1)
    return case.astype(str), malignant, prob.round(1) if ties else prob


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_metric_functional_resample_equals_metric_of_repeated_images(name: str, ties: bool) -> None:
    case, malignant, prob = make_images(ties=ties)
    sample = CaseSample.of(case, malignant)
    draws = sample.draw(50, seed=1)
    values, _ = metric_functional(name, sample, malignant, prob, 0.5)(draws)
    counts = draws[:, sample.cluster].astype(int)
    by_image = [
        float(all_metrics(np.repeat(malignant, row), np.repeat(prob, row))[name]) for row in counts
    ]
    assert values == pytest.approx(by_image, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_metric_functional_slopes_equal_finite_differences(name: str, ties: bool) -> None:
    case, malignant, prob = make_images(ties=ties)
    sample = CaseSample.of(case, malignant)
    functional = metric_functional(name, sample, malignant, prob, 0.5)
    # Counts above zero allow a step in both directions.
    counts = np.random.default_rng(0).integers(1, 4, (3, N_CASES)).astype(float)
    _, slopes = functional(counts)
    step = 1e-6
    for k in range(N_CASES):
        offset = step * np.eye(N_CASES)[k]
        measured = (functional(counts + offset)[0] - functional(counts - offset)[0]) / (2 * step)
        assert slopes[:, k] == pytest.approx(measured, abs=1e-8)


def test_average_precision_functional_many_thresholds_are_merged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case, malignant, prob = make_images()
    sample = CaseSample.of(case, malignant)
    draws = sample.draw(200, seed=1)
    exact = metric_functional("average_precision", sample, malignant, prob, 0.5)(draws)
    monkeypatch.setattr(bootstrap_module, "_MAX_THRESHOLDS", 40)
    functional = metric_functional("average_precision", sample, malignant, prob, 0.5)
    value, _ = functional(np.ones((1, sample.size)))
    assert value[0] == pytest.approx(
        float(all_metrics(malignant, prob)["average_precision"]), abs=1e-12
    )
    coarse = functional(draws)
    assert np.corrcoef(coarse[0], exact[0])[0, 1] > 0.99
    assert coarse[0].std() == pytest.approx(exact[0].std(), rel=0.05)
    resampled = draws > 0  # The slopes of the other cases have no effect.
    assert np.abs(coarse[1] - exact[1])[resampled].max() < 0.1 * np.abs(exact[1][resampled]).max()


def test_sum_functional_proportion_has_manual_slope() -> None:
    # Two cases have 1 of 2 and 3 of 4 correct images: (w1 + 3 w2) / (2 w1 + 4 w2) is 4/6 at
    # w1 = w2 = 1, and its slopes are (1 - 2 * 4/6) / 6 and (3 - 4 * 4/6) / 6.
    def proportion(sums: Floats) -> Floats:
        return ratio(sums[..., 0], sums[..., 1])

    value, slope = sum_functional(np.array([[1.0, 2.0], [3.0, 4.0]]), proportion)(np.ones((1, 2)))
    assert value.tolist() == [pytest.approx(2 / 3)]
    assert slope[0] == pytest.approx([-1 / 18, 1 / 18], abs=1e-15)


def test_metric_functional_empty_resample_is_nan() -> None:
    case, malignant, prob = make_images()
    sample = CaseSample.of(case, malignant)
    none = np.zeros((1, sample.size))
    for name in METRICS:
        assert np.isnan(metric_functional(name, sample, malignant, prob, 0.5)(none)[0]), name
