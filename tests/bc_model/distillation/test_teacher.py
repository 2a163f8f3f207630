import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bc_model.distillation.teacher import Teacher


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    malignant = np.repeat([False, True, True, False], 5)
    features = rng.normal(size=(20, 4)) * [1, 10, 100, 0.1] + malignant[:, None]
    return features, malignant, np.repeat(["a", "b", "c", "d"], 5)


def test_fit_cases_of_equal_size_is_plain_logistic_regression(images):
    features, malignant, case = images

    teacher = Teacher.fit(features, malignant, case, 0.5)

    scaled = np.tanh((features - features.mean(axis=0)) / features.std(axis=0))
    plain = LogisticRegression(C=0.5, max_iter=3000).fit(scaled, malignant)
    logit = teacher.predict_logit(teacher.normalize(features))
    np.testing.assert_allclose(logit, plain.decision_function(scaled), atol=1e-4)


def test_fit_weights_classes_and_cases_equally(images):
    features, malignant, case = images
    # The first case has four times as many images, and there is a single malignant case.
    chosen = np.concatenate([np.arange(10), np.arange(15, 20), np.tile(np.arange(5), 3)])
    features, malignant, case = features[chosen], malignant[chosen], case[chosen]

    teacher = Teacher.fit(features, malignant, case, 0.5)

    # Each benign case has a quarter of the total weight, and the malignant one has a half.
    weight = np.select([case == "a", case == "d"], [1 / 4 / 20, 1 / 4 / 5], 1 / 2 / 5) * len(case)
    scaled = teacher.normalize(features)
    plain = LogisticRegression(C=0.5, max_iter=3000).fit(scaled, malignant, sample_weight=weight)
    np.testing.assert_allclose(teacher.kernel, plain.coef_[0], atol=1e-3)


def test_normalize_limits_all_features(images):
    features, malignant, case = images
    teacher = Teacher.fit(features, malignant, case, 0.5)

    normalized = teacher.normalize(features * 1e6)

    assert normalized.dtype == np.float32
    assert np.abs(normalized).max() <= 1.0
