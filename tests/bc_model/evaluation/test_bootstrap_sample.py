"""The draw of whole cases within each class."""

from typing import Any

import numpy as np
import pytest

from bc_model.evaluation import bootstrap as sample_module
from bc_model.evaluation.bootstrap import CaseSample, case_clusters
from bc_model.evaluation.metrics import Floats

CASE = np.array(["a", "b", "a", "c", "c", "d", "e", "e", "e"])
CLASS = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1], bool)


def weights_of(case: Any, malignant: Any, *, n_resamples: int, seed: int = 0) -> Floats:
    """Return how often each picture counts in each resample."""
    sample = CaseSample.of(np.asarray(case, object), np.asarray(malignant, bool))
    return sample.draw(n_resamples, seed)[:, sample.cluster]


def test_clusters_by_hand() -> None:
    # Case x has both classes: two clusters. The two unknown pictures: one cluster each.
    cluster, stratum, n_unknown = case_clusters(["x", "x", "", "y", ""], [0, 1, 1, 1, 0])
    assert len(set(cluster.tolist())) == 5
    assert np.bincount(stratum).tolist() == [2, 3]
    assert stratum[cluster].tolist() == [0, 1, 1, 1, 0]
    assert n_unknown == 2


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="3 pictures but stratum has 2"):
        case_clusters(["a", "b", "c"], [0, 1])


def test_a_case_is_drawn_whole() -> None:
    weights = weights_of(CASE, CLASS, n_resamples=300)
    assert weights.shape == (300, 9)
    for name in set(CASE):
        of_case = weights[:, name == CASE]
        assert (of_case == of_case[:, :1]).all()


def test_each_class_keeps_its_number_of_cases() -> None:
    weights = weights_of(CASE, CLASS, n_resamples=300)
    first_of_case = [0, 1, 3, 5, 6]
    cases = weights[:, first_of_case]
    assert (cases[:, :2].sum(axis=1) == 2).all()
    assert (cases[:, 2:].sum(axis=1) == 3).all()


def test_draws_are_even() -> None:
    # Three of three drawn: each case is expected once; P(a given case is left out) = (2/3)^3.
    weights = weights_of(["a", "b", "c"], [0, 0, 0], n_resamples=20_000)
    assert np.allclose(weights.mean(axis=0), 1, atol=0.03)
    assert np.allclose((weights == 0).mean(axis=0), (2 / 3) ** 3, atol=0.015)


def test_a_case_of_both_classes_is_drawn_apart() -> None:
    weights = weights_of(["x", "x", "y", "z"], [0, 1, 0, 1], n_resamples=200)
    assert (weights[:, 0] != weights[:, 1]).any()
    assert (weights[:, 0] + weights[:, 2] == 2).all()


def test_an_unknown_case_is_drawn_by_image() -> None:
    weights = weights_of(["", None, ""], [0, 0, 0], n_resamples=200)
    assert (weights.sum(axis=1) == 3).all()
    assert (weights[:, 0] != weights[:, 1]).any()


def test_seed_decides() -> None:
    first = weights_of(CASE, CLASS, n_resamples=50, seed=3)
    assert (first == weights_of(CASE, CLASS, n_resamples=50, seed=3)).all()
    assert (first != weights_of(CASE, CLASS, n_resamples=50, seed=4)).any()


def test_order_of_images_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(CASE.size)
    direct = weights_of(CASE, CLASS, n_resamples=50)
    assert (weights_of(CASE[order], CLASS[order], n_resamples=50) == direct[:, order]).all()


def test_sums_are_over_the_images_of_a_case() -> None:
    sample = CaseSample.of(CASE, CLASS)
    sums = sample.sums(np.stack([np.ones(9), np.arange(9.0)], axis=1))
    assert sums.tolist() == [[2, 2], [1, 1], [2, 7], [1, 5], [3, 21]]


def test_thousands_of_unknown_cases_are_drawn_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    malignant = np.arange(90) % 3 == 0
    monkeypatch.setattr(sample_module, "_MAX_GROUPS", 40)
    sample = CaseSample.of(np.full(90, ""), malignant)
    # 60 benign pictures in 40 groups of one or two, 30 malignant ones each alone.
    assert np.bincount(sample.stratum).tolist() == [40, 30]
    assert sorted(set(np.bincount(sample.cluster))) == [1, 2]
    assert (sample.stratum[sample.cluster] == malignant).all()
