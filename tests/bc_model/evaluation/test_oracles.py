"""The DeLong oracle, compared with its definition, with and without cases."""

import math

import numpy as np
import pytest

from bc_model.evaluation.bootstrap import CaseSample, bootstrap_t
from bc_model.evaluation.estimates import metric_functional
from bc_model.evaluation.metrics import all_metrics
from tests.bc_model.evaluation.oracles import delong


def make_images(n: int = 80, n_cases: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    number = rng.integers(0, n_cases, n)
    malignant = number % 3 != 0
    prob = np.clip(0.3 * malignant + 0.7 * rng.random(n), 0, 1).round(2)
    return number.astype(str), malignant, prob


def by_definition(malignant: np.ndarray, prob: np.ndarray) -> tuple[float, float]:
    """Return area and error by the definition: placement values of every pair."""
    pairs = [
        [1.0 if p > q else 0.5 if p == q else 0.0 for q in prob[~malignant]]
        for p in prob[malignant]
    ]
    malignant_values = [sum(row) / len(row) for row in pairs]
    benign_values = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    area = sum(malignant_values) / len(malignant_values)
    variance = sum(
        sum((v - area) ** 2 for v in values) / (len(values) - 1) / len(values)
        for values in (malignant_values, benign_values)
    )
    return area, math.sqrt(variance)


def test_delong_independent_images_equals_definition() -> None:
    _, malignant, prob = make_images()
    alone = CaseSample.of(np.full(malignant.size, ""), malignant)
    area, error, interval = delong(malignant, prob, alone)
    assert (area, error) == pytest.approx(by_definition(malignant, prob), abs=1e-12)
    assert area == pytest.approx(float(all_metrics(malignant, prob)["roc_auc"]), abs=1e-12)
    center, reach = math.log(area / (1 - area)), 1.959963984540054 * error / (area * (1 - area))
    ends = [1 / (1 + math.exp(-(center + side * reach))) for side in (-1, 1)]
    assert [interval.low, interval.high] == pytest.approx(ends, abs=1e-12)


def test_delong_repeated_images_of_a_case_keep_the_error() -> None:
    # In Obuchowski's form, a case of four equal images is one observation.
    _, malignant, prob = make_images(40)
    names = np.arange(40).astype(str)
    once = delong(malignant, prob, CaseSample.of(names, malignant))
    four = [np.repeat(values, 4) for values in (malignant, prob, names)]
    repeated = delong(four[0], four[1], CaseSample.of(four[2], four[0]))
    assert repeated[:2] == pytest.approx(once[:2], abs=1e-12)
    naive = delong(four[0], four[1], CaseSample.of(np.full(160, ""), four[0]))
    assert naive[1] < 0.6 * once[1]


def test_bootstrap_t_roc_auc_agrees_with_delong() -> None:
    case, malignant, prob = make_images(2000, 200)
    sample = CaseSample.of(case, malignant)
    _, _, closed = delong(malignant, prob, sample)
    functional = metric_functional("roc_auc", sample, malignant, prob, 0.5)
    _, bootstrap = bootstrap_t(functional, sample, sample.draw(2000, seed=0), bounds=(0.0, 1.0))
    assert (closed.low, closed.high) == pytest.approx((bootstrap.low, bootstrap.high), abs=0.003)


def test_delong_one_case_or_perfect_area_has_no_interval() -> None:
    malignant = np.array([False, False, True, True])
    names = np.array(["a", "b", "c", "c"])
    one_case = delong(malignant, np.array([0.1, 0.6, 0.5, 0.9]), CaseSample.of(names, malignant))
    assert math.isnan(one_case[1])
    assert one_case[2].note == "a class has only one case"
    alone = CaseSample.of(np.array(["a", "b", "c", "d"]), malignant)
    perfect = delong(malignant, np.array([0.1, 0.2, 0.5, 0.9]), alone)
    assert (perfect[0], perfect[2].low) == (1.0, None)
