import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bc_model.distillation.teacher import Teacher


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


def test_cases_of_a_class_weigh_the_same_and_so_do_the_classes(pictures):
    descriptors, malignant, case = pictures
    # The first case four times as often as the others; of the malignant ones a single case.
    chosen = np.concatenate([np.arange(10), np.arange(15, 20), np.tile(np.arange(5), 3)])
    descriptors, malignant, case = descriptors[chosen], malignant[chosen], case[chosen]

    teacher = Teacher.fit(descriptors, malignant, case, 0.5)

    # By hand: a quarter of all for each benign case, a half for the malignant one.
    weight = np.select([case == "a", case == "d"], [1 / 4 / 20, 1 / 4 / 5], 1 / 2 / 5) * len(case)
    scaled = teacher.squashed(descriptors)
    plain = LogisticRegression(C=0.5, max_iter=3000).fit(scaled, malignant, sample_weight=weight)
    np.testing.assert_allclose(teacher.kernel, plain.coef_[0], atol=1e-3)


def test_no_descriptor_outweighs_the_others(pictures):
    descriptors, malignant, case = pictures
    teacher = Teacher.fit(descriptors, malignant, case, 0.5)

    squashed = teacher.squashed(descriptors * 1e6)

    assert squashed.dtype == np.float32
    assert np.abs(squashed).max() <= 1.0
