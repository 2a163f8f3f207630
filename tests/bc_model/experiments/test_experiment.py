"""Starting a study, going on with one, and what must not be mixed up with it."""

import dataclasses
import json
import logging
import os
from pathlib import Path

import pytest

from bc_model.errors import ConfigError, RunError, WeightsError
from bc_model.experiments import experiment as experiment
from bc_model.experiments.experiment import (
    experiment_state,
    run_states,
    start_experiment,
    wait_for_experiment,
)
from bc_model.experiments.plan import Plan, list_experiments, plan_experiment, read_experiment
from bc_model.jobs import cancel_job, delete_job
from bc_model.training import run_queue as jobs
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run, list_runs
from bc_model.utils.serialization import from_json, to_json


@pytest.fixture
def plan(tiny_config: TrainingConfig) -> Plan:
    return plan_experiment(tiny_config, folds=[0, 1], grid={"dropout": [0.1, 0.5]})


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start nothing: this process stands for the trainer. Return the runs in their order."""
    names: list[str] = []

    def launch(run: Run) -> None:
        run.write_status("running")
        names.append(run.name)

    monkeypatch.setattr(jobs, "launch_run", launch)
    return names


def test_all_runs_wait_in_the_queue_and_the_first_is_started(
    plan: Plan, tmp_path: Path, launched: list[str]
) -> None:
    made = start_experiment("cv", plan, tmp_path)
    names = ["cv-dropout-0.1-fold0", "cv-dropout-0.1-fold1",
             "cv-dropout-0.5-fold0", "cv-dropout-0.5-fold1"]  # fmt: skip
    assert [member.run for member in made.members] == names
    assert sorted(run.name for run in list_runs(tmp_path)) == names
    assert launched == names[:1]
    assert experiment_state(made, tmp_path) == {"running": 1, "queued": 3}
    for member, (_, config) in zip(made.members, plan, strict=True):
        record = Run(tmp_path / member.run).read_config()
        assert from_json(TrainingConfig, record["config"]) == config == member.config


def test_a_experiment_is_read_back_from_its_file(plan: Plan, tmp_path: Path) -> None:
    made = start_experiment("cv", plan, tmp_path)
    assert read_experiment(tmp_path, "cv") == made
    assert [experiment.name for experiment in list_experiments(tmp_path)] == ["cv"]
    told = json.loads((tmp_path / "cv.study.json").read_text())
    assert told["members"][3]["group"] == "dropout=0.5"
    assert told["members"][3]["fold"] == 1
    assert {group: [m.fold for m in of] for group, of in made.groups.items()} == {
        "dropout=0.1": [0, 1], "dropout=0.5": [0, 1],
    }  # fmt: skip


def test_any_settings_under_any_labels_are_a_experiment(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    has_leakage = dataclasses.replace(tiny_config, protocol="image", test_fold=2)
    made = start_experiment(
        "report", [("by-case", tiny_config), ("by-picture", has_leakage)], tmp_path
    )
    assert [(m.run, m.group, m.fold) for m in made.members] == [
        ("report-by-case", "protocol=case", 0), ("report-by-picture", "protocol=image", 2),
    ]  # fmt: skip


def test_experiments_are_listed_newest_first_and_damaged_ones_passed_over(
    plan: Plan, tmp_path: Path
) -> None:
    for name, created in (("old", "2026-01-01"), ("new", "2026-02-02")):
        start_experiment(name, plan, tmp_path)
        file = tmp_path / f"{name}.study.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"created": created}))
    (tmp_path / "bad.study.json").write_text("{")
    assert [experiment.name for experiment in list_experiments(tmp_path)] == ["new", "old"]
    assert list_experiments(tmp_path / "none") == []


# Going on


def test_what_is_not_done_goes_on_and_the_rest_is_left_alone(
    plan: Plan, tmp_path: Path, launched: list[str]
) -> None:
    runs = [Run(tmp_path / m.run) for m in start_experiment("cv", plan, tmp_path).members]
    runs[0].write_status("done")
    runs[1].write_status("failed", message="the disk was full")
    runs[1].write_config(runs[1].read_config() | {"data_sha256": "kept"})
    runs[2].write_status("running")
    cancel_job(runs[3])
    launched.clear()

    made = start_experiment("cv", plan, tmp_path)

    states = [status["state"] for status in run_states(made, tmp_path).values()]
    assert states == ["done", "queued", "running", "queued"]
    assert runs[1].read_config()["data_sha256"] == "kept"
    assert launched == []  # one goes on


def test_a_deleted_run_is_made_again(plan: Plan, tmp_path: Path) -> None:
    made = start_experiment("cv", plan, tmp_path)
    run = Run(tmp_path / made.members[3].run)
    cancel_job(run)
    delete_job(run)
    assert experiment_state(made, tmp_path) == {"running": 1, "queued": 2, "missing": 1}
    start_experiment("cv", plan, tmp_path)
    assert experiment_state(made, tmp_path) == {"running": 1, "queued": 3}


@pytest.mark.parametrize("left", ["", "config.json"])
def test_a_start_that_was_cut_short_is_made_whole(plan: Plan, tmp_path: Path, left: str) -> None:
    made = start_experiment("cv", plan, tmp_path)
    folder = tmp_path / made.members[2].run
    for file in folder.iterdir():
        if file.name != left:
            file.unlink()
    start_experiment("cv", plan, tmp_path)
    assert experiment_state(made, tmp_path) == {"running": 1, "queued": 3}


def test_what_waits_for_a_cluster_is_taken_back_and_given_away(plan: Plan, tmp_path: Path) -> None:
    address = "tcp://there:8786"

    def tasks() -> list[str | None]:
        states = run_states(read_experiment(tmp_path, "cv"), tmp_path)
        queued = [tmp_path / run for run, status in states.items() if status["state"] == "queued"]
        return [Run(path).read_spec().task for path in queued]

    start_experiment("cv", plan, tmp_path, scheduler=address)
    given = tasks()
    assert len(set(given)) == 4
    start_experiment("cv", plan, tmp_path, scheduler=address)
    assert tasks() == given  # the cluster knows them by these names already
    start_experiment("cv", plan, tmp_path, scheduler="tcp://elsewhere:8786")
    assert not set(tasks()) & set(given)
    start_experiment("cv", plan, tmp_path)
    assert tasks() == ["", "", ""]  # and the first was started


# What is refused


def test_a_name_taken_by_other_settings_is_refused_with_the_first_difference(
    plan: Plan, tmp_path: Path
) -> None:
    start_experiment("cv", plan, tmp_path)
    other = [(label, dataclasses.replace(config, patience=3)) for label, config in plan]
    with pytest.raises(RunError, match=r"study cv already.* patience is 6 there and 3 here"):
        start_experiment("cv", other, tmp_path)
    with pytest.raises(RunError, match="its runs are others"):
        start_experiment("cv", plan[:2], tmp_path)


def test_a_experiment_whose_runs_were_all_deleted_keeps_its_name_from_nobody(
    plan: Plan, tmp_path: Path
) -> None:
    for member in start_experiment("cv", plan, tmp_path).members:
        run = Run(tmp_path / member.run)
        run.write_status("failed")
        delete_job(run)
    made = start_experiment("cv", plan[:2], tmp_path)
    assert len(made.members) == len(read_experiment(tmp_path, "cv").members) == 2


def test_a_run_that_is_not_of_the_experiment_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    Run.create(tmp_path / "cv-dropout-0.1-fold1").write_status("done")
    with pytest.raises(
        RunError,
        match=r"fold1 already that is not of this study; give the study another",
    ):
        start_experiment("cv", plan, tmp_path)
    assert not list(tmp_path.glob("*.study.json"))
    assert len(list_runs(tmp_path)) == 1


def test_one_that_cannot_be_queued_does_not_stop_the_others(
    plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = start_experiment("cv", plan, tmp_path)
    run = Run(tmp_path / made.members[2].run)
    run.write_config({"config": to_json(plan[0][1])})
    run.write_status("failed")
    Run(tmp_path / made.members[3].run).write_status("failed")
    with caplog.at_level(logging.WARNING, "bc_model.training"):
        start_experiment("cv", plan, tmp_path)
    assert "has other settings than the study says" in caplog.text
    states = [status["state"] for status in run_states(made, tmp_path).values()]
    assert states[2:] == ["failed", "queued"]


@pytest.mark.parametrize("name", ["", "my study", "../x", "-a", "a" * 41, "a\n"])
def test_a_name_that_is_none_is_refused(plan: Plan, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a study"):
        start_experiment(name, plan, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("label", ["fold 0", "a/b", "a" * 60])
def test_a_label_that_is_none_is_refused(
    tiny_config: TrainingConfig, tmp_path: Path, label: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be the label of a run"):
        start_experiment("cv", [(label, tiny_config)], tmp_path / "runs")


def test_a_weights_file_that_one_run_lacks_is_said_before_any_is_queued(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    plan = plan_experiment(tiny_config, folds=[0], grid={"weights": ["none", "/gone.h5"]})
    with pytest.raises(WeightsError, match=r"no weights file .*gone\.h5"):
        start_experiment("cv", plan, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"members": 3}', '{"version": 9, "members": []}'])
def test_a_damaged_experiment_is_a_run_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "cv.study.json").write_text(content)
    with pytest.raises(RunError, match="cannot be read"):
        read_experiment(tmp_path, "cv")


def test_an_unknown_experiment_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no study cv in"):
        read_experiment(tmp_path, "cv")
    with pytest.raises(RunError, match="is not the name of a study"):
        read_experiment(tmp_path, "../cv")


# Waiting


def test_waiting_keeps_the_queue_going_and_ends_with_the_last_run(
    plan: Plan, tmp_path: Path, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_LOOK_EVERY_S", 0.0)
    made = start_experiment("cv", plan, tmp_path)
    told: list[dict[str, int]] = []

    def tell(state: dict[str, int]) -> None:
        told.append(state)
        end = ["done", "failed", "done", "canceled"][len(launched) - 1]
        Run(tmp_path / launched[-1]).write_status(end)

    wait_for_experiment(made, tmp_path, tell=tell)
    assert launched == [member.run for member in made.members]
    assert told[0] == {"running": 1, "queued": 3}
    assert told[-1] == {"done": 2, "failed": 1, "canceled": 1}


def test_waiting_looks_until_there_is_no_more_to_come(plan: Plan, tmp_path: Path) -> None:
    made = start_experiment("cv", plan, tmp_path)
    for member in made.members:
        # Interrupted, as when its worker was killed: its next one is still to come.
        status = {"state": "running", "pid": os.getpid(), "pid_started": 0.0}
        (tmp_path / member.run / "status.json").write_text(json.dumps(status))
    more = iter([True, False])
    wait_for_experiment(made, tmp_path, look=lambda: next(more))
    assert next(more, None) is None
