"""The run queue: start and resume of runs, and real training jobs."""

import dataclasses
import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bc_model import jobs
from bc_model.data.registry import link_folder
from bc_model.errors import ConfigError, RunError, SplitError, WeightsError
from bc_model.experiments.experiment import start_experiment
from bc_model.jobs import ENDED_STATES, cancel_job
from bc_model.training import run_queue
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import from_json, to_json

PATIENCE_S = 90


@pytest.fixture(autouse=True)
def _kill_children() -> Iterator[None]:
    yield
    for child in list(jobs._children):
        child.kill()
        child.wait()
    jobs.reap_children()


def wait_for(condition: Callable[[], bool], run: Run) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {PATIENCE_S} s; {run.read_status()}; {run.read_log()}")
        time.sleep(0.1)


def has_ended(run: Run) -> bool:
    return run.read_status()["state"] in ENDED_STATES


class FakeProcess:
    """Replaces a child process and records its command."""

    def __init__(self, command: list[str], **options: object) -> None:
        self.command = command
        self.options = options
        self.pid = 2**22 + 1

    def poll(self) -> None:
        return None

    def kill(self) -> None:
        pass

    def wait(self) -> None:
        jobs._children.remove(self)


@pytest.fixture
def fake_popen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.subprocess, "Popen", FakeProcess)


@pytest.mark.usefixtures("fake_popen")
def test_start_run_starts_the_train_command(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    run = run_queue.start_run(tiny_config, tmp_path / "runs")
    assert from_json(TrainingConfig, run.read_config()["config"]) == tiny_config
    child = jobs._children[-1]
    assert child.command == [
        sys.executable, "-m", "bc_model", "train", "--resume", "--run", str(run.path),
    ]  # fmt: skip


@pytest.mark.usefixtures("fake_popen")
@pytest.mark.parametrize("field", ["data", "weights"])
def test_start_run_resolves_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    config = dataclasses.replace(TrainingConfig(data=str(tmp_path)), **{field: "mine"})
    monkeypatch.setattr(run_queue, "require_weights_file", lambda _: None)
    run = run_queue.start_run(config, Path("runs"))
    assert run.read_config()["config"][field] == str((tmp_path / "mine").resolve())


@pytest.mark.usefixtures("fake_popen")
def test_start_run_resolves_the_name_of_a_registered_dataset(
    synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "registry"))
    link_folder(synthetic_dataset, "registered")
    run = run_queue.start_run(TrainingConfig(data="registered", weights="none"), tmp_path / "runs")
    assert run.read_config()["config"]["data"] == str(synthetic_dataset.resolve())


@pytest.mark.usefixtures("fake_popen")
def test_start_run_resolves_a_relative_fold_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "SOB_B_A-14-100-40-001.png|40|1|"
    Path("f.txt").write_text(f"{name}train\n{name.replace('001', '002')}test\n")
    config = TrainingConfig(data=str(tmp_path), protocol="folds", official_fold_file="f.txt")
    run = run_queue.start_run(config, Path("runs"))
    assert run.read_config()["config"]["official_fold_file"] == str((tmp_path / "f.txt").resolve())


# The queue


