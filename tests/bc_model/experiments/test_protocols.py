"""Plans of protocol comparisons: runs, skipped splits, records and invalid input."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.data.dataset import Dataset, load_dataset
from bc_model.errors import ConfigError, DataError, RunError, SplitError
from bc_model.experiments.plan import experiment_file
from bc_model.experiments.protocols import (
    DEFAULT_PROTOCOLS,
    ComparisonSpec,
    comparison_file,
    delete_experiment,
    plan_comparison,
    planned_configs,
    read_comparison_spec,
    start_comparison,
)
from bc_model.training import run_queue as jobs
from bc_model.training.config import TrainingConfig
from bc_model.training.run import list_runs

NO_FOLD_FILE = make_check("BC246")


@pytest.fixture(scope="module")
def dataset(synthetic_dataset: Path) -> Dataset:
    return load_dataset(synthetic_dataset)


@pytest.fixture
def plan(tiny_config: TrainingConfig, dataset: Dataset) -> Callable:
    return lambda **changes: plan_comparison(
        tiny_config, **({"dataset": lambda: dataset} | changes)
    )


def test_plan_comparison_has_one_run_per_fold_and_fold_file(
    plan: Callable, fold_files: list[Path]
) -> None:
    found = plan(fold_files=fold_files, test_folds=[0, 3])
    assert [label for label, _ in found.runs] == [
        "image-fold0", "image-fold3", "folds-dsfold1", "folds-dsfold2",
        "folds-clean-dsfold1", "folds-clean-dsfold2", "case-fold0", "case-fold3",
    ]  # fmt: skip
    assert found.spec == ComparisonSpec(DEFAULT_PROTOCOLS, {})
    splits = {
        label: (one.protocol, one.test_fold, one.official_fold_file) for label, one in found.runs
    }
    assert splits["case-fold3"] == ("case", 3, "")
    assert splits["folds-dsfold2"] == ("folds", 0, str(fold_files[1].resolve()))


def test_plan_comparison_runs_differ_only_in_split(
    plan: Callable, fold_files: list[Path], tiny_config: TrainingConfig
) -> None:
    found = plan(fold_files=fold_files)
    split = {"protocol": "case", "test_fold": 0, "official_fold_file": ""}
    common = {dataclasses.replace(config, **split) for _, config in found.runs}
    assert common == {jobs.resolve_paths(tiny_config)}


def test_plan_comparison_all_folds_has_each_fold(plan: Callable) -> None:
    found = plan(protocols=["case"], test_folds="all")
    assert [config.test_fold for _, config in found.runs] == [0, 1, 2, 3, 4]


def test_plan_comparison_without_fold_file_skips_official_folds(
    plan: Callable,
) -> None:
    found = plan()
    assert [label for label, _ in found.runs] == ["image-fold0", "case-fold0"]
    assert found.spec.skipped == {"folds": (NO_FOLD_FILE,), "folds-clean": (NO_FOLD_FILE,)}


def test_plan_comparison_unsupported_protocol_is_skipped_with_reason(
    tiny_config: TrainingConfig, dataset: Dataset, fold_files: list[Path]
) -> None:
    images = dataset.images.assign(case="", section="", group="")
    without_cases = dataclasses.replace(dataset, images=images)
    found = plan_comparison(tiny_config, dataset=lambda: without_cases, protocols=["image", "case"])
    assert [label for label, _ in found.runs] == ["image-fold0"]
    (check,) = found.spec.skipped["case"]
    assert check.code == "BC245"
    assert "needs cases" in check.params["reason"]


def test_plan_comparison_fold_file_of_another_dataset_is_skipped(
    plan: Callable, fold_files: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("SOB_B_A-14-1-40-001.png|40|1|test\nSOB_M_DC-14-2-40-001.png|40|1|train\n")
    found = plan(protocols=["folds"], fold_files=[other, fold_files[0]])
    assert [label for label, _ in found.runs] == ["folds-dsfold1"]
    assert "Choose the fold file of this dataset" in found.spec.skipped["folds"][0].message


def test_plan_comparison_equal_file_names_have_numbered_labels(
    plan: Callable, fold_files: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / fold_files[0].name
    other.write_bytes(fold_files[0].read_bytes())
    found = plan(protocols=["folds"], fold_files=[*fold_files[:1], other, fold_files[0]])
    assert [label for label, _ in found.runs] == ["folds-dsfold1", "folds-dsfold1-2"]


def test_plan_comparison_known_configs_do_not_read_the_dataset(plan: Callable) -> None:
    first = plan(protocols=["case"])

    def read() -> Dataset:
        raise AssertionError("the dataset was read")

    again = plan(
        protocols=["case"], dataset=read, known=frozenset(one for _, one in first.runs)
    )  # fmt: skip
    assert again.runs == first.runs


# Invalid input


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"protocols": ["case", "random"]}, ConfigError, "Unknown protocol 'random'"),
        ({"protocols": []}, ConfigError, "No protocol. Expected"),
        ({"protocols": ["folds"]}, SplitError, "supports none of the protocols. folds: The p"),
        ({"fold_files": ["gone.txt"]}, SplitError, "There is no fold file"),
        (
            {"fold_files": ["f.txt"], "protocols": ["case"]},
            ConfigError,
            "The fold file f.txt is not used",
        ),
        ({"test_folds": [7]}, ConfigError, "Invalid test_fold 7"),
        ({"test_folds": []}, ConfigError, "Invalid test folds"),
    ],
)
def test_plan_comparison_invalid_arguments_raise(
    plan: Callable, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace(".", r"\.")):
        plan(**changes)


def test_plan_comparison_invalid_fold_file_raises_before_reading(
    plan: Callable, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("no fold file\n")

    def read() -> Dataset:
        raise AssertionError("the dataset was read")

    with pytest.raises(SplitError, match="not a fold file"):
        plan(fold_files=[wrong], dataset=read)


def test_plan_comparison_missing_dataset_raises(plan: Callable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        plan(dataset=lambda: load_dataset(tmp_path / "gone"))


# Records


@pytest.fixture
def no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep runs in the queue."""
    monkeypatch.setattr(jobs, "max_runs", lambda: 0)


