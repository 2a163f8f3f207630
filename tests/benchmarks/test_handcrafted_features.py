"""Cross-validation of the baseline: it uses class effects and no case effects."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.handcrafted_features import cross_validate, cross_validate_teacher

both = pytest.mark.parametrize("evaluate", [cross_validate, cross_validate_teacher])


def sample_cases(rng: np.random.Generator, *, class_effect: float, case_effect: float) -> tuple:
    """Return 40 cases of 6 images with ten features, shifted by class and by case."""
    malignant = np.arange(40) % 2 == 1
    features = case_effect * np.repeat(rng.normal(size=(40, 10)), 6, axis=0) + rng.normal(
        size=(240, 10)
    )
    features += class_effect * np.repeat(malignant, 6)[:, None]
    return features, np.repeat(malignant, 6), np.repeat(np.arange(40).astype(str), 6)


@both
def test_cross_validate_class_effect_is_found(evaluate: Callable) -> None:
    features, malignant, case = sample_cases(
        np.random.default_rng(0), class_effect=1.0, case_effect=0.0
    )
    assert roc_auc_score(malignant, evaluate(features, malignant, case, seed=0)) > 0.95


@both
def test_cross_validate_case_effect_alone_is_not_used(evaluate: Callable) -> None:
    # With images of the same case in training, every prediction would be correct.
    rng = np.random.default_rng(1)
    aucs = []
    for seed in range(5):
        features, malignant, case = sample_cases(rng, class_effect=0.0, case_effect=5.0)
        aucs.append(roc_auc_score(malignant, evaluate(features, malignant, case, seed=seed)))
    assert 0.3 < np.mean(aucs) < 0.65
