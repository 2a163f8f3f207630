"""Resampling of entire cases within each class."""

from typing import Any

import numpy as np
import pytest

from bc_model.evaluation import bootstrap as bootstrap_module
from bc_model.evaluation.bootstrap import CaseSample, case_clusters
from bc_model.evaluation.metrics import Floats

CASE = np.array(["a", "b", "a", "c", "c", "d", "e", "e", "e"])
CLASS = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1], bool)


def image_counts(case: Any, malignant: Any, *, n_resamples: int, seed: int = 0) -> Floats:
    """Return how often each image counts in each resample."""
    sample = CaseSample.of(np.asarray(case, object), np.asarray(malignant, bool))
    return sample.draw(n_resamples, seed)[:, sample.cluster]


def test_case_clusters_mixed_and_unknown_cases_are_split() -> None:
    # Case x has both classes and is two clusters; each image of an unknown case is one.
    cluster, stratum = case_clusters(["x", "x", "", "y", ""], [0, 1, 1, 1, 0])
    assert len(set(cluster.tolist())) == 5
    assert np.bincount(stratum).tolist() == [2, 3]
    assert stratum[cluster].tolist() == [0, 1, 1, 1, 0]


def test_case_clusters_different_lengths_raises() -> None:
    with pytest.raises(ValueError, match="got 2 for 3 images"):
        case_clusters(["a", "b", "c"], [0, 1])


def test_draw_images_of_a_case_have_one_count() -> None:
    weights = image_counts(CASE, CLASS, n_resamples=300)
    assert weights.shape == (300, 9)
    for name in set(CASE):
        of_case = weights[:, name == CASE]
        assert (of_case == of_case[:, :1]).all()


def test_draw_keeps_number_of_cases_per_class() -> None:
    weights = image_counts(CASE, CLASS, n_resamples=300)
    first_of_case = [0, 1, 3, 5, 6]
    cases = weights[:, first_of_case]
    assert (cases[:, :2].sum(axis=1) == 2).all()
    assert (cases[:, 2:].sum(axis=1) == 3).all()


def test_draw_has_expected_frequencies() -> None:
    # Each of three cases is expected once and is absent with the probability (2/3)^3.
    weights = image_counts(["a", "b", "c"], [0, 0, 0], n_resamples=20_000)
    assert np.allclose(weights.mean(axis=0), 1, atol=0.03)
    assert np.allclose((weights == 0).mean(axis=0), (2 / 3) ** 3, atol=0.015)


def test_draw_case_of_both_classes_is_two_clusters() -> None:
    weights = image_counts(["x", "x", "y", "z"], [0, 1, 0, 1], n_resamples=200)
    assert (weights[:, 0] != weights[:, 1]).any()
    assert (weights[:, 0] + weights[:, 2] == 2).all()


def test_draw_unknown_cases_are_single_images() -> None:
    weights = image_counts(["", None, ""], [0, 0, 0], n_resamples=200)
    assert (weights.sum(axis=1) == 3).all()
    assert (weights[:, 0] != weights[:, 1]).any()


def test_draw_depends_on_seed() -> None:
    first = image_counts(CASE, CLASS, n_resamples=50, seed=3)
    assert (first == image_counts(CASE, CLASS, n_resamples=50, seed=3)).all()
    assert (first != image_counts(CASE, CLASS, n_resamples=50, seed=4)).any()


def test_draw_ignores_order_of_images() -> None:
    order = np.random.default_rng(0).permutation(CASE.size)
    direct = image_counts(CASE, CLASS, n_resamples=50)
    assert (image_counts(CASE[order], CLASS[order], n_resamples=50) == direct[:, order]).all()


def test_sums_are_over_images_of_a_cluster() -> None:
    sample = CaseSample.of(CASE, CLASS)
    sums = sample.sums(np.stack([np.ones(9), np.arange(9.0)], axis=1))
    assert sums.tolist() == [[2, 2], [1, 1], [2, 7], [1, 5], [3, 21]]


def test_case_sample_many_unknown_cases_form_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    malignant = np.arange(90) % 3 == 0
    monkeypatch.setattr(bootstrap_module, "_MAX_GROUPS", 40)
    sample = CaseSample.of(np.full(90, ""), malignant)
    # 60 benign images form 40 groups of one or two; 30 malignant images stay single.
    assert np.bincount(sample.stratum).tolist() == [40, 30]
    assert sorted(set(np.bincount(sample.cluster))) == [1, 2]
    assert (sample.stratum[sample.cluster] == malignant).all()
