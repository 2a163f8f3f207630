"""The run queue: start and resume of runs, and real training processes."""

import dataclasses
import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_model import jobs as processes
from bc_model.errors import ConfigError, RunError, SplitError, WeightsError
from bc_model.experiments.experiment import start_experiment
from bc_model.jobs import ENDED_STATES, cancel_job
from bc_model.training import run_queue as jobs
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run

PATIENCE_S = 90


@pytest.fixture(autouse=True)
def _no_child_is_left_behind() -> Iterator[None]:
    yield
    for child in list(processes._children):
        child.kill()
        child.wait()
    processes.reap_children()


def wait_for(holds: Callable[[], bool], run: Run) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {PATIENCE_S} s; {run.read_status()}; {run.read_log()}")
        time.sleep(0.1)


def has_ended(run: Run) -> bool:
    return run.read_status()["state"] in ENDED_STATES


class FakeProcess:
    """Takes the place of a child and keeps how it was started."""

    def __init__(self, command: list[str], **options: object) -> None:
        self.command = command
        self.options = options
        self.pid = 2**22 + 1

    def poll(self) -> None:
        return None

    def kill(self) -> None:
        pass

    def wait(self) -> None:
        processes._children.remove(self)


@pytest.fixture
def fake_popen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.subprocess, "Popen", FakeProcess)


