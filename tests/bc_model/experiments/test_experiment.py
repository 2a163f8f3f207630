"""Experiments: start, resume, name conflicts and waiting."""

import dataclasses
import json
import logging
import os
from pathlib import Path

import pytest

from bc_model.errors import ConfigError, RunError, WeightsError
from bc_model.experiments import experiment as experiment
from bc_model.experiments.experiment import (
    count_states,
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
    """Replace the training process, and return the names of the launched runs."""
    names: list[str] = []

    def launch(run: Run) -> None:
        run.write_status("running")
        names.append(run.name)

    monkeypatch.setattr(jobs, "launch_run", launch)
    return names


def test_start_experiment_queues_all_runs_and_launches_the_first(
    plan: Plan, tmp_path: Path, launched: list[str]
) -> None:
    made = start_experiment("cv", plan, tmp_path)
    names = ["cv-dropout-0.1-fold0", "cv-dropout-0.1-fold1",
             "cv-dropout-0.5-fold0", "cv-dropout-0.5-fold1"]  # fmt: skip
    assert [member.name for member in made.runs] == names
    assert sorted(run.name for run in list_runs(tmp_path)) == names
    assert launched == names[:1]
    assert count_states(made, tmp_path) == {"running": 1, "queued": 3}
    for member, (_, config) in zip(made.runs, plan, strict=True):
        record = Run(tmp_path / member.name).read_config()
        assert from_json(TrainingConfig, record["config"]) == config == member.config


def test_read_experiment_returns_the_written_experiment(plan: Plan, tmp_path: Path) -> None:
    made = start_experiment("cv", plan, tmp_path)
    assert read_experiment(tmp_path, "cv") == made
    assert list_experiments(tmp_path) == ["cv"]
    content = json.loads((tmp_path / "cv.experiment.json").read_text())
    assert content["schema_version"] == 2
    assert content["runs"][3]["group"] == "dropout=0.5"
    assert content["runs"][3]["config"]["test_fold"] == 1
    assert {group: [m.fold for m in runs] for group, runs in made.groups.items()} == {
        "dropout=0.1": [0, 1], "dropout=0.5": [0, 1],
    }  # fmt: skip


def test_start_experiment_accepts_any_configs_and_labels(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    image_level = dataclasses.replace(tiny_config, protocol="image", test_fold=2)
    made = start_experiment(
        "report", [("by-case", tiny_config), ("by-image", image_level)], tmp_path
    )
    assert [(m.name, m.group, m.fold) for m in made.runs] == [
        ("report-by-case", "protocol=case", 0), ("report-by-image", "protocol=image", 2),
    ]  # fmt: skip


def test_list_experiments_is_newest_first_and_lists_damaged(plan: Plan, tmp_path: Path) -> None:
    for name, time_s in (("old", 1), ("new", 3)):
        start_experiment(name, plan, tmp_path)
        file = tmp_path / f"{name}.experiment.json"
        os.utime(file, (time_s, time_s))
    damaged = tmp_path / "bad.experiment.json"
    damaged.write_text("{")
    os.utime(damaged, (2, 2))
    (tmp_path / "-x.experiment.json").write_text("{")  # No experiment has this name.
    assert list_experiments(tmp_path) == ["new", "bad", "old"]
    assert list_experiments(tmp_path / "none") == []


# Resume


def test_start_experiment_again_queues_only_ended_runs(
    plan: Plan, tmp_path: Path, launched: list[str]
) -> None:
    runs = [Run(tmp_path / m.name) for m in start_experiment("cv", plan, tmp_path).runs]
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
    assert launched == []  # one run is running


def test_start_experiment_recreates_a_deleted_run(plan: Plan, tmp_path: Path) -> None:
    made = start_experiment("cv", plan, tmp_path)
    run = Run(tmp_path / made.runs[3].name)
    cancel_job(run)
    delete_job(run)
    assert count_states(made, tmp_path) == {"running": 1, "queued": 2, "missing": 1}
    start_experiment("cv", plan, tmp_path)
    assert count_states(made, tmp_path) == {"running": 1, "queued": 3}


@pytest.mark.parametrize("remaining", ["", "config.json"])
def test_start_experiment_completes_an_interrupted_start(
    plan: Plan, tmp_path: Path, remaining: str
) -> None:
    made = start_experiment("cv", plan, tmp_path)
    folder = tmp_path / made.runs[2].name
    for file in folder.iterdir():
        if file.name != remaining:
            file.unlink()
    start_experiment("cv", plan, tmp_path)
    assert count_states(made, tmp_path) == {"running": 1, "queued": 3}


def test_start_experiment_with_scheduler_assigns_new_tasks_per_queue(
    plan: Plan, tmp_path: Path
) -> None:
    address = "tcp://there:8786"

    def tasks() -> list[str | None]:
        states = run_states(read_experiment(tmp_path, "cv"), tmp_path)
        queued = [tmp_path / run for run, status in states.items() if status["state"] == "queued"]
        return [Run(path).read_spec().task for path in queued]

    start_experiment("cv", plan, tmp_path, scheduler=address)
    first = tasks()
    assert len(set(first)) == 4
    start_experiment("cv", plan, tmp_path, scheduler=address)
    assert tasks() == first  # the scheduler identifies its tasks by these names
    start_experiment("cv", plan, tmp_path, scheduler="tcp://elsewhere:8786")
    assert not set(tasks()) & set(first)
    start_experiment("cv", plan, tmp_path)
    assert tasks() == ["", "", ""]  # the first run is running


# Invalid input


def test_start_experiment_other_plan_raises_with_first_difference(
    plan: Plan, tmp_path: Path
) -> None:
    start_experiment("cv", plan, tmp_path)
    other = [(label, dataclasses.replace(config, patience=3)) for label, config in plan]
    with pytest.raises(RunError, match=r"experiment 'cv' already.* patience is 6 there and 3 here"):
        start_experiment("cv", other, tmp_path)
    with pytest.raises(RunError, match="it has other runs"):
        start_experiment("cv", plan[:2], tmp_path)


def test_start_experiment_name_is_free_after_all_runs_are_deleted(
    plan: Plan, tmp_path: Path
) -> None:
    for member in start_experiment("cv", plan, tmp_path).runs:
        run = Run(tmp_path / member.name)
        run.write_status("failed")
        delete_job(run)
    made = start_experiment("cv", plan[:2], tmp_path)
    assert len(made.runs) == len(read_experiment(tmp_path, "cv").runs) == 2


def test_start_experiment_run_outside_experiment_raises(plan: Plan, tmp_path: Path) -> None:
    Run.create(tmp_path / "cv-dropout-0.1-fold1").write_status("done")
    with pytest.raises(RunError, match="fold1 already exists outside this experiment"):
        start_experiment("cv", plan, tmp_path)
    assert not list(tmp_path.glob("*.experiment.json"))
    assert len(list_runs(tmp_path)) == 1


def test_start_experiment_logs_a_run_that_cannot_be_queued(
    plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = start_experiment("cv", plan, tmp_path)
    run = Run(tmp_path / made.runs[2].name)
    run.write_config({"config": to_json(plan[0][1])})
    run.write_status("failed")
    Run(tmp_path / made.runs[3].name).write_status("failed")
    with caplog.at_level(logging.WARNING, "bc_model.training"):
        start_experiment("cv", plan, tmp_path)
    assert "differs from the experiment" in caplog.text
    states = [status["state"] for status in run_states(made, tmp_path).values()]
    assert states[2:] == ["failed", "queued"]


@pytest.mark.parametrize("name", ["", "my study", "../x", "-a", "a" * 41, "a\n"])
def test_start_experiment_invalid_name_raises(plan: Plan, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="Invalid experiment name"):
        start_experiment(name, plan, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("label", ["fold 0", "a/b", "a" * 60])
def test_start_experiment_invalid_label_raises(
    tiny_config: TrainingConfig, tmp_path: Path, label: str
) -> None:
    with pytest.raises(ConfigError, match="Invalid run label"):
        start_experiment("cv", [(label, tiny_config)], tmp_path / "runs")


def test_start_experiment_missing_weights_file_raises_before_queueing(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    plan = plan_experiment(tiny_config, folds=[0], grid={"weights": ["none", "/gone.h5"]})
    with pytest.raises(WeightsError, match=r"no weights file .*gone\.h5"):
        start_experiment("cv", plan, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"runs": 3}', '{"schema_version": 9, "name": "cv", "created": "", "runs": []}'],
)
def test_read_experiment_damaged_file_raises(tmp_path: Path, content: str) -> None:
    (tmp_path / "cv.experiment.json").write_text(content)
    with pytest.raises(RunError, match="Cannot read the experiment file"):
        read_experiment(tmp_path, "cv")


def test_read_experiment_unknown_or_invalid_name_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no experiment 'cv' in"):
        read_experiment(tmp_path, "cv")
    with pytest.raises(RunError, match="is not a valid experiment name"):
        read_experiment(tmp_path, "../cv")


# Wait


def test_wait_for_experiment_advances_the_queue_until_the_last_run(
    plan: Plan, tmp_path: Path, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_POLL_INTERVAL_S", 0.0)
    made = start_experiment("cv", plan, tmp_path)
    updates: list[dict[str, int]] = []

    def end_run(counts: dict[str, int]) -> None:
        updates.append(counts)
        end = ["done", "failed", "done", "canceled"][len(launched) - 1]
        Run(tmp_path / launched[-1]).write_status(end)

    wait_for_experiment(made, tmp_path, on_update=end_run)
    assert launched == [member.name for member in made.runs]
    assert updates[0] == {"running": 1, "queued": 3}
    assert updates[-1] == {"done": 2, "failed": 1, "canceled": 1}


def test_wait_for_experiment_calls_advance_until_nothing_is_pending(
    plan: Plan, tmp_path: Path
) -> None:
    made = start_experiment("cv", plan, tmp_path)
    for member in made.runs:
        # Interrupted, as if its worker was killed and its retry is pending.
        status = {"state": "running", "pid": os.getpid(), "pid_started": 0.0}
        (tmp_path / member.name / "status.json").write_text(json.dumps(status))
    pending = iter([True, False])
    wait_for_experiment(made, tmp_path, advance=lambda: next(pending))
    assert next(pending, None) is None
