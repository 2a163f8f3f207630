"""Train the runs of an experiment on a Dask cluster, one task per run.

All machines need this program with the same packages, and must see the directory of runs and the
data under the same paths. `check_workers` verifies this before a start.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import platform
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

import bc_model
from bc_model.data.registry import find_images_dir
from bc_model.errors import ConfigError, RunError
from bc_model.experiments.experiment import MISSING, run_states
from bc_model.experiments.plan import Experiment
from bc_model.jobs import FINAL_STATES, LOCK_FILE, locked
from bc_model.model import NAMED_WEIGHTS
from bc_model.training.config import TrainingConfig
from bc_model.training.provenance import PACKAGES, git_commit
from bc_model.training.run import Run
from bc_model.training.run_queue import launch_run
from bc_model.utils.io import read_text, write_text_atomic

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_TIMEOUT_S = 10.0
MAX_RETRIES = 2
"""Retries of a run whose process ended without a status. Dask counts lost workers separately, see
``distributed.scheduler.allowed-failures``."""

_POLL_INTERVAL_S = 0.5
_TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-cpu")

_training_lock = threading.Lock()
"""A worker trains one run at a time, also with several threads."""

logger = logging.getLogger("bc_model.training")


@contextlib.contextmanager
def connect_cluster(scheduler: str, timeout_s: float = CONNECT_TIMEOUT_S) -> Iterator[Client]:
    """Connect to a Dask scheduler, as a context manager of its client.

    Parameters
    ----------
    scheduler : str
        Address such as 'tcp://10.0.0.1:8786'. A 'tls://' address uses the certificates of Dask's
        configuration.
    timeout_s : float
        Timeout in seconds.

    Raises
    ------
    ConfigError
        The packages are missing, no scheduler answers, or it has no worker.
    """
    try:
        from distributed import Client
    except ImportError as error:
        install = "pip install -r requirements-cluster.txt"
        raise ConfigError(f"Missing packages of the extra 'cluster'. Run {install}.") from error
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are reported by this program
    # A client that cannot connect writes to stderr repeatedly, so the server is identified first.
    # The thread of a notebook already has a running event loop, so another thread is used.
    with ThreadPoolExecutor(1) as pool:
        kind = pool.submit(asyncio.run, _identify_server(scheduler, timeout_s)).result()
    if kind != "Scheduler":
        raise ConfigError(
            f"No Dask scheduler at {scheduler}. Expected a scheduler within {timeout_s:.0f} s, got "
            f"{kind or 'no answer'}. Use the address that `dask scheduler` prints, such as "
            "tcp://10.0.0.1:8786."
        )
    with Client(scheduler, timeout=timeout_s, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=timeout_s)
        except TimeoutError as error:
            raise ConfigError(
                f"The Dask scheduler at {scheduler} has no worker. Start one in the project "
                f"directory with python -m dask worker {scheduler} --nthreads 1."
            ) from error
        yield client


async def _identify_server(address: str, timeout_s: float) -> str:
    """Return the kind of the Dask server at an address; empty if none answers."""
    from distributed import Security
    from distributed.core import rpc

    async def identify() -> dict[str, Any]:
        connection_args = Security().get_connection_args("client")
        async with rpc(address, timeout=timeout_s, connection_args=connection_args) as server:
            return await server.identity()

    try:
        # A server of another protocol may accept the connection and never answer.
        return str((await asyncio.wait_for(identify(), timeout_s + 0.5))["type"])
    except Exception:
        return ""


def check_workers(client: Client, runs_dir: Path, configs: Iterable[TrainingConfig]) -> None:
    """Verify that every worker can read, write and lock the files of the runs.

    Processors with and without bfloat16 cause a warning only, because each can train.

    Parameters
    ----------
    client : distributed.Client
    runs_dir : Path
        Directory of all runs; created if missing.
    configs : iterable of TrainingConfig
        Configurations of the runs.

    Raises
    ------
    RunError
        A worker does not meet a requirement.
    """
    runs_dir = Path(runs_dir).resolve()
    is_new = not runs_dir.exists()
    runs_dir.mkdir(parents=True, exist_ok=True)
    configs = list(configs)
    token = secrets.token_hex(8)
    probe = runs_dir / f".probe-{token}"
    data = {str(find_images_dir(config.data).resolve()) for config in configs}
    files = {config.weights for config in configs} - set(NAMED_WEIGHTS)
    files |= {config.official_fold_file for config in configs} - {""}
    requirements = {
        "probe": str(probe), "token": token,
        "directories": {directory: hash_listing(directory) for directory in sorted(data)},
        "files": sorted(str(Path(file).resolve()) for file in files),
        "program": program_version(), "versions": package_versions(),
    }  # fmt: skip
    try:
        write_text_atomic(probe, token)
        _require_no_problem(_run_on_workers(client, find_problem, requirements))
    except RunError:
        probe.unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):
                runs_dir.rmdir()
        raise
    finally:
        probe.unlink(missing_ok=True)
    with locked(runs_dir):
        _require_no_problem(_run_on_workers(client, find_lock_problem, str(runs_dir / LOCK_FILE)))
    workers = {able: address for address, able in _run_on_workers(client, has_bfloat16).items()}
    if len(workers) > 1:
        logger.warning(
            "The worker %s supports bfloat16 and the worker %s does not. A run that loses its "
            "worker cannot move between them, because its compute dtype would change.",
            workers[True], workers[False],
        )  # fmt: skip


def _run_on_workers(client: Client, function: Callable[..., Any], *arguments: Any) -> dict:
    """Return the result of a function on each worker, by address."""
    results = client.run(function, *arguments, on_error="return")
    for address, result in results.items():
        if isinstance(result, Exception):
            raise RunError(
                f"The worker {address} cannot run this program ({result}). Start it in the project "
                "directory with python -m dask worker."
            )
    return dict(results)


def _require_no_problem(problems: dict[str, str]) -> None:
    for address, problem in problems.items():
        if problem:
            raise RunError(f"The worker {address} {problem}.")


def find_problem(requirements: dict[str, Any]) -> str:
    """Return the first requirement of `check_workers` that this worker misses; empty if none."""
    probe = Path(requirements["probe"])
    try:
        is_shared = read_text(probe) == requirements["token"]
    except OSError:
        is_shared = False
    if not is_shared:
        return f"cannot read the directory of runs {probe.parent}. Mount it on the worker"
    own_file = probe.with_name(f"{probe.name}-{os.getpid()}")
    try:
        own_file.touch()
        own_file.unlink()
    except OSError as error:
        return f"cannot write to the directory of runs {probe.parent} ({error.strerror})"
    for directory, listing_hash in requirements["directories"].items():
        if hash_listing(directory) != listing_hash:
            return f"has different files in the dataset {directory}. Mount the dataset there"
    for file in requirements["files"]:
        if not Path(file).is_file():
            return f"cannot read the file {file}. Move it to a shared directory"
    pairs = zip(program_version(), requirements["program"], strict=True)
    for name, (own, required) in zip(("version", "commit"), pairs, strict=True):
        if own and required and own != required:
            return f"has another {name} of this program. Expected {required}, got {own}"
    own_versions = package_versions()
    for name, required in requirements["versions"].items():
        if own_versions[name] != required:
            own, required = own_versions[name] or "not installed", required or "not installed"
            return (
                f"cannot resume a run exactly: expected {name} {required}, got {own}. Install the "
                "same packages on all machines"
            )
    return ""


def find_lock_problem(path: str) -> str:
    """Return why the lock that this program holds has no effect on a worker; empty if it has."""
    directory = Path(path).parent
    try:
        with filelock.FileLock(path, timeout=0):
            return (
                f"acquires the lock of the directory of runs {directory} while another machine "
                "holds it, so two machines could train one run. Mount it with shared locks"
            )
    except filelock.Timeout:
        return ""
    except (OSError, NotImplementedError) as error:
        return f"cannot lock the directory of runs {directory} ({error}). Mount it with locks"


def hash_listing(directory: str) -> str:
    """Return the SHA-256 of the file names in a directory; empty if it cannot be read."""
    try:
        names = sorted(path.name for path in Path(directory).iterdir())
    except OSError:
        return ""
    return hashlib.sha256("\n".join(names).encode(errors="replace")).hexdigest()


def program_version() -> tuple[str, str | None]:
    """Return the version of this program, and its git commit or None."""
    return bc_model.__version__, git_commit()


def package_versions() -> dict[str, str | None]:
    """Return the versions that exact resume depends on; None for a package that is missing."""
    tensorflow = next(filter(None, map(_installed_version, _TENSORFLOW_PACKAGES)), None)
    versions = {name: _installed_version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "tensorflow": tensorflow, **versions}


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def has_bfloat16() -> bool:
    """Return whether this processor supports bfloat16, which the compute dtype 'auto' prefers."""
    from bc_model.inference.precision import supported_precisions

    return "bf16" in supported_precisions()


def submit_experiment(client: Client, experiment: Experiment, runs_dir: Path) -> dict[str, Future]:
    """Submit the unfinished runs of a started experiment to a cluster.

    Running runs are submitted as well: the scheduler returns the same task, or a new one that waits
    for the run and continues it if its process is lost.

    Parameters
    ----------
    client : distributed.Client
    experiment : Experiment
        The result of `start_experiment` with a scheduler.
    runs_dir : Path
        Directory of all runs.

    Returns
    -------
    dict of str to Future
        Tasks by run name. They continue after this process ends.
    """
    from distributed import fire_and_forget

    futures = {}
    for name, status in run_states(experiment, runs_dir).items():
        run = Run(Path(runs_dir).resolve() / name)
        task = run.read_spec().task
        if task and status["state"] not in FINAL_STATES | {MISSING}:
            # An equal key refers to the task of an earlier call.
            futures[name] = client.submit(
                train_on_worker, str(run.path), task, key=task, pure=False, retries=MAX_RETRIES
            )
    if futures:
        fire_and_forget(list(futures.values()))
    return futures


def collect_finished(client: Client, futures: dict[str, Future], runs_dir: Path) -> bool:
    """Remove finished tasks, write failures to their runs, and return whether tasks are pending.

    Raises
    ------
    RunError
        The connection to the scheduler was lost.
    """
    if client.status != "running":
        raise RunError(
            "The connection to the Dask scheduler was lost. Start the experiment again when the "
            "scheduler is available; unfinished runs are resumed."
        )
    for name, future in list(futures.items()):
        if not future.done():
            continue
        if future.status != "finished":
            is_error = future.status == "error"
            reason = future.exception() if is_error else f"its task is {future.status}"
            run = Run(Path(runs_dir) / name)
            # The run may have been deleted in the meantime.
            with locked(run.path.parent), contextlib.suppress(RunError):
                is_pending = run.read_status()["state"] in ("queued", "interrupted")
                if is_pending and run.read_spec().task == str(future.key):
                    message = f"The cluster could not train this run: {reason}"
                    run.write_status("failed", message=message)
        del futures[name]
    return bool(futures)


def train_on_worker(path: str, task: str) -> str:
    """Train or resume one run until it ends, on a worker, and return its state.

    A run that was canceled, or whose ``job.json`` has another task, is not started. Raise
    `RunError` if the training process ends without a status; a retry may succeed.
    """
    run = Run(Path(path))
    if not run.status_file.is_file():
        raise RunError(
            f"The worker {platform.node()} cannot read the run {path}. Mount its directory there."
        )
    with _training_lock:
        process = _start_training(run, task)
        if process is not None:
            try:
                process.wait()
            finally:
                process.stdin.close()  # type: ignore[union-attr]
    status = run.read_status()
    if process is not None and status["state"] not in FINAL_STATES:
        raise RunError(status.get("message") or f"The run {run.name} ended as {status['state']}.")
    return str(status["state"])


def _start_training(run: Run, task: str) -> subprocess.Popen | None:
    """Start the training process; None if the run has ended or has another task.

    The process of a lost worker can still be alive, so the task waits until it has ended.
    """
    while True:
        with locked(run.path.parent):
            state = run.read_status()["state"]
            if state in FINAL_STATES or run.read_spec().task != task:
                return None
            if state in ("queued", "interrupted"):
                return launch_run(run, tied=True, environment=_training_environment())
        time.sleep(_POLL_INTERVAL_S)


def _training_environment() -> dict[str, str]:
    """Return the environment without the thread limits that Dask's nanny sets."""
    import dask

    nanny = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {name: v for name, v in os.environ.items() if str(nanny.get(name)) != v}