@pytest.mark.usefixtures("fake_popen")
def test_advance_queue_skips_runs_of_a_cluster(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run_queue.queue_run(run, scheduler="tcp://there:8786", task="a")
    assert run_queue.advance_queue(tmp_path) == []
    assert run.read_status()["message"] == "Waiting in the queue of tcp://there:8786"
    cancel_job(run)
    run_queue.resume_run(run)
    assert len(jobs._children) == 1


@pytest.mark.usefixtures("fake_popen")
def test_advance_queue_starts_as_many_runs_as_the_environment_allows(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_MAX_RUNS", "2")
    # This process replaces the children.
    monkeypatch.setattr(run_queue, "launch_run", lambda run: run.write_status("running"))
    runs = [run_queue.start_run(tiny_config, tmp_path) for _ in range(4)]
    states = [run.read_status()["state"] for run in runs]
    assert states == ["running", "running", "queued", "queued"]
    runs[1].write_status("done")
    assert run_queue.advance_queue(tmp_path) == [runs[2].name]


@pytest.mark.parametrize("value", ["0", "many", "-1", "65", ""])
def test_max_runs_with_an_invalid_value_raises(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BC_MAX_RUNS", value)
    with pytest.raises(ConfigError, match=r"BC_MAX_RUNS\. Expected 1 to 64"):
        run_queue.max_runs()


def test_start_run_without_the_weights_file_raises_before_queueing(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(tiny_config, weights=str(tmp_path / "gone.h5"))
    with pytest.raises(WeightsError, match=r"There is no weights file .*gone\.h5"):
        run_queue.start_run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_start_run_without_the_bundled_model_raises_before_queueing(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", tmp_path / "none")
    config = dataclasses.replace(tiny_config, backbone="resnet50", weights="bundled")
    with pytest.raises(WeightsError, match="The bundled model is not installed"):
        run_queue.start_run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["BC_MAX_RUNS", "BC_NICENESS"])
def test_invalid_environment_raises_before_queueing(
    tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "many")
    with pytest.raises(ConfigError, match=f"environment variable {name}"):
        run_queue.start_run(tiny_config, tmp_path / "runs")
    with pytest.raises(ConfigError, match=f"environment variable {name}"):
        start_experiment("cv", [("a", tiny_config)], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run.write_status("canceled")
    with pytest.raises(ConfigError, match=f"environment variable {name}"):
        run_queue.resume_run(run)
    assert run.read_status()["state"] == "canceled"


def test_start_run_with_an_invalid_fold_file_raises_before_queueing(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    (tmp_path / "f.txt").write_text("no fold file")
    for name, message in (("gone.txt", "no fold file .*gone"), ("f.txt", "is not a fold file")):
        path = str(tmp_path / name)
        config = dataclasses.replace(tiny_config, protocol="folds", official_fold_file=path)
        with pytest.raises(SplitError, match=message):
            run_queue.start_run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_resume_run_that_is_done_raises(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run.write_status("done")
    with pytest.raises(RunError, match=r"is done\. Only an interrupted, canceled"):
        run_queue.resume_run(run)


@pytest.mark.parametrize(
    ("state", "advice"), [("paused", "Continue it"), ("queued", "as soon as another run")]
)
def test_resume_run_that_has_not_ended_raises_with_advice(
    tmp_path: Path, state: str, advice: str
) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run.write_status(state)
    with pytest.raises(RunError, match=f"Run 'run' is {state}.*{advice}"):
        run_queue.resume_run(run)


def test_resume_run_without_configuration_raises(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    (run.path / "config.json").write_text("{")
    (run.path / "status.json").write_text('{"state": "running"}')
    with pytest.raises(RunError, match=r"configuration in .*config\.json is missing or damaged"):
        run_queue.resume_run(run)


@pytest.mark.usefixtures("fake_popen")
@pytest.mark.parametrize("accept", [True, False])
def test_resume_run_starts_an_interrupted_run(tmp_path: Path, accept: bool) -> None:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    run.request("stop")
    (run.path / "status.json").write_text('{"state": "running"}')
    run_queue.resume_run(run, accept_changes=accept)
    assert run.requested_action() is None
    assert ("--accept-changes" in jobs._children[-1].command) is accept


# Accepted changes


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": to_json(TrainingConfig("set"))})
    return run


def test_accepts_changes_of_a_run_that_was_never_queued_is_false(run: Run) -> None:
    assert not run_queue.accepts_changes(run)
    (run.path / "config.json").unlink()
    assert not run_queue.accepts_changes(run)


def test_accepts_changes_is_true_until_the_run_is_queued_again(run: Run) -> None:
    run_queue.queue_run(run, accept_changes=True, scheduler="tcp://there:1", task="mine")
    for state in ("starting", "running", "failed"):
        run.write_status(state)
    assert run_queue.accepts_changes(run)
    run_queue.queue_run(run)
    assert not run_queue.accepts_changes(run)


def test_accepts_changes_after_later_changes_is_false(run: Run) -> None:
    run_queue.queue_run(run, accept_changes=True)
    run.write_config({"config": {}, "data_sha256": "seen"})
    assert not run_queue.accepts_changes(run)


@pytest.mark.usefixtures("fake_popen")
def test_launch_run_again_accepts_the_same_changes(run: Run) -> None:
    run_queue.queue_run(run, accept_changes=True, scheduler="tcp://there:1", task="mine")
    commands = [run_queue.launch_run(run).command]  # type: ignore[attr-defined]
    run.write_status("starting", message="Reading the dataset")
    commands.append(run_queue.launch_run(run, tied=True).command)  # type: ignore[attr-defined]
    assert ["--accept-changes" in command for command in commands] == [True, True]
    assert ["--end-with-stdin" in command for command in commands] == [False, True]


# Real processes


def test_start_run_ends_with_a_model_and_a_report(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    run = run_queue.start_run(tiny_config, tmp_path)
    wait_for(lambda: has_ended(run), run)
    assert run.read_status()["state"] == "done", run.read_log()
    assert (run.model_dir / "model_card.json").is_file()
    assert (run.evaluation_dir / "report.json").is_file()
    assert [record["epoch"] for record in run.read_history()] == [1, 2]
    assert jobs._children[-1].wait(PATIENCE_S) == 0


def test_start_run_with_missing_data_fails_with_a_message(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    # If the run stayed 'queued', no other run could start.
    run = run_queue.start_run(dataclasses.replace(tiny_config, data="gone"), tmp_path)
    assert jobs._children[-1].wait(PATIENCE_S) == 2
    jobs.reap_children()
    status = run.read_status()
    assert status["state"] == "failed"
    assert "There is no folder" in status["message"]


# Stop requests in this process


def test_stop_request_keeps_the_best_model(tiny_config: TrainingConfig, tmp_path: Path) -> None:
    from bc_model.training.trainer import train

    run = Run.create(tmp_path / "run")

    def stop_after_first_epoch() -> None:
        wait_for(lambda: bool(run.read_history()), run)
        run.request("stop")

    watcher = threading.Thread(target=stop_after_first_epoch)
    watcher.start()
    train(dataclasses.replace(tiny_config, head_epochs=1000, patience=1000), run)
    watcher.join()
    status = run.read_status()
    assert (status["state"], status["message"][:18]) == ("done", "Stopped on request")
    assert 1 <= len(run.read_history()) < 1000
    assert (run.model_dir / "model_card.json").is_file()
    assert (run.evaluation_dir / "report.json").is_file()


def test_stop_request_before_the_first_epoch_leaves_no_model_and_no_open_file(
    tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    from bc_model.training.trainer import train

    run = Run.create(tmp_path / "run")
    run.request("stop")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tiny_config, run)
        gc.collect()
    unclosed = [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    assert [text for text in unclosed if str(run.path) in text] == []
    assert run.read_status()["state"] == "canceled"
    assert not run.model_dir.exists()
