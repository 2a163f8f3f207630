"""Training on a Dask cluster, with a real scheduler and real workers on this machine."""

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
from bc_model.experiments import dask_cluster
from bc_model.experiments.dask_cluster import (
    check_workers,
    collect_finished,
    connect_cluster,
    package_versions,
    submit_experiment,
)
from bc_model.experiments.experiment import count_states, start_experiment, wait_for_experiment
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


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline
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


def training_processes(runs: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(str(runs) in argument for argument in process.info["cmdline"] or []):
            found.append(process.info["pid"])
    return found


def history_without_times(run: Run) -> list[dict]:
    clock = ("seconds", "time")
    return [{k: v for k, v in one.items() if k not in clock} for one in run.read_history()]


def assert_equal(one: Run, other: Run) -> None:
    """Assert that two runs are equal, bit for bit."""
    assert history_without_times(one) == history_without_times(other)
    weights = [
        weights_fingerprint(load_keras(run.model_dir / "model.keras")) for run in (one, other)
    ]
    assert weights[0] == weights[1]
    predictions = [run.evaluation_dir / "predictions.csv" for run in (one, other)]
    assert filecmp.cmp(*predictions, shallow=False)


@pytest.mark.slow
def test_run_of_a_killed_worker_is_resumed_bit_for_bit(
    cluster: Cluster, config: TrainingConfig, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    plan = plan_experiment(config, folds=[1])
    with connect_cluster(cluster.address) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
        check_workers(client, runs, [config])
        assert [path.name for path in runs.iterdir()] == [".lock"]
        submit_experiment(
            client, start_experiment("cv", plan, runs, scheduler=cluster.address), runs
        )
        run = Run(runs / "cv-fold1")
        wait_until(run.read_history)
    # Starting the same experiment again waits for its running runs.
    with connect_cluster(cluster.address) as client:
        experiment = start_experiment("cv", plan, runs, scheduler=cluster.address)
        futures = submit_experiment(client, experiment, runs)
        assert list(futures) == [run.name]
        wait_until(lambda: len(run.read_history()) >= 3)
        victim = psutil.Process(run.read_status()["pid"]).parent()
        assert victim is not None
        assert victim.pid in [process.pid for process in cluster.workers]
        victim.kill()
        wait_for_experiment(
            experiment, runs, advance=lambda: collect_finished(client, futures, runs)
        )

    assert count_states(experiment, runs) == {"done": 1}, run.read_status()
    assert "Resumed after epoch" in run.read_log()
    assert training_processes(runs) == []
    alone = Run.create(tmp_path / "alone")
    train(experiment.runs[0].config, alone)
    # The worker check compares the same versions as exact resume.
    assert alone.read_config()["versions"] == package_versions() | {
        "bc_model": bc_model.__version__
    }
    assert_equal(run, alone)


@pytest.mark.slow
def test_cross_validation_with_a_lost_worker_equals_one_machine(
    cluster: Cluster, config: TrainingConfig, tmp_path: Path
) -> None:
    options = [
        "sweep", config.data, "--name", "cv", "--backbone", "tiny", "--weights", "none",
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
        output_here, _ = alone.communicate(timeout=5 * PATIENCE_S)
    assert alone.returncode == 0

    with sweep(there, "--scheduler", cluster.address) as clustered:
        run = Run(there / "cv-fold0")
        wait_until(lambda: len(run.read_history()) >= 3)
        victim = psutil.Process(run.read_status()["pid"]).parent()
        assert victim is not None
        victim.kill()
        output_there, errors = clustered.communicate(timeout=5 * PATIENCE_S)
    assert clustered.returncode == 0, errors
    assert "Traceback" not in errors

    assert "Resumed after epoch" in run.read_log()
    assert training_processes(there) == []
    groups = [json.loads(output)["groups"] for output in (output_here, output_there)]
    assert groups[0] == groups[1]
    assert groups[0][0]["folds"] == [0, 1, 2]
    assert groups[0][0]["report"]["n_images"] == 30
    for fold in range(3):
        assert_equal(Run(here / f"cv-fold{fold}"), Run(there / f"cv-fold{fold}"))


# Connection


def test_connect_cluster_without_scheduler_raises() -> None:
    for address in ("tcp://127.0.0.1:9", "nonsense", "http://127.0.0.1:9"):
        with (
            pytest.raises(ConfigError, match=f"No Dask scheduler at {address}.* got no answer"),
            connect_cluster(address, timeout_s=0.3),
        ):
            pass


def test_connect_cluster_missing_packages_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ConfigError, match=r"the extra 'cluster'.* requirements-cluster\.txt"),
        connect_cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_cluster_without_usable_worker_raises(
    scheduler: Callable[[], str],
    worker: Callable[..., subprocess.Popen],
    config: TrainingConfig,
    tmp_path: Path,
) -> None:
    address = scheduler()
    with (
        pytest.raises(ConfigError, match="has no worker"),
        connect_cluster(address, 1.0),
    ):
        pass
    worker(address, cwd=tmp_path)
    runs = tmp_path / "runs"
    with connect_cluster(address, PATIENCE_S) as client:
        (address_of_worker,) = client.scheduler_info()["workers"]
        with pytest.raises(
            RunError, match=f"worker {address_of_worker} cannot run this program .*bc_model"
        ):
            check_workers(client, runs, [config])
    assert not runs.exists()
    with (
        pytest.raises(ConfigError, match=f"^No Dask scheduler at {address_of_worker}.* got Worker"),
        connect_cluster(address_of_worker),
    ):
        pass


# The task of a worker


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run")
    run.write_config({"config": {}})
    queue_run(run, scheduler="tcp://there:1", task="mine")
    return run


@pytest.fixture(autouse=True)
def _no_launch(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "run" in request.fixturenames:
        monkeypatch.setattr(dask_cluster, "launch_run", lambda *_, **__: pytest.fail("was started"))


def test_train_on_worker_canceled_run_is_not_started(run: Run) -> None:
    cancel_job(run)
    assert dask_cluster.train_on_worker(str(run.path), "mine") == "canceled"


def test_train_on_worker_run_of_another_queue_is_not_started(run: Run) -> None:
    queue_run(run)
    assert dask_cluster.train_on_worker(str(run.path), "mine") == "queued"


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_train_on_worker_run_started_by_another_queue_is_not_started(run: Run, state: str) -> None:
    queue_run(run)
    run.write_status("running")
    if state == "interrupted":
        (run.path / "status.json").write_text('{"state": "running"}')
    assert dask_cluster.train_on_worker(str(run.path), "mine") == state


def test_train_on_worker_waits_for_a_running_process(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_status("running")
    monkeypatch.setattr(dask_cluster.time, "sleep", lambda _: run.write_status("done"))
    assert dask_cluster.train_on_worker(str(run.path), "mine") == "done"


def test_train_on_worker_missing_run_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"The worker .* cannot read the run .*gone\. Mount"):
        dask_cluster.train_on_worker(str(tmp_path / "gone"), "mine")


class CrashedProcess:
    """A training process that ends without a status."""

    stdin = BytesIO()

    def wait(self) -> int:
        return 1


def test_train_on_worker_crashed_process_raises_for_a_retry(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(run: Run, **_: object) -> CrashedProcess:
        (run.path / "status.json").write_text('{"state": "running"}')
        (run.path / "stderr.txt").write_text("out of memory")
        return CrashedProcess()

    monkeypatch.setattr(dask_cluster, "launch_run", launch)
    with pytest.raises(RunError, match=r"ended unexpectedly\. Last error output: out of memory"):
        dask_cluster.train_on_worker(str(run.path), "mine")


def test_training_environment_omits_the_thread_limits_of_the_nanny(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import distributed  # noqa: F401  loads the configuration of the nanny

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")  # set by the user
    environment = dask_cluster._training_environment()
    assert "OMP_NUM_THREADS" not in environment
    assert environment["MKL_NUM_THREADS"] == "7"
    assert environment["PATH"] == os.environ["PATH"]


class RecordingClient:
    """A client that records the submitted tasks."""

    def __init__(self) -> None:
        self.submitted: list[tuple[object, ...]] = []

    def submit(self, _: object, *arguments: object, key: str, **__: object) -> str:
        self.submitted.append((*arguments, key))
        return key


@pytest.mark.parametrize(
    ("state", "is_submitted"),
    [("queued", True), ("starting", True), ("running", True), ("paused", True), ("done", False),
     ("failed", False), ("canceled", False)],
)  # fmt: skip
def test_submit_experiment_submits_the_task_of_unfinished_runs(
    run: Run, monkeypatch: pytest.MonkeyPatch, state: str, is_submitted: bool
) -> None:
    monkeypatch.setattr("distributed.fire_and_forget", lambda _: None)
    names = (run.name, "gone")
    members = tuple(ExperimentRun(name, "", "", TrainingConfig("set")) for name in names)
    client = RecordingClient()
    run.write_status(state)
    futures = submit_experiment(client, Experiment("s", "", members), run.path.parent)  # type: ignore[arg-type]
    assert client.submitted == ([(str(run.path), "mine", "mine")] if is_submitted else [])
    assert futures == ({run.name: "mine"} if is_submitted else {})
    queue_run(run)  # queued on this machine, not for the cluster
    assert submit_experiment(client, Experiment("s", "", members), run.path.parent) == {}  # type: ignore[arg-type]


# Finished tasks


class FailedFuture:
    """A future whose task has failed."""

    def __init__(self, key: str, status: str = "error") -> None:
        self.key, self.status = key, status

    def done(self) -> bool:
        return True

    def exception(self) -> Exception:
        return RunError("its machine is out of memory")


class ClientWithStatus:
    """A client with a connection status."""

    def __init__(self, status: str = "running") -> None:
        self.status = status


@pytest.mark.parametrize(
    ("status", "reason"),
    [("error", "its machine is out of memory"), ("cancelled", "its task is cancelled")],
)
def test_collect_finished_writes_the_failure_to_the_run(run: Run, status: str, reason: str) -> None:
    futures = {"run": FailedFuture("mine", status)}
    assert not collect_finished(ClientWithStatus(), futures, run.path.parent)  # type: ignore[arg-type]
    assert futures == {}
    written = run.read_status()
    assert written["state"] == "failed"
    assert written["message"] == f"The cluster could not train this run: {reason}"


@pytest.mark.parametrize("state", ["done", "canceled", "running"])
def test_collect_finished_does_not_change_a_run_of_another_task(run: Run, state: str) -> None:
    run.write_status(state)
    collect_finished(ClientWithStatus(), {"run": FailedFuture("mine")}, run.path.parent)  # type: ignore[arg-type]
    assert run.read_status()["state"] == state
    queue_run(run)
    collect_finished(ClientWithStatus(), {"run": FailedFuture("mine")}, run.path.parent)  # type: ignore[arg-type]
    assert run.read_status()["state"] == "queued"


def test_collect_finished_lost_connection_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="connection to the Dask scheduler was lost"):
        collect_finished(ClientWithStatus("connecting"), {}, tmp_path)  # type: ignore[arg-type]
