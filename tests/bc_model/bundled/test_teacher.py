import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bc_model.bundled.teacher import Teacher


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    malignant = np.repeat([False, True, True, False], 5)
    descriptors = rng.normal(size=(20, 4)) * [1, 10, 100, 0.1] + malignant[:, None]
    return descriptors, malignant, np.repeat(["a", "b", "c", "d"], 5)


def test_with_cases_of_equal_size_it_is_plain_logistic_regression(pictures):
    descriptors, malignant, case = pictures

    teacher = Teacher.fit(descriptors, malignant, case, 0.5)

    scaled = np.tanh((descriptors - descriptors.mean(axis=0)) / descriptors.std(axis=0))
    plain = LogisticRegression(C=0.5, max_iter=3000).fit(scaled, malignant)
    logit = teacher.logit(teacher.squashed(descriptors))
    np.testing.assert_allclose(logit, plain.decision_function(scaled), atol=1e-4)


def test_a_case_weighs_the_same_however_many_pictures_it_has(pictures):
    descriptors, malignant, case = pictures
    more = np.concatenate([np.arange(20), np.tile(np.arange(5), 3)])  # the first case four times

    once = Teacher.fit(descriptors, malignant, case, 0.5)
    often = Teacher.fit(descriptors[more], malignant[more], case[more], 0.5)

    # The scale of the descriptors follows the pictures, so the models are held side by side by it.
    assert np.corrcoef(
        once.logit(once.squashed(descriptors)), often.logit(often.squashed(descriptors))
    )[0, 1] == pytest.approx(1.0, abs=0.02)


def test_no_descriptor_outweighs_the_others(pictures):
    descriptors, malignant, case = pictures
    teacher = Teacher.fit(descriptors, malignant, case, 0.5)

    squashed = teacher.squashed(descriptors * 1e6)

    assert squashed.dtype == np.float32
    assert np.abs(squashed).max() <= 1.0
