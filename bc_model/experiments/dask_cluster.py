"""Runs of a study on a Dask cluster, `--scheduler tcp://...`: each run is one task.

The machines need the project and its packages, and see the folder of runs and the data under the
same paths. `cluster_check` looks whether they do; what a worker does is in `cluster_worker`.
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
from bc_model.errors import ConfigError, RunError
from bc_model.experiments.experiment import MISSING, run_states
from bc_model.experiments.plan import Experiment
from bc_model.jobs import FINAL_STATES, LOCK_FILE, locked
from bc_model.model import NAMED_WEIGHTS
from bc_model.training.config import TrainingConfig
from bc_model.training.provenance import git_commit
from bc_model.training.run import Run
from bc_model.training.run_queue import launch_run
from bc_model.utils.io import write_text_atomic

if TYPE_CHECKING:
    from distributed import Client, Future


_LOOK_EVERY_S = 0.5

_one_training = threading.Lock()
"""Held by the task that trains: one at a time, however many threads a worker has."""


def train_on_worker(path: str, task: str) -> str:
    """Train one run to its end, or what is left of it.

    Parameters
    ----------
    path : str
        The run folder.
    task : str
        The task that may start the run, as in its ``job.json``. If the run was canceled or given
        to another queue in the meantime, there is nothing to do.

    Returns
    -------
    str
        The state that the run is in.

    Raises
    ------
    RunError
        The training process is gone without a word; trying again may help.
    """
    run = Run(Path(path))
    if not run.status_file.is_file():
        raise RunError(f"{platform.node()} does not see the run {path}; mount its folder there.")
    with _one_training:
        child = _start(run, task)
        if child is not None:
            try:
                child.wait()
            finally:
                child.stdin.close()  # type: ignore[union-attr]
    status = run.read_status()
    if child is not None and status["state"] not in FINAL_STATES:
        raise RunError(status.get("message") or f"The run {run.name} ended as {status['state']}.")
    return str(status["state"])


def _start(run: Run, task: str) -> subprocess.Popen | None:
    """Start the training process; None when the run has ended or is not this task's any more.

    A task that Dask gave to another worker may find the old process not known to be dead yet: it
    waits, so that no two ever work on one run.
    """
    while True:
        with locked(run.path.parent):
            state = run.read_status()["state"]
            if state in FINAL_STATES or run.read_spec().task != task:
                return None
            if state in ("queued", "interrupted"):
                return launch_run(run, tied=True, environment=_environment())
        time.sleep(_LOOK_EVERY_S)


def _environment() -> dict[str, str]:
    """Return this process's environment without what Dask's nanny sets for threads of its own.

    A training process alone on a worker takes the threads it would take anywhere.
    """
    import dask

    by_nanny = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {name: v for name, v in os.environ.items() if str(by_nanny.get(name)) != v}


TIMEOUT_S = 10.0
RETRIES = 2
"""How often a run is tried again whose process went without a word. A worker that is lost does not
count: Dask gives its task to another, up to `distributed.scheduler.allowed-failures` times."""


@contextlib.contextmanager
def connect(scheduler: str, timeout_s: float = TIMEOUT_S) -> Iterator[Client]:
    """Connect to a Dask scheduler for the length of a block.

    Parameters
    ----------
    scheduler : str
        Its address, such as 'tcp://10.0.0.1:8786'; 'tls://' takes the certificates that Dask's own
        configuration names.
    timeout_s : float

    Yields
    ------
    distributed.Client

    Raises
    ------
    ConfigError
        The packages are missing, no scheduler answers, or it has no worker.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "A cluster needs the packages of the extra 'cluster'; install them with "
            "pip install -r requirements-cluster.txt."
        ) from error
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said here, once
    # Asked before there is a client, which complains on stderr for as long as it cannot connect.
    with ThreadPoolExecutor(1) as pool:  # a notebook's thread has a loop that is running already
        kind = pool.submit(asyncio.run, _kind_of_server(scheduler, timeout_s)).result()
    if kind != "Scheduler":
        raise ConfigError(
            f"{kind or 'Nobody'} answers at {scheduler}, not a Dask scheduler (waited "
            f"{timeout_s:.0f} s); give the address that `dask scheduler` prints, such as "
            "tcp://10.0.0.1:8786."
        )
    with Client(scheduler, timeout=timeout_s, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=timeout_s)
        except TimeoutError as error:
            raise ConfigError(
                f"The Dask scheduler at {scheduler} has no worker; start some in the project's "
                f"folder: python -m dask worker {scheduler} --nthreads 1."
            ) from error
        yield client


