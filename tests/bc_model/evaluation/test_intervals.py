"""Figures in words, the draw of whole cases, and what becomes of replicates."""

import json

import numpy as np
import pandas as pd
import pytest

from bc_model.evaluation import intervals
from bc_model.evaluation.intervals import (
    Figure,
    case_bootstrap_blocks,
    case_bootstrap_weights,
    case_clusters,
    case_names,
    percentile_interval,
)

CASE = np.array(["a", "b", "a", "c", "c", "d", "e", "e", "e"])
CLASS = np.array(["B", "B", "B", "M", "M", "M", "M", "M", "M"])


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (
            Figure(0.891, 0.812, 0.949, 120, 8, "m"),
            "0.89 (95 % 0.81-0.95; 120 pictures, 8 cases)",
        ),
        (Figure(0.5, 0.0, 1.0, 1, 1, "m"), "0.50 (95 % 0.00-1.00; 1 picture, 1 case)"),
        (
            Figure(0.5, 0.4, 0.6, 20, 0, "m", "too narrow"),
            "0.50 (95 % 0.40-0.60; 20 pictures, cases unknown)",
        ),
        (
            Figure(1.0, None, None, 20, 4, "m", "only one benign case"),
            "1.00 (no interval: only one benign case; 20 pictures, 4 cases)",
        ),
        (Figure(1.0, None, None, 20, 4, "m"), "1.00 (no interval; 20 pictures, 4 cases)"),
        (
            Figure(None, None, None, 20, 4, "m", "only one class present"),
            "not defined: only one class present",
        ),
    ],
)
def test_figure_in_words(figure: Figure, text: str) -> None:
    assert str(figure) == text


def test_figure_digits() -> None:
    assert Figure(0.8912, 0.8, 0.9, 2, 2, "m").text(3).startswith("0.891 (95 % 0.800-0.900;")


def test_figure_goes_through_json_and_back() -> None:
    figure = Figure(0.1, None, None, 3, 2, "m", "why")
    text = json.dumps(figure.as_dict(), allow_nan=False)
    assert Figure(**json.loads(text)) == figure


@pytest.mark.parametrize(
    "numbers", [(np.nan, None, None), (0.5, np.inf, 0.6), (0.5, 0.4, None), (0.5, None, 0.6)]
)
def test_figure_refuses_numbers_that_cannot_be_shown(numbers: tuple[float | None, ...]) -> None:
    with pytest.raises(ValueError, match="Figure"):
        Figure(*numbers, 1, 1, "m")  # type: ignore[arg-type]


def test_case_names_know_every_unknown() -> None:
    series = pd.Series(["a", None, np.nan, pd.NA, "", "  ", " b ", 7], dtype=object)
    assert case_names(series).tolist() == ["a", "", "", "", "", "", "b", "7"]


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
    weights = case_bootstrap_weights(CASE, CLASS, n_resamples=300)
    assert weights.shape == (300, 9)
    for name in set(CASE):
        of_case = weights[:, name == CASE]
        assert (of_case == of_case[:, :1]).all()


def test_each_class_keeps_its_number_of_cases() -> None:
    weights = case_bootstrap_weights(CASE, CLASS, n_resamples=300)
    first_of_case = [0, 1, 3, 5, 6]
    cases = weights[:, first_of_case]
    assert (cases[:, :2].sum(axis=1) == 2).all()
    assert (cases[:, 2:].sum(axis=1) == 3).all()


def test_draws_are_even() -> None:
    # Three of three drawn: each case is expected once; P(a given case is left out) = (2/3)^3.
    weights = case_bootstrap_weights(["a", "b", "c"], [0, 0, 0], n_resamples=20_000)
    assert np.allclose(weights.mean(axis=0), 1, atol=0.03)
    assert np.allclose((weights == 0).mean(axis=0), (2 / 3) ** 3, atol=0.015)


def test_a_case_of_both_classes_is_drawn_apart() -> None:
    weights = case_bootstrap_weights(["x", "x", "y", "z"], [0, 1, 0, 1], n_resamples=200)
    assert (weights[:, 0] != weights[:, 1]).any()
    assert (weights[:, 0] + weights[:, 2] == 2).all()


def test_an_unknown_case_is_drawn_by_picture() -> None:
    weights = case_bootstrap_weights(["", None, ""], [0, 0, 0], n_resamples=200)
    assert (weights.sum(axis=1) == 3).all()
    assert (weights[:, 0] != weights[:, 1]).any()


def test_seed_decides() -> None:
    first = case_bootstrap_weights(CASE, CLASS, seed=3)
    assert (first == case_bootstrap_weights(CASE, CLASS, seed=3)).all()
    assert (first != case_bootstrap_weights(CASE, CLASS, seed=4)).any()
    assert first.shape == (2000, 9)


def test_order_of_pictures_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(CASE.size)
    direct = case_bootstrap_weights(CASE, CLASS, n_resamples=50)
    assert (
        case_bootstrap_weights(CASE[order], CLASS[order], n_resamples=50) == direct[:, order]
    ).all()


@pytest.mark.parametrize("elements", [1, 9 * 7, 9 * 50])
def test_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    whole = case_bootstrap_weights(CASE, CLASS, n_resamples=50)
    monkeypatch.setattr(intervals, "_BLOCK_ELEMENTS", elements)
    blocks = list(case_bootstrap_blocks(CASE, CLASS, n_resamples=50))
    assert max(map(len, blocks)) == max(1, elements // 9)
    assert (np.concatenate(blocks) == whole).all()


def test_percentiles_by_hand() -> None:
    # 0..100 has its 2.5th percentile at 2.5 and its 97.5th at 97.5.
    interval = percentile_interval(np.arange(101.0))
    assert (interval.low, interval.high) == pytest.approx((2.5, 97.5), abs=1e-12)
    assert interval.note == ""
    interval = percentile_interval(np.arange(101.0), level=0.5)
    assert (interval.low, interval.high) == (25.0, 75.0)


def test_a_few_undefined_replicates_are_left_out() -> None:
    interval = percentile_interval(np.append(np.arange(101.0), [np.nan] * 5))
    assert (interval.low, interval.high) == pytest.approx((2.5, 97.5), abs=1e-12)


@pytest.mark.parametrize(
    ("replicates", "note"),
    [
        ([0.1, 0.2, np.nan], "33 % of the resamples had no figure"),
        ([np.nan, np.nan], "100 % of the resamples had no figure"),
        ([], "100 % of the resamples had no figure"),
        ([1.0, 1.0, 1.0], "all cases gave the same, so their spread is unseen"),
        ([0.3, 0.1 + 0.2], "all cases gave the same, so their spread is unseen"),
    ],
)
def test_no_interval(replicates: list[float], note: str) -> None:
    interval = percentile_interval(replicates)
    assert interval.low is None
    assert interval.high is None
    assert interval.note == note
