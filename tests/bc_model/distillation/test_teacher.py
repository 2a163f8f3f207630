import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bc_model.distillation.features import N_TEACHER_FEATURES
from bc_model.distillation.teacher import (
    FAMILIES,
    LinearTeacher,
    Teacher,
    Whitening,
    mean_logit,
)


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    malignant = np.repeat([False, True, True, False], 5)
    features = rng.normal(size=(20, 4)) * [1, 10, 100, 0.1] + malignant[:, None]
    return features, malignant, np.repeat(["a", "b", "c", "d"], 5)


def test_fit_cases_of_equal_size_is_plain_logistic_regression(images):
    features, malignant, case = images

    teacher = LinearTeacher.fit(features[:, None], malignant, case, 0.5)

    scaled = np.tanh((features - features.mean(axis=0)) / features.std(axis=0))
    plain = LogisticRegression(C=0.5, max_iter=3000).fit(scaled, malignant)
    logit = teacher.predict_logit(teacher.normalize(features))
    expected = plain.decision_function(scaled)
    np.testing.assert_allclose(logit, expected / expected.std(), atol=1e-4)


def test_fit_weights_classes_and_cases_equally(images):
    features, malignant, case = images
    # The first case has four times as many images, and there is a single malignant case.
    chosen = np.concatenate([np.arange(10), np.arange(15, 20), np.tile(np.arange(5), 3)])
    features, malignant, case = features[chosen], malignant[chosen], case[chosen]

    teacher = LinearTeacher.fit(features[:, None], malignant, case, 0.5)

    # Each benign case has a quarter of the total weight, and the malignant one has a half.
    weight = np.select([case == "a", case == "d"], [1 / 4 / 20, 1 / 4 / 5], 1 / 2 / 5) * len(case)
    scaled = teacher.normalize(features)
    plain = LogisticRegression(C=0.5, max_iter=3000).fit(scaled, malignant, sample_weight=weight)
    scale = plain.decision_function(scaled).std()
    np.testing.assert_allclose(teacher.kernel, plain.coef_[0] / scale, atol=1e-3)


def test_fit_the_variants_of_an_image_weigh_as_much_as_the_image(images):
    features, malignant, case = images
    variants = np.stack([features, features + 0.5, features - 0.2], axis=1)

    teacher = LinearTeacher.fit(variants, malignant, case, 0.5)

    flat = variants.reshape(-1, 4)
    scaled = np.tanh((flat - flat.mean(axis=0)) / flat.std(axis=0))
    weight = np.tile([0.5, 0.25, 0.25], 20)
    plain = LogisticRegression(C=0.5, max_iter=3000)
    plain.fit(scaled, np.repeat(malignant, 3), sample_weight=weight)
    scale = plain.decision_function(scaled[::3]).std()
    np.testing.assert_allclose(teacher.kernel, plain.coef_[0] / scale, atol=1e-3)


def test_normalize_limits_all_features(images):
    features, malignant, case = images
    teacher = LinearTeacher.fit(features[:, None], malignant, case, 0.5)

    normalized = teacher.normalize(features * 1e6)

    assert normalized.dtype == np.float32
    assert np.abs(normalized).max() <= 1.0


def test_teacher_members_use_their_own_features(images):
    _, malignant, case = images
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 2, N_TEACHER_FEATURES))
    penalties = (0.1, 1.0, 1.0, 1.0)

    teacher = Teacher.fit(features, malignant, case, penalties)
    logits = teacher.predict_logits(teacher.normalize(features[:, 0]))

    assert logits.shape == (20, 4)
    np.testing.assert_allclose(logits.std(axis=0), 1.0, rtol=1e-4)
    changed = features[:, 0].copy()
    changed[:, FAMILIES["lite0_block10"]] = 0.0
    differs = (teacher.predict_logits(teacher.normalize(changed)) != logits).any(axis=0)
    assert differs.tolist() == [False, False, True, False]
    assert sum(c.stop - c.start for c in FAMILIES.values()) == N_TEACHER_FEATURES


def test_mean_logit_is_weighted():
    logits = np.array([[1.0, 2.0, 3.0, 6.0]])

    assert mean_logit(logits, (2.0, 1.0, 1.0, 1.0)).tolist() == [2.6]


def test_whitening_components_are_those_of_the_largest_variance():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(500, 3)) * [10.0, 3.0, 0.01]
    values = latent @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + 5.0

    components = Whitening.fit(values, 2)(values)

    np.testing.assert_allclose(np.cov(components, rowvar=False), np.eye(2), atol=1e-4)
    correlation = np.corrcoef(components.T, latent.T)[:2, 2:]
    assert np.abs(correlation[0, 0]) > 0.99
    assert np.abs(correlation[1, 1]) > 0.99
