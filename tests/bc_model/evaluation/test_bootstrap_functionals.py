"""Figures as functions of the draw: equal to the metric over pictures, with its true derivative."""

import numpy as np
import pytest

from bc_model.evaluation import bootstrap as functionals
from bc_model.evaluation.bootstrap import CaseSample, sum_functional
from bc_model.evaluation.estimates import metric_functional
from bc_model.evaluation.metrics import METRICS, Floats, all_metrics, ratio

N_CASES = 14


def images(*, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    case = rng.integers(0, N_CASES, 200)
    malignant = case % 3 != 0
    prob = np.clip(0.3 * malignant + 0.7 * rng.random(200), 0, 1)
    return case.astype(str), malignant, prob.round(1) if ties else prob


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_a_draw_of_cases_is_a_weight_of_their_images(name: str, ties: bool) -> None:
    case, malignant, prob = images(ties=ties)
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
def test_the_derivative_is_the_slope_of_the_value(name: str, ties: bool) -> None:
    case, malignant, prob = images(ties=ties)
    sample = CaseSample.of(case, malignant)
    functional = metric_functional(name, sample, malignant, prob, 0.5)
    # Counts above zero, so that a step to either side stays a draw.
    counts = np.random.default_rng(0).integers(1, 4, (3, N_CASES)).astype(float)
    _, slopes = functional(counts)
    step = 1e-6
    for k in range(N_CASES):
        aside = step * np.eye(N_CASES)[k]
        measured = (functional(counts + aside)[0] - functional(counts - aside)[0]) / (2 * step)
        assert slopes[:, k] == pytest.approx(measured, abs=1e-8)


def test_many_cut_offs_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    case, malignant, prob = images()
    sample = CaseSample.of(case, malignant)
    draws = sample.draw(200, seed=1)
    whole = metric_functional("average_precision", sample, malignant, prob, 0.5)(draws)
    monkeypatch.setattr(functionals, "_MAX_CUT_OFFS", 40)
    functional = metric_functional("average_precision", sample, malignant, prob, 0.5)
    value, _ = functional(np.ones((1, sample.size)))
    assert value[0] == pytest.approx(
        float(all_metrics(malignant, prob)["average_precision"]), abs=1e-12
    )
    coarse = functional(draws)
    assert np.corrcoef(coarse[0], whole[0])[0, 1] > 0.99
    assert coarse[0].std() == pytest.approx(whole[0].std(), rel=0.05)
    synthetic = draws > 0  # the slopes of the others weigh nothing
    assert np.abs(coarse[1] - whole[1])[synthetic].max() < 0.1 * np.abs(whole[1][synthetic]).max()


def test_a_slope_by_hand() -> None:
    # Two cases with 1 of 2 and 3 of 4 right: (w1 + 3 w2) / (2 w1 + 4 w2) is 4/6 at one each, and
    # its slopes are (1 - 2 * 4/6) / 6 and (3 - 4 * 4/6) / 6.
    def proportion(sums: Floats) -> Floats:
        return ratio(sums[..., 0], sums[..., 1])

    value, slope = sum_functional(np.array([[1.0, 2.0], [3.0, 4.0]]), proportion)(np.ones((1, 2)))
    assert value.tolist() == [pytest.approx(2 / 3)]
    assert slope[0] == pytest.approx([-1 / 18, 1 / 18], abs=1e-15)


def test_an_undefined_draw_is_nan_without_a_warning() -> None:
    case, malignant, prob = images()
    sample = CaseSample.of(case, malignant)
    none = np.zeros((1, sample.size))
    for name in METRICS:
        assert np.isnan(metric_functional(name, sample, malignant, prob, 0.5)(none)[0]), name