def submit_experiment(client: Client, experiment: Experiment, runs: Path) -> dict[str, Future]:
    """Hand over the runs that `start_experiment` has left to a cluster, those that go on included.

    The scheduler knows the task of a run that goes on, and gives it again; one that was started
    anew does not, and the task then waits beside the run in case its process is lost.

    Parameters
    ----------
    client : distributed.Client
    study : Study
    runs : Path

    Returns
    -------
    dict of str to Future
        By the name of the run. The tasks go on when this process ends.
    """
    from distributed import fire_and_forget

    futures = {}
    for name, status in run_states(experiment, runs).items():
        run = Run(Path(runs).resolve() / name)
        task = run.read_spec().task
        if task and status["state"] not in FINAL_STATES | {MISSING}:
            futures[name] = client.submit(
                train_on_worker,
                str(run.path),
                task,
                # The scheduler may know the task from an earlier call: then it is the same one.
                key=task,
                pure=False,
                retries=RETRIES,
            )
    if futures:
        fire_and_forget(list(futures.values()))
    return futures


def settle(client: Client, futures: dict[str, Future], runs: Path) -> bool:
    """Take out the tasks that have ended; a run whose task failed is told so in its folder.

    Returns
    -------
    bool
        True while some have not.

    Raises
    ------
    RunError
        The connection to the scheduler was lost.
    """
    if client.status != "running":
        raise RunError(
            "The connection to the Dask scheduler was lost; give the same command again once it is "
            "back, and what is not done goes on."
        )
    for name, future in list(futures.items()):
        if not future.done():
            continue
        if future.status != "finished":
            why = future.exception() if future.status == "error" else f"its task is {future.status}"
            _tell_failure(Run(Path(runs) / name), str(future.key), str(why))
        del futures[name]
    return bool(futures)


def _tell_failure(run: Run, task: str, why: str) -> None:
    # A run that was deleted meanwhile needs no telling.
    with locked(run.path.parent), contextlib.suppress(RunError):
        state = run.read_status()["state"]
        still_its = run.read_spec().task == task
        if still_its and state in ("queued", "interrupted"):
            run.write_status("failed", message=f"The cluster gave up on this run: {why}")


async def _kind_of_server(address: str, timeout_s: float) -> str:
    """Ask who answers at an address; empty when nobody does."""
    from distributed import Security
    from distributed.core import rpc

    async def ask() -> dict[str, Any]:
        secrets_of = Security().get_connection_args("client")
        async with rpc(address, timeout=timeout_s, connection_args=secrets_of) as server:
            return await server.identity()

    try:
        # A server of another kind may accept and then say nothing, or anything.
        return str((await asyncio.wait_for(ask(), timeout_s + 0.5))["type"])
    except Exception:
        return ""


_PACKAGES = ("keras", "numpy", "openvino", "opencv-python-headless", "pillow")
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu")
"""One of them is installed; the version counts."""

logger = logging.getLogger("bc_model.training")


def check_workers(client: Client, runs: Path, config: Iterable[TrainingConfig]) -> None:
    """Make sure that every worker sees, has and locks what the runs need.

    Processors of two kinds are told by a warning: each can train.

    Parameters
    ----------
    client : distributed.Client
    runs : Path
        Folder of all runs; made when missing.
    settings : iterable of TrainingConfig
        Of the runs.

    Raises
    ------
    RunError
        The sentence names the worker and what it lacks.
    """
    runs = Path(runs).resolve()
    is_new = not runs.exists()
    runs.mkdir(parents=True, exist_ok=True)
    config = list(config)
    token = secrets.token_hex(8)
    proxy = runs / f".probe-{token}"
    data = {str(Path(one.data).resolve()) for one in config}
    files = {one.weights for one in config} - set(NAMED_WEIGHTS)
    files |= {one.official_fold_file for one in config} - {""}
    needs = {
        "probe": str(proxy),
        "token": token,
        "folders": {folder: listing(folder) for folder in sorted(data)},
        "files": sorted(str(Path(file).resolve()) for file in files),
        "program": program(),
        "versions": versions(),
    }
    try:
        write_text_atomic(proxy, token)
        _require_none(_ask(client, look_around, needs))
    except RunError:
        proxy.unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):
                runs.rmdir()
        raise
    finally:
        proxy.unlink(missing_ok=True)
    with locked(runs):
        _require_none(_ask(client, lock_in_vain, str(runs / LOCK_FILE)))
    _warn_of_mixture(_ask(client, has_bfloat16))