@pytest.mark.usefixtures("fake_popen")
def test_a_run_is_started_from_its_folder_alone(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    run = jobs.start_run(tiny_config, tmp_path / "runs")
    assert TrainingConfig.from_dict(run.read_config()["config"]) == tiny_config
    child = processes._children[-1]
    assert child.command == [
        sys.executable, "-m", "bc_model", "train", "--resume", "--run", str(run.path),
    ]  # fmt: skip


@pytest.mark.usefixtures("fake_popen")
@pytest.mark.parametrize("field", ["data", "weights"])
def test_a_relative_path_means_the_same_to_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    config = dataclasses.replace(TrainingConfig(data=str(tmp_path)), **{field: "mine"})
    monkeypatch.setattr(jobs, "_check_weights_file", lambda _: None)
    run = jobs.start_run(config, Path("runs"))
    assert run.read_config()["config"][field] == str((tmp_path / "mine").resolve())


@pytest.mark.usefixtures("fake_popen")
def test_a_relative_fold_file_means_the_same_to_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "SOB_B_A-14-100-40-001.png|40|1|"
    Path("f.txt").write_text(f"{name}train\n{name.replace('001', '002')}test\n")
    config = TrainingConfig(data=str(tmp_path), protocol="folds", official_fold_file="f.txt")
    run = jobs.start_run(config, Path("runs"))
    assert run.read_config()["config"]["official_fold_file"] == str((tmp_path / "f.txt").resolve())


# The queue


@pytest.mark.usefixtures("fake_popen")
def test_a_run_that_waits_for_a_cluster_is_not_started_here(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": {}})
    jobs.queue_run(run, scheduler="tcp://there:8786", task="a")
    assert jobs.advance_queue(tmp_path) == []
    assert run.read_status()["message"] == "Waiting in the queue of tcp://there:8786"
    cancel_job(run)
    jobs.resume_run(run)
    assert len(processes._children) == 1


@pytest.mark.usefixtures("fake_popen")
def test_advance_queue_starts_as_many_runs_as_the_environment_allows(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_MAX_RUNS", "2")
    # This process stands for the children, which do not exist.
    monkeypatch.setattr(jobs, "launch_run", lambda run: run.write_status("running"))
    runs = [jobs.start_run(tiny_config, tmp_path) for _ in range(4)]
    states = [run.read_status()["state"] for run in runs]
    assert states == ["running", "running", "queued", "queued"]
    runs[1].write_status("done")
    assert jobs.advance_queue(tmp_path) == [runs[2].name]


@pytest.mark.parametrize("said", ["0", "many", "-1", "65", ""])
def test_a_number_of_runs_that_is_none_is_refused(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_MAX_RUNS", said)
    with pytest.raises(ConfigError, match="BC_MAX_RUNS must be a number from 1 to 64"):
        jobs.max_runs()


def test_a_weights_file_that_is_not_there_is_said_before_anything_is_queued(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(tiny_config, weights=str(tmp_path / "gone.h5"))
    with pytest.raises(WeightsError, match=r"There is no weights file .*gone\.h5"):
        jobs.start_run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_model_in_the_box_that_is_not_there_is_said_before_anything_is_queued(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bc_model.inference.bundle.SHIPPED_MODELS", tmp_path / "none")
    config = dataclasses.replace(tiny_config, backbone="resnet50", weights="bundled")
    with pytest.raises(WeightsError, match="No model came with this copy"):
        jobs.start_run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["BC_MAX_RUNS", "BC_NICENESS"])
def test_a_number_of_the_environment_that_is_none_is_said_before_anything_is_queued(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "many")
    with pytest.raises(ConfigError, match=f"{name} must be a number"):
        jobs.start_run(tiny_config, tmp_path / "runs")
    with pytest.raises(ConfigError, match=f"{name} must be a number"):
        start_experiment("cv", [("a", tiny_config)], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    run = Run.create(tmp_path / "run")
    run.write_config({"config": {}})
    run.write_status("canceled")
    with pytest.raises(ConfigError, match=f"{name} must be a number"):
        jobs.resume_run(run)
    assert run.read_status()["state"] == "canceled"


def test_a_fold_file_that_is_none_is_said_before_anything_is_queued(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    (tmp_path / "f.txt").write_text("no fold file")
    for name, said in (("gone.txt", "no fold file .*gone"), ("f.txt", "is not a fold file")):
        path = str(tmp_path / name)
        config = dataclasses.replace(tiny_config, protocol="folds", official_fold_file=path)
        with pytest.raises(SplitError, match=said):
            jobs.start_run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_done_run_is_not_resumed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": {}})
    run.write_status("done")
    with pytest.raises(RunError, match=r"is done\. Only an interrupted, canceled"):
        jobs.resume_run(run)


@pytest.mark.parametrize(
    ("state", "said"), [("paused", "Continue it"), ("queued", "as soon as a place")]
)
def test_a_run_that_goes_on_is_not_resumed_and_the_way_is_named(
    tmp_path: Path, state: str, said: str
) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": {}})
    run.write_status(state)
    with pytest.raises(RunError, match=f"Run 'run' is {state}.*{said}"):
        jobs.resume_run(run)


def test_a_run_without_its_settings_is_not_resumed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    (run.path / "config.json").write_text("{")
    (run.path / "status.json").write_text('{"state": "running"}')
    with pytest.raises(RunError, match=r"settings in .*config\.json are missing or damaged"):
        jobs.resume_run(run)


@pytest.mark.usefixtures("fake_popen")
@pytest.mark.parametrize("accept", [True, False])
def test_an_interrupted_run_is_queued_again(tmp_path: Path, accept: bool) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": {}})
    run.request("stop")
    (run.path / "status.json").write_text('{"state": "running"}')
    jobs.resume_run(run, accept_changes=accept)
    assert run.requested_action() is None
    assert ("--accept-changes" in processes._children[-1].command) is accept


# Accepted changes


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "run")
    made.write_config({"config": {}})
    return made


def test_accepts_changes_is_false_without_a_queue(run: Run) -> None:
    assert not jobs.accepts_changes(run)
    (run.path / "config.json").unlink()
    assert not jobs.accepts_changes(run)


def test_accepts_changes_holds_until_the_next_queueing(run: Run) -> None:
    jobs.queue_run(run, accept_changes=True, scheduler="tcp://there:1", task="mine")
    for state in ("starting", "running", "failed"):
        run.write_status(state)
    assert jobs.accepts_changes(run)
    jobs.queue_run(run)
    assert not jobs.accepts_changes(run)


def test_accepts_changes_does_not_cover_later_changes(run: Run) -> None:
    jobs.queue_run(run, accept_changes=True)
    run.write_config({"config": {}, "data_sha256": "seen"})
    assert not jobs.accepts_changes(run)


@pytest.mark.usefixtures("fake_popen")
def test_launch_lost_before_it_read_its_data_is_repeated_alike(run: Run) -> None:
    jobs.queue_run(run, accept_changes=True, scheduler="tcp://there:1", task="mine")
    commands = [jobs.launch_run(run).command]  # type: ignore[attr-defined]
    run.write_status("starting", message="Reading the data set")
    commands.append(jobs.launch_run(run, tied=True).command)  # type: ignore[attr-defined]
    assert ["--accept-changes" in command for command in commands] == [True, True]
    assert ["--end-with-stdin" in command for command in commands] == [False, True]


# Real processes


def test_a_started_run_ends_done_with_a_model_and_its_figures(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    run = jobs.start_run(tiny_config, tmp_path)
    wait_for(lambda: has_ended(run), run)
    assert run.read_status()["state"] == "done", run.read_log()
    assert (run.model_dir / "model_card.json").is_file()
    assert (run.evaluation_dir / "report.json").is_file()
    assert [record["epoch"] for record in run.read_history()] == [1, 2]
    assert processes._children[-1].wait(PATIENCE_S) == 0


def test_a_run_whose_process_ends_before_it_speaks_has_its_last_words_in_its_status(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    # Otherwise it would stay 'queued' while the app lives, and no other run could be started.
    run = jobs.start_run(dataclasses.replace(tiny_config, data="gone"), tmp_path)
    assert processes._children[-1].wait(PATIENCE_S) == 2
    processes.reap_children()
    status = run.read_status()
    assert status["state"] == "failed"
    assert "There is no folder" in status["message"]


# A stop, here without a second process: it reaches the trainer through the folder either way


def test_a_stop_ends_a_run_and_keeps_its_best_model(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    from bc_model.training.trainer import train

    run = Run.create(tmp_path / "run")

    def stop_after_the_first_epoch() -> None:
        wait_for(lambda: bool(run.read_history()), run)
        run.request("stop")

    watcher = threading.Thread(target=stop_after_the_first_epoch)
    watcher.start()
    train(dataclasses.replace(tiny_config, head_epochs=1000, patience=1000), run)
    watcher.join()
    status = run.read_status()
    assert (status["state"], status["message"][:18]) == ("done", "Stopped on request")
    assert 1 <= len(run.read_history()) < 1000
    assert (run.model_dir / "model_card.json").is_file()
    assert (run.evaluation_dir / "report.json").is_file()


def test_a_stop_before_the_first_epoch_has_ended_leaves_no_model_and_no_open_file(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    from bc_model.training.trainer import train

    run = Run.create(tmp_path / "run")
    run.request("stop")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert train(tiny_config, run) is None
        gc.collect()
    left_open = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    assert [text for text in left_open if str(run.path) in text] == []
    assert run.read_status()["state"] == "canceled"
    assert not run.model_dir.exists()
