"""The baseline's cross-validation: what a case gives away is not learned, what a class shows is."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.handmade import cross_validate, cross_validate_teacher

both = pytest.mark.parametrize("judged", [cross_validate, cross_validate_teacher])


def world(rng: np.random.Generator, *, of_class: float, of_case: float) -> tuple:
    """Draw 40 cases of 6 pictures: ten numbers each, moved by class and by case."""
    malignant = np.arange(40) % 2 == 1
    table = of_case * np.repeat(rng.normal(size=(40, 10)), 6, axis=0) + rng.normal(size=(240, 10))
    table += of_class * np.repeat(malignant, 6)[:, None]
    return table, np.repeat(malignant, 6), np.repeat(np.arange(40).astype(str), 6)


@both
def test_what_the_class_shows_is_learned(judged: Callable) -> None:
    table, malignant, case = world(np.random.default_rng(0), of_class=1.0, of_case=0.0)
    assert roc_auc_score(malignant, judged(table, malignant, case, seed=0)) > 0.95


@both
def test_a_case_alone_gives_nothing_away(judged: Callable) -> None:
    # Each case is unlike all others: known from its own pictures, every one would be called right.
    rng = np.random.default_rng(1)
    found = []
    for seed in range(5):
        table, malignant, case = world(rng, of_class=0.0, of_case=5.0)
        found.append(roc_auc_score(malignant, judged(table, malignant, case, seed=seed)))
    assert 0.3 < np.mean(found) < 0.65