def program() -> tuple[str, str | None]:
    """Return the version of this program and its commit, where git knows it."""
    return bc_model.__version__, git_commit()


def versions() -> dict[str, str | None]:
    """Return the versions without which a run is not resumed as the same run; None: not there."""
    found = {name: _version(name) for name in _PACKAGES}
    tensorflow = next(filter(None, map(_version, _TENSORFLOWS)), None)
    return {"python": platform.python_version(), "tensorflow": tensorflow, **found}


def has_bfloat16() -> bool:
    """Return whether this machine's processor has what 'auto' arithmetic takes where it can."""
    from bc_model.inference.precision import supported_precisions

    return "bf16" in supported_precisions()


def listing(folder: str) -> str:
    """Return a hash of the names in a folder; empty when it cannot be read."""
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except OSError:
        return ""
    return hashlib.sha256("\n".join(names).encode(errors="replace")).hexdigest()


def look_around(needs: dict[str, Any]) -> str:
    """Say what this worker lacks of what runs need; empty when nothing.

    Parameters
    ----------
    needs : dict
        ``proxy`` and ``token``, a file in the folder of runs and its content; ``folders`` with
        their `listing`; ``files``; ``program`` and ``versions`` as these functions return them.
    """
    proxy = Path(needs["probe"])
    try:
        shared = proxy.read_text(encoding="utf-8") == needs["token"]
    except OSError:
        shared = False
    if not shared:
        return f"does not see the folder of runs {proxy.parent}; mount it there"
    beside = proxy.with_name(f"{proxy.name}-{os.getpid()}")
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        return f"cannot write into the folder of runs {proxy.parent} ({error.strerror})"
    for folder, names in needs["folders"].items():
        if listing(folder) != names:
            return f"does not see the data set {folder} as it is here; mount it there"
    for file in needs["files"]:
        if not Path(file).is_file():
            return f"does not see the file {file}; put it where all machines see it"
    for name, mine, target in zip(("version", "commit"), program(), needs["program"], strict=True):
        if mine and target and mine != target:
            return f"has another {name} of this program ({mine}; here {target})"
    here = versions()
    for name, target in needs["versions"].items():
        if here[name] != target:
            return (
                f"has {name} {here[name] or 'not at all'}, and this machine {target or 'none'}: a "
                "run could not go on as the same run; install the same packages on all machines"
            )
    return ""


def lock_in_vain(path: str) -> str:
    """Try a lock that the caller's machine holds; say what is wrong when this worker gets it."""
    folder = Path(path).parent
    try:
        with filelock.FileLock(path, timeout=0):
            return (
                f"gets the lock of the folder of runs {folder} while another machine holds it, so "
                "two could train one run; mount it so that locks reach across machines"
            )
    except filelock.Timeout:
        return ""
    except (OSError, NotImplementedError) as error:
        return f"cannot lock the folder of runs {folder} ({error}); mount it with locks"


def _ask(client: Client, question: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return what each worker answers; one that cannot is an error."""
    answers = client.run(question, *arguments, on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            raise RunError(
                f"The worker {address} cannot run this program ({answer}); start it in the "
                "project's folder with python -m dask worker."
            )
    return dict(answers)


def _require_none(lacks: dict[str, str]) -> None:
    for address, lack in lacks.items():
        if lack:
            raise RunError(f"The worker {address} {lack}.")


def _warn_of_mixture(bfloat16: dict[str, bool]) -> None:
    address_of = {able: address for address, able in bfloat16.items()}
    if len(address_of) > 1:
        logger.warning(
            "The worker %s computes in bfloat16 and the worker %s does not: a run that loses its "
            "worker may not move between such, since its arithmetic would change.",
            address_of[True], address_of[False],
        )  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
