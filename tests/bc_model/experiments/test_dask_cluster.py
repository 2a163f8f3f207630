"""A real Dask scheduler and real workers, as processes of their own on this machine."""

import dataclasses
import filecmp
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import psutil
import pytest

import bc_model
from bc_model.errors import ConfigError, RunError
from bc_model.experiments import dask_cluster as cluster_worker
from bc_model.experiments.dask_cluster import (
    check_workers,
    connect,
    settle,
    submit_experiment,
    versions,
)
from bc_model.experiments.experiment import experiment_state, start_experiment, wait_for_experiment
from bc_model.experiments.plan import Experiment, ExperimentRun, plan_experiment
from bc_model.jobs import cancel_job
from bc_model.model import load_keras, weights_fingerprint
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.training.run_queue import queue_run
from bc_model.training.trainer import train

REPOSITORY = Path(__file__).parents[3]
PATIENCE_S = 120.0


@dataclass
class Cluster:
    """A scheduler and its workers."""

    address: str
    workers: list[subprocess.Popen]


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.Popen]]:
    folder = tmp_path_factory.mktemp("dask")
    processes: list[subprocess.Popen] = []

    def run(what: str, *arguments: object, cwd: Path = REPOSITORY) -> subprocess.Popen:
        with (folder / f"{len(processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "dask", what, *map(str, arguments),
                    "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0",
                ],
                cwd=cwd, stdout=log, stderr=log,
            )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def worker(
    start: Callable[..., subprocess.Popen], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.Popen]:
    scratch = tmp_path_factory.mktemp("workers")

    def run(address: str, *options: object, cwd: Path = REPOSITORY) -> subprocess.Popen:
        place = ("--no-nanny", "--local-directory", scratch)
        return start("worker", address, *place, *options, cwd=cwd)

    return run


