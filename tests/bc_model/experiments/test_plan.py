"""Planning a study: what is multiplied, how it is named, and what is refused before a start."""

import dataclasses
from typing import Any

import pytest

from bc_model.errors import ConfigError
from bc_model.experiments.plan import (
    MAX_LABEL,
    group_words,
    parse_value,
    plan_experiment,
    require_distinct,
)
from bc_model.jobs import is_name
from bc_model.training.config import TrainingConfig

BASE = TrainingConfig(data="set", n_folds=3)


def test_all_folds_of_one_setting() -> None:
    plan = plan_experiment(BASE)
    assert [label for label, _ in plan] == ["fold0", "fold1", "fold2"]
    assert [config for _, config in plan] == [
        dataclasses.replace(BASE, test_fold=fold) for fold in range(3)
    ]


def test_every_combination_with_every_fold() -> None:
    plan = plan_experiment(BASE, folds=[0, 2], grid={"dropout": [0.1, 0.5], "seed": [1, 2]})
    assert [(s.dropout, s.seed, s.test_fold) for _, s in plan] == [
        (0.1, 1, 0), (0.1, 1, 2), (0.1, 2, 0), (0.1, 2, 2),
        (0.5, 1, 0), (0.5, 1, 2), (0.5, 2, 0), (0.5, 2, 2),
    ]  # fmt: skip
    assert plan[5][0] == "dropout-0.5-seed-1-fold2"


def test_how_many_folds_there_are_hangs_on_the_setting() -> None:
    plan = plan_experiment(BASE, grid={"n_folds": [3, 4]})
    assert [(s.n_folds, s.test_fold) for _, s in plan] == [
        (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (4, 3),
    ]  # fmt: skip


def test_a_fold_file_has_one_test_part_so_it_is_trained_with_once() -> None:
    # Five folds of one file would be five runs of one test part, which cannot be pooled.
    official = dataclasses.replace(BASE, protocol="folds", official_fold_file="dsfold1.txt")
    assert [s.test_fold for _, s in plan_experiment(official)] == [0]
    assert [s.test_fold for _, s in plan_experiment(official, folds=[2])] == [2]
    files = ["dsfold1.txt", "dsfold2.txt"]
    plan = plan_experiment(official, grid={"official_fold_file": files})
    assert [(s.official_fold_file, s.test_fold) for _, s in plan] == [(file, 0) for file in files]
    with pytest.raises(ConfigError, match=r"pooled over 2 .*--set official_fold_file=a,b,"):
        plan_experiment(official, folds=[0, 1])
    with pytest.raises(ConfigError, match=r"dsfold1\.txt has one test part"):
        plan_experiment(official, folds=[0, 1], grid={"official_fold_file": files})


@pytest.mark.parametrize(
    "grid",
    [
        {"head_learning_rate": [1e-5], "finetune_learning_rate": [1e-5, None], "dropout": [0.25]},
        {"weights": ["/a/start.h5", "/a-start.h5"]},
    ],
    ids=["too long", "the same but for signs"],
)
def test_labels_that_cannot_be_names_are_numbers(grid: dict[str, list[Any]]) -> None:
    labels = [label for label, _ in plan_experiment(BASE, grid=grid)]
    assert labels == [f"s{group}-fold{fold}" for group in (1, 2) for fold in range(3)]


@pytest.mark.parametrize(
    "grid",
    [
        {"weights": ["imagenet", "none", "/data/ä b/w.h5"]},
        {"image_size": [(64, 96), [96, 96]]},
        {"dense_units": [(), (256,), (512, 128)]},
        {"unfreeze_from": [None, "all"], "cache_features": [True, False]},
        {"head_learning_rate": [1e-5, 1.0]},
    ],
    ids=lambda grid: next(iter(grid)),
)
def test_labels_are_names_and_distinct(grid: dict[str, list[Any]]) -> None:
    labels = [label for label, _ in plan_experiment(BASE, grid=grid)]
    assert len(set(labels)) == len(labels)
    assert all(is_name(label) and len(label) <= MAX_LABEL for label in labels)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"grid": {"epochs": [1]}},
            r"no setting 'epochs' to try values of; there are augmented_copies, ",
        ),
        ({"grid": {"test_fold": [1]}}, "the folds have their own list"),
        ({"grid": {"dropout": [0.1, 1.5]}}, r"Invalid dropout 1\.5\. Expected 0 <= dropout < 1"),
        ({"grid": {"dropout": []}}, "dropout has no value to try"),
        ({"grid": {"dropout": ["much"]}}, "Invalid dropout 'much'. Expected a number"),
        ({"grid": {"dropout": [0.5, 0.5]}}, r"^In dropout stands 0\.5 twice; name each"),
        ({"grid": {"dropout": [i / 1000 for i in range(67)]}}, "asked for 67 settings with 3 fo"),
        ({"grid": {"n_folds": list(range(3, 51))}}, "at most 200|from 1 to 200 runs"),
        ({"folds": []}, "folds must be 'all' or numbers"),
        ({"folds": "0"}, "folds must be 'all' or numbers"),
        ({"folds": [3]}, "Invalid test_fold 3"),
        ({"folds": [1, 1]}, "^In the list of test folds stands 1 twice"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_experiment(BASE, **arguments)


def test_a_plan_that_somebody_else_made_is_looked_through_too() -> None:
    with pytest.raises(ConfigError, match="'b' comes twice with the same settings"):
        require_distinct([("a", BASE), ("b", BASE)])


def test_two_runs_of_one_name_are_refused() -> None:
    other = dataclasses.replace(BASE, test_fold=1)
    with pytest.raises(ConfigError, match="Two runs of the study are called 'A'"):
        require_distinct([("a", BASE), ("A", other)])
    with pytest.raises(ConfigError, match="from 1 to 200 runs; asked for 0"):
        require_distinct([])


def test_a_group_is_named_by_what_sets_it_apart() -> None:
    config = [
        dataclasses.replace(BASE, dropout=dropout, image_size=size, test_fold=fold)
        for dropout, size in ((0.1, (64, 96)), (0.5, (64, 64)))
        for fold in (0, 1)
    ]
    assert group_words(config) == [
        "image_size=64x96, dropout=0.1", "image_size=64x96, dropout=0.1",
        "image_size=64x64, dropout=0.5", "image_size=64x64, dropout=0.5",
    ]  # fmt: skip
    assert group_words(config[:2]) == ["", ""]


@pytest.mark.parametrize(
    ("name", "message"),
    [("test_fold", "folds have their own list"), ("epochs", "no setting 'epochs'")],
)
def test_parse_value_unknown_name_raises(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_value(name, "1")
