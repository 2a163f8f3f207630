"""Reports planned and started: which runs, what is left out and why, and bad input."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.data.dataset import Dataset, load_dataset
from bc_model.errors import ConfigError, DataError, RunError, SplitError
from bc_model.experiments.protocols import (
    REPORT_PROTOCOLS,
    ReportNote,
    known_options,
    note_file,
    plan_report,
    read_note,
    start_report,
)
from bc_model.training import run_queue as jobs
from bc_model.training.config import TrainingConfig
from bc_model.training.run import list_runs

NO_FILE = make_check("BC246")


@pytest.fixture(scope="module")
def dataset(drawn_set: Path) -> Dataset:
    return load_dataset(drawn_set)


@pytest.fixture
def plan(tiny_config: TrainingConfig, dataset: Dataset) -> Callable:
    return lambda **how: plan_report(tiny_config, **({"manifest": lambda: dataset} | how))


def test_a_run_for_each_file_and_one_for_each_fold(plan: Callable, fold_files: list[Path]) -> None:
    found = plan(fold_files=fold_files, test_folds=[0, 3])
    assert [label for label, _ in found.runs] == [
        "image-fold0", "image-fold3", "folds-dsfold1", "folds-dsfold2",
        "folds-clean-dsfold1", "folds-clean-dsfold2", "case-fold0", "case-fold3",
    ]  # fmt: skip
    assert found.note == ReportNote(REPORT_PROTOCOLS, {})
    told = {
        label: (one.protocol, one.test_fold, one.official_fold_file) for label, one in found.runs
    }
    assert told["case-fold3"] == ("case", 3, "")
    assert told["folds-dsfold2"] == ("folds", 0, str(fold_files[1].resolve()))


def test_the_recipe_is_one_and_the_same(
    plan: Callable, fold_files: list[Path], tiny_config: TrainingConfig
) -> None:
    found = plan(fold_files=fold_files)
    own = {"protocol": "case", "test_fold": 0, "official_fold_file": ""}
    alike = {dataclasses.replace(config, **own) for _, config in found.runs}
    assert alike == {jobs.resolve_paths(tiny_config)}


def test_all_folds(plan: Callable) -> None:
    found = plan(protocols=["case"], test_folds="all")
    assert [config.test_fold for _, config in found.runs] == [0, 1, 2, 3, 4]


def test_without_a_file_the_official_folds_are_left_out_and_the_others_go_on(
    plan: Callable,
) -> None:
    found = plan()
    assert [label for label, _ in found.runs] == ["image-fold0", "case-fold0"]
    assert found.note.skipped == {"folds": (NO_FILE,), "folds-clean": (NO_FILE,)}


def test_a_protocol_that_the_data_does_not_allow_is_left_out_with_its_reason(
    tiny_config: TrainingConfig, dataset: Dataset, fold_files: list[Path]
) -> None:
    images = dataset.images.assign(case="", section="", group="")
    nameless = dataclasses.replace(dataset, images=images)
    found = plan_report(tiny_config, dataset=lambda: nameless, protocols=["image", "case"])
    assert [label for label, _ in found.runs] == ["image-fold0"]
    (check,) = found.note.skipped["case"]
    assert check.code == "BC245"
    assert "carry no case in their names" in check.params["reason"]


def test_one_file_of_another_data_set_leaves_the_other_in(
    plan: Callable, fold_files: list[Path], tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("SOB_B_A-14-1-40-001.png|40|1|test\nSOB_M_DC-14-2-40-001.png|40|1|train\n")
    found = plan(protocols=["folds"], fold_files=[foreign, fold_files[0]])
    assert [label for label, _ in found.runs] == ["folds-dsfold1"]
    assert "another release or another data set" in found.note.skipped["folds"][0].message


def test_files_of_one_name_in_two_folders_get_labels_of_their_own(
    plan: Callable, fold_files: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / fold_files[0].name
    other.write_bytes(fold_files[0].read_bytes())
    found = plan(protocols=["folds"], fold_files=[*fold_files[:1], other, fold_files[0]])
    assert [label for label, _ in found.runs] == ["folds-dsfold1", "folds-dsfold1-2"]


def test_what_a_experiment_has_already_is_not_tried_again(plan: Callable) -> None:
    first = plan(protocols=["case"])

    def read() -> Dataset:
        raise AssertionError("the data was read again")

    again = plan(
        protocols=["case"], dataset=read, known=frozenset(one for _, one in first.runs)
    )  # fmt: skip
    assert again.runs == first.runs


# Bad input


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"protocols": ["case", "random"]}, ConfigError, "no split protocol 'random'"),
        ({"protocols": []}, ConfigError, "needs a protocol"),
        ({"protocols": ["folds"]}, SplitError, "None of the protocols can be made. folds: The p"),
        ({"fold_files": ["gone.txt"]}, SplitError, "There is no fold file"),
        ({"fold_files": ["f.txt"], "protocols": ["case"]}, ConfigError, "leave f.txt out"),
        ({"test_folds": [7]}, ConfigError, "Invalid test_fold 7"),
        ({"test_folds": []}, ConfigError, "test_folds must be all or numbers"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    plan: Callable, how: dict, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said.replace(".", r"\.")):
        plan(**how)


def test_a_wrong_file_is_found_before_the_data_is_read(plan: Callable, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("no fold file\n")

    def read() -> Dataset:
        raise AssertionError("the data was read")

    with pytest.raises(SplitError, match="not a fold file"):
        plan(fold_files=[wrong], dataset=read)


def test_data_that_cannot_be_read_is_refused(plan: Callable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        plan(dataset=lambda: load_dataset(tmp_path / "gone"))


# On disk


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let queued runs wait."""
    monkeypatch.setattr(jobs, "max_runs", lambda: 0)


def test_the_note_stands_beside_the_experiment(plan: Callable, still: None, tmp_path: Path) -> None:
    experiment, note = start_report("rep", plan(), tmp_path)
    assert [member.run for member in experiment.members] == ["rep-image-fold0", "rep-case-fold0"]
    assert {run.name for run in list_runs(tmp_path)} == {"rep-image-fold0", "rep-case-fold0"}
    assert read_note(tmp_path, "rep") == note == plan().note
    assert known_options(tmp_path, "rep") == {config for _, config in plan().runs}


def test_a_experiment_that_is_no_report_has_no_note(tmp_path: Path) -> None:
    assert read_note(tmp_path, "cv") is None
    assert known_options(tmp_path, "cv") == frozenset()
    assert known_options(tmp_path, "../cv") == frozenset()


def test_a_name_that_is_taken_leaves_the_note_as_it_was(
    plan: Callable, still: None, tmp_path: Path
) -> None:
    start_report("rep", plan(), tmp_path)
    before = note_file(tmp_path, "rep").read_bytes()
    with pytest.raises(RunError, match="There is a study rep already"):
        start_report("rep", plan(protocols=["case"]), tmp_path)
    assert note_file(tmp_path, "rep").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"version": 9},
        {"protocols": ["other"]},
        {"skipped": []},
        {"skipped": {"folds": [{"code": "BC000"}]}},
        {"protocols": 3},
    ],
)
def test_a_damaged_note_is_said(plan: Callable, still: None, tmp_path: Path, change: dict) -> None:
    start_report("rep", plan(), tmp_path)
    file = note_file(tmp_path, "rep")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match="note of the report"):
        read_note(tmp_path, "rep")