def test_start_comparison_writes_the_spec(plan: Callable, no_launch: None, tmp_path: Path) -> None:
    experiment, spec = start_comparison("rep", plan(), tmp_path)
    assert [member.name for member in experiment.runs] == ["rep-image-fold0", "rep-case-fold0"]
    assert {run.name for run in list_runs(tmp_path)} == {"rep-image-fold0", "rep-case-fold0"}
    assert read_comparison_spec(tmp_path, "rep") == spec == plan().spec
    assert planned_configs(tmp_path, "rep") == {config for _, config in plan().runs}


def test_read_comparison_spec_other_experiment_returns_none(tmp_path: Path) -> None:
    assert read_comparison_spec(tmp_path, "cv") is None
    assert planned_configs(tmp_path, "cv") == frozenset()
    assert planned_configs(tmp_path, "../cv") == frozenset()


def test_start_comparison_other_plan_keeps_the_spec(
    plan: Callable, no_launch: None, tmp_path: Path
) -> None:
    start_comparison("rep", plan(), tmp_path)
    before = comparison_file(tmp_path, "rep").read_bytes()
    with pytest.raises(RunError, match="The experiment 'rep' already exists"):
        start_comparison("rep", plan(protocols=["case"]), tmp_path)
    assert comparison_file(tmp_path, "rep").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 9},
        {"protocols": ["other"]},
        {"skipped": []},
        {"skipped": {"folds": [{"code": "BC000"}]}},
        {"protocols": 3},
    ],
)
def test_read_comparison_spec_damaged_file_raises(
    plan: Callable, no_launch: None, tmp_path: Path, change: dict
) -> None:
    start_comparison("rep", plan(), tmp_path)
    file = comparison_file(tmp_path, "rep")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match="Cannot read the protocol comparison"):
        read_comparison_spec(tmp_path, "rep")


@pytest.mark.parametrize("name", ["../other", "..", "", "a/b"])
def test_delete_experiment_with_a_path_as_name_deletes_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    files = [file(tmp_path / "runs", name) for file in (comparison_file, experiment_file)]
    for file in files:
        file.touch()
    with pytest.raises(RunError, match="There is no experiment"):
        delete_experiment(tmp_path / "runs", name)
    assert all(file.exists() for file in files)
