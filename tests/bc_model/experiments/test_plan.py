"""Plans of experiments: combinations, labels and invalid input."""

import dataclasses
from typing import Any

import pytest

from bc_model.errors import ConfigError
from bc_model.experiments.plan import (
    MAX_LABEL_LENGTH,
    group_labels,
    parse_value,
    plan_experiment,
    require_distinct_runs,
)
from bc_model.jobs import is_name
from bc_model.training.config import TrainingConfig

BASE = TrainingConfig(data="set", n_folds=3)


def test_plan_experiment_without_grid_has_every_fold() -> None:
    plan = plan_experiment(BASE)
    assert [label for label, _ in plan] == ["fold0", "fold1", "fold2"]
    assert [config for _, config in plan] == [
        dataclasses.replace(BASE, test_fold=fold) for fold in range(3)
    ]


def test_plan_experiment_grid_multiplies_values_and_folds() -> None:
    plan = plan_experiment(BASE, folds=[0, 2], grid={"dropout": [0.1, 0.5], "seed": [1, 2]})
    assert [(s.dropout, s.seed, s.test_fold) for _, s in plan] == [
        (0.1, 1, 0), (0.1, 1, 2), (0.1, 2, 0), (0.1, 2, 2),
        (0.5, 1, 0), (0.5, 1, 2), (0.5, 2, 0), (0.5, 2, 2),
    ]  # fmt: skip
    assert plan[5][0] == "dropout-0.5-seed-1-fold2"


def test_plan_experiment_grid_of_n_folds_uses_each_number_of_folds() -> None:
    plan = plan_experiment(BASE, grid={"n_folds": [3, 4]})
    assert [(s.n_folds, s.test_fold) for _, s in plan] == [
        (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (4, 3),
    ]  # fmt: skip


def test_plan_experiment_fold_file_has_one_run() -> None:
    # Five folds of one file would be five runs with the same test subset.
    official = dataclasses.replace(BASE, protocol="folds", official_fold_file="dsfold1.txt")
    assert [s.test_fold for _, s in plan_experiment(official)] == [0]
    assert [s.test_fold for _, s in plan_experiment(official, folds=[2])] == [2]
    files = ["dsfold1.txt", "dsfold2.txt"]
    plan = plan_experiment(official, grid={"official_fold_file": files})
    assert [(s.official_fold_file, s.test_fold) for _, s in plan] == [(file, 0) for file in files]
    with pytest.raises(ConfigError, match=r"one test subset.* got 2\. Use test fold 0"):
        plan_experiment(official, folds=[0, 1])
    with pytest.raises(ConfigError, match=r"dsfold1\.txt has one test subset"):
        plan_experiment(official, folds=[0, 1], grid={"official_fold_file": files})


@pytest.mark.parametrize(
    "grid",
    [
        {"head_learning_rate": [1e-5], "finetune_learning_rate": [1e-5, None], "dropout": [0.25]},
        {"weights": ["/a/start.h5", "/a-start.h5"]},
    ],
    ids=["too long", "ambiguous"],
)
def test_plan_experiment_invalid_labels_are_numbered(grid: dict[str, list[Any]]) -> None:
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
def test_plan_experiment_labels_are_distinct_names(grid: dict[str, list[Any]]) -> None:
    labels = [label for label, _ in plan_experiment(BASE, grid=grid)]
    assert len(set(labels)) == len(labels)
    assert all(is_name(label) and len(label) <= MAX_LABEL_LENGTH for label in labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"grid": {"epochs": [1]}},
            r"Unknown option 'epochs'\. Expected one of augmented_copies, ",
        ),
        ({"grid": {"test_fold": [1]}}, "Test folds are listed separately"),
        ({"grid": {"dropout": [0.1, 1.5]}}, r"Invalid dropout 1\.5\. Expected 0 <= dropout < 1"),
        ({"grid": {"dropout": []}}, "No value for dropout"),
        ({"grid": {"dropout": ["much"]}}, "Invalid dropout 'much'. Expected a number"),
        ({"grid": {"dropout": [0.5, 0.5]}}, r"^Repeated value 0\.5 in dropout"),
        (
            {"grid": {"dropout": [i / 1000 for i in range(67)]}},
            "got 67 configurations with 3 folds",
        ),
        ({"grid": {"n_folds": list(range(3, 51))}}, "at most 200|1 to 200"),
        ({"folds": []}, "Expected 'all' or numbers"),
        ({"folds": "0"}, "Expected 'all' or numbers"),
        ({"folds": [3]}, "Invalid test_fold 3"),
        ({"folds": [1, 1]}, "^Repeated value 1 in the test folds"),
    ],
)
def test_plan_experiment_invalid_arguments_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_experiment(BASE, **arguments)


def test_require_distinct_runs_equal_configs_raise() -> None:
    with pytest.raises(ConfigError, match="'b' repeats the configuration"):
        require_distinct_runs([("a", BASE), ("b", BASE)])


def test_require_distinct_runs_equal_labels_raise() -> None:
    other = dataclasses.replace(BASE, test_fold=1)
    with pytest.raises(ConfigError, match="Two runs have the label 'A'"):
        require_distinct_runs([("a", BASE), ("A", other)])
    with pytest.raises(ConfigError, match="Expected 1 to 200, got 0"):
        require_distinct_runs([])


def test_group_labels_list_differing_options() -> None:
    configs = [
        dataclasses.replace(BASE, dropout=dropout, image_size=size, test_fold=fold)
        for dropout, size in ((0.1, (64, 96)), (0.5, (64, 64)))
        for fold in (0, 1)
    ]
    assert group_labels(configs) == [
        "image_size=64x96, dropout=0.1", "image_size=64x96, dropout=0.1",
        "image_size=64x64, dropout=0.5", "image_size=64x64, dropout=0.5",
    ]  # fmt: skip
    assert group_labels(configs[:2]) == ["", ""]


@pytest.mark.parametrize(
    ("name", "message"),
    [("test_fold", "Test folds are listed"), ("epochs", "Unknown option 'epochs'")],
)
def test_parse_value_unknown_name_raises(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_value(name, "1")