@pytest.fixture(scope="module")
def scheduler(
    start: Callable[..., subprocess.Popen], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    folder = tmp_path_factory.mktemp("schedulers")

    def run() -> str:
        file = folder / f"{len(list(folder.iterdir()))}.json"
        process = start("scheduler", "--port", 0, "--scheduler-file", file)
        wait_until(lambda: process.poll() is not None or (file.exists() and file.stat().st_size))
        return str(json.loads(file.read_text())["address"])

    return run


@pytest.fixture
def cluster(scheduler: Callable[[], str], worker: Callable[..., subprocess.Popen]) -> Cluster:
    """Return a scheduler with two workers."""
    address = scheduler()
    return Cluster(address, [worker(address, "--nthreads", n) for n in (1, 2)])


@pytest.fixture
def config(tiny_config: TrainingConfig) -> TrainingConfig:
    return dataclasses.replace(
        tiny_config, n_folds=3, head_epochs=10, finetune_epochs=10, patience=20,
        deterministic=True,
    )  # fmt: skip


def trainers_of(runs: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(str(runs) in subset for subset in process.info["cmdline"] or []):
            found.append(process.info["pid"])
    return found


def metrics(run: Run) -> list[dict]:
    clock = ("seconds", "time")
    return [{k: v for k, v in one.items() if k not in clock} for one in run.read_history()]


def assert_equal(one: Run, other: Run) -> None:
    """Hold two runs against each other, bit for bit."""
    assert metrics(one) == metrics(other)
    weights = [
        weights_fingerprint(load_keras(run.model_dir / "model.keras")) for run in (one, other)
    ]
    assert weights[0] == weights[1]
    predictions = [run.evaluation_dir / "predictions.csv" for run in (one, other)]
    assert filecmp.cmp(*predictions, shallow=False)


def test_a_run_whose_worker_is_killed_is_ended_by_the_other_as_if_nothing_had_been(
    cluster: Cluster, config: TrainingConfig, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    plan = plan_experiment(config, folds=[1])
    with connect(cluster.address) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
        check_workers(client, runs, [config])
        assert [path.name for path in runs.iterdir()] == [".lock"]
        submit_experiment(
            client, start_experiment("cv", plan, runs, scheduler=cluster.address), runs
        )
        run = Run(runs / "cv-fold1")
        wait_until(run.read_history)
    # The same command after Ctrl-C waits again, for what goes on too.
    with connect(cluster.address) as client:
        experiment = start_experiment("cv", plan, runs, scheduler=cluster.address)
        futures = submit_experiment(client, experiment, runs)
        assert list(futures) == [run.name]
        wait_until(lambda: len(run.read_history()) >= 3)
        victim = psutil.Process(run.read_status()["pid"]).parent()
        assert victim is not None
        assert victim.pid in [process.pid for process in cluster.workers]
        victim.kill()
        wait_for_experiment(experiment, runs, look=lambda: settle(client, futures, runs))

    assert experiment_state(experiment, runs) == {"done": 1}, run.read_status()
    assert "Resumed after epoch" in run.read_log()
    assert trainers_of(runs) == []
    alone = Run.create(tmp_path / "alone")
    train(experiment.members[0].config, alone)
    # Whatever a resumed run would be refused for was looked at before the start.
    assert alone.read_config()["versions"] == versions() | {"bc_model": bc_model.__version__}
    assert_equal(run, alone)


@pytest.mark.slow
def test_a_cross_validation_on_a_cluster_that_loses_a_worker_is_that_of_one_machine(
    cluster: Cluster, config: TrainingConfig, tmp_path: Path
) -> None:
    options = [
        "experiments", "cv", config.data, "--name", "cv", "--backbone", "tiny", "--weights", "none",
        "--image-size", "32x32", "--batch-size", 8, "--dense-units", 8, "--n-folds", 3,
        "--head-epochs", 10, "--finetune-epochs", 10, "--patience", 20, "--deterministic",
        "--json",
    ]  # fmt: skip

    def sweep(runs: Path, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "bc_model", *map(str, options), "--runs", str(runs), *more]
        return subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    here, there = tmp_path / "here", tmp_path / "there"
    with sweep(here) as alone:
        told_here, _ = alone.communicate(timeout=5 * PATIENCE_S)
    assert alone.returncode == 0

    with sweep(there, "--scheduler", cluster.address) as clustered:
        run = Run(there / "cv-fold0")
        wait_until(lambda: len(run.read_history()) >= 3)
        victim = psutil.Process(run.read_status()["pid"]).parent()
        assert victim is not None
        victim.kill()
        told_there, said = clustered.communicate(timeout=5 * PATIENCE_S)
    assert clustered.returncode == 0, said
    assert "Traceback" not in said

    assert "Resumed after epoch" in run.read_log()
    assert trainers_of(there) == []
    groups = [json.loads(told)["groups"] for told in (told_here, told_there)]
    assert groups[0] == groups[1]
    assert groups[0][0]["folds"] == [0, 1, 2]
    assert groups[0][0]["report"]["n_images"] == 30
    for fold in range(3):
        assert_equal(Run(here / f"cv-fold{fold}"), Run(there / f"cv-fold{fold}"))


# Before anything starts


def test_nobody_at_the_address_is_said_in_one_sentence() -> None:
    for address in ("tcp://127.0.0.1:9", "nonsense", "http://127.0.0.1:9"):
        with (
            pytest.raises(ConfigError, match=f"Nobody answers at {address}, not a Dask sche"),
            connect(address, timeout_s=0.3),
        ):
            pass


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ConfigError, match=r"the extra 'cluster'.* requirements-cluster\.txt"),
        connect("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_scheduler_without_workers_and_one_whose_worker_lacks_the_program_are_said(
    scheduler: Callable[[], str],
    worker: Callable[..., subprocess.Popen],
    config: TrainingConfig,
    tmp_path: Path,
) -> None:
    address = scheduler()
    with pytest.raises(ConfigError, match="has no worker; start some"), connect(address, 1.0):
        pass
    worker(address, cwd=tmp_path)
    runs = tmp_path / "runs"
    with connect(address, PATIENCE_S) as client:
        (theirs,) = client.scheduler_info()["workers"]
        with pytest.raises(RunError, match=f"worker {theirs} cannot run this program .*bc_model"):
            check_workers(client, runs, [config])
    assert not runs.exists()
    with (
        pytest.raises(ConfigError, match=f"^Worker answers at {theirs}, not a Dask scheduler"),
        connect(theirs),
    ):
        pass


# On a worker, without one


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "run")
    made.write_config({"config": {}})
    queue_run(made, scheduler="tcp://there:1", task="mine")
    return made


@pytest.fixture(autouse=True)
def _no_children(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "run" in request.fixturenames:
        monkeypatch.setattr(
            cluster_worker, "launch_run", lambda *_, **__: pytest.fail("was started")
        )


def test_a_canceled_run_is_not_started(run: Run) -> None:
    cancel_job(run)
    assert cluster_worker.train_on_worker(str(run.path), "mine") == "canceled"


def test_a_run_that_was_given_to_another_queue_is_not_started(run: Run) -> None:
    queue_run(run)
    assert cluster_worker.train_on_worker(str(run.path), "mine") == "queued"


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_a_run_that_went_on_in_another_queue_is_not_taken_over(run: Run, state: str) -> None:
    queue_run(run)
    run.write_status("running")
    if state == "interrupted":
        (run.path / "status.json").write_text('{"state": "running"}')
    assert cluster_worker.train_on_worker(str(run.path), "mine") == state


def test_a_run_that_somebody_works_on_is_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_status("running")
    monkeypatch.setattr(cluster_worker.time, "sleep", lambda _: run.write_status("done"))
    assert cluster_worker.train_on_worker(str(run.path), "mine") == "done"


def test_a_run_that_is_not_there_is_said_with_the_machine(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not see the run .*gone; mount its folder there"):
        cluster_worker.train_on_worker(str(tmp_path / "gone"), "mine")


class Silent:
    """A training process that ends without a word."""

    stdin = BytesIO()

    def wait(self) -> int:
        return 1


def test_a_process_that_is_gone_without_a_word_is_an_error_that_may_be_tried_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(run: Run, **_: object) -> Silent:
        (run.path / "status.json").write_text('{"state": "running"}')
        (run.path / "stderr.txt").write_text("out of memory")
        return Silent()

    monkeypatch.setattr(cluster_worker, "launch_run", launch)
    with pytest.raises(RunError, match=r"ended unexpectedly\. Last error output: out of memory"):
        cluster_worker.train_on_worker(str(run.path), "mine")


def test_the_nannys_numbers_of_threads_are_not_for_the_trainer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import distributed  # noqa: F401  its configuration says what a nanny sets

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")  # somebody's own
    found = cluster_worker._environment()
    assert "OMP_NUM_THREADS" not in found
    assert found["MKL_NUM_THREADS"] == "7"
    assert found["PATH"] == os.environ["PATH"]


class Taking:
    """A client that keeps what is handed over."""

    def __init__(self) -> None:
        self.taken: list[tuple[object, ...]] = []

    def submit(self, _: object, *arguments: object, key: str, **__: object) -> str:
        self.taken.append((*arguments, key))
        return key


@pytest.mark.parametrize(
    ("state", "is_taken"),
    [("queued", True), ("starting", True), ("running", True), ("paused", True), ("done", False),
     ("failed", False), ("canceled", False)],
)  # fmt: skip
def test_a_run_is_waited_for_by_its_task_until_it_has_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch, state: str, is_taken: bool
) -> None:
    monkeypatch.setattr("distributed.fire_and_forget", lambda _: None)
    names = (run.name, "gone")
    members = tuple(ExperimentRun(name, "", "", TrainingConfig("set")) for name in names)
    client = Taking()
    run.write_status(state)
    futures = submit_experiment(client, Experiment("s", "", members), run.path.parent)  # type: ignore[arg-type]
    assert client.taken == ([(str(run.path), "mine", "mine")] if is_taken else [])
    assert futures == ({run.name: "mine"} if is_taken else {})
    queue_run(run)  # by hand, here: not for a cluster any more
    assert submit_experiment(client, Experiment("s", "", members), run.path.parent) == {}  # type: ignore[arg-type]


# When Dask gives up


class Ended:
    """A future whose task has failed."""

    def __init__(self, key: str, status: str = "error") -> None:
        self.key, self.status = key, status

    def done(self) -> bool:
        return True

    def exception(self) -> Exception:
        return RunError("its machine is out of memory")


class Connected:
    """A client that is connected, or not."""

    def __init__(self, status: str = "running") -> None:
        self.status = status


@pytest.mark.parametrize(
    ("status", "said"),
    [("error", "its machine is out of memory"), ("canceled", "its task is cancelled")],
)
def test_a_task_that_failed_is_told_in_the_run(run: Run, status: str, said: str) -> None:
    futures = {"run": Ended("mine", status)}
    assert not settle(Connected(), futures, run.path.parent)  # type: ignore[arg-type]
    assert futures == {}
    told = run.read_status()
    assert (told["state"], told["message"]) == (
        "failed",
        f"The cluster gave up on this run: {said}",
    )


@pytest.mark.parametrize("state", ["done", "canceled", "running"])
def test_a_failed_task_does_not_touch_a_run_that_is_not_its_any_more(run: Run, state: str) -> None:
    run.write_status(state)
    settle(Connected(), {"run": Ended("mine")}, run.path.parent)  # type: ignore[arg-type]
    assert run.read_status()["state"] == state
    queue_run(run)
    settle(Connected(), {"run": Ended("mine")}, run.path.parent)  # type: ignore[arg-type]
    assert run.read_status()["state"] == "queued"


def test_a_lost_connection_is_said_with_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="was lost; give the same command again"):
        settle(Connected("connecting"), {}, tmp_path)  # type: ignore[arg-type]
