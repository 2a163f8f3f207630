"""Runs of a study on a Dask cluster, `--scheduler tcp://...`: each run is one task.

The machines need the project and its packages, and see the folder of runs and the data under the
same paths. `cluster_check` looks whether they do; what a worker does is in `cluster_worker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bc_model.errors import RunError, SettingsError
from bc_model.jobs import FINAL_STATES, locked
from bc_model.training.cluster_worker import train_on_worker
from bc_model.training.run_folder import RunFolder
from bc_model.training.study import MISSING, member_states
from bc_model.training.study_file import Study

if TYPE_CHECKING:
    from distributed import Client, Future

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
    SettingsError
        The packages are missing, no scheduler answers, or it has no worker.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError(
            "A cluster needs the packages of the extra 'cluster'; install them with "
            "pip install -r requirements-cluster.txt."
        ) from error
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said here, once
    # Asked before there is a client, which complains on stderr for as long as it cannot connect.
    with ThreadPoolExecutor(1) as pool:  # a notebook's thread has a loop that is running already
        kind = pool.submit(asyncio.run, _kind_of_server(scheduler, timeout_s)).result()
    if kind != "Scheduler":
        raise SettingsError(
            f"{kind or 'Nobody'} answers at {scheduler}, not a Dask scheduler (waited "
            f"{timeout_s:.0f} s); give the address that `dask scheduler` prints, such as "
            "tcp://10.0.0.1:8786."
        )
    with Client(scheduler, timeout=timeout_s, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=timeout_s)
        except TimeoutError as error:
            raise SettingsError(
                f"The Dask scheduler at {scheduler} has no worker; start some in the project's "
                f"folder: python -m dask worker {scheduler} --nthreads 1."
            ) from error
        yield client


def submit_study(client: Client, study: Study, runs: Path) -> dict[str, Future]:
    """Hand over the runs that `start_study` has left to a cluster, those that go on included.

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
    for name, status in member_states(study, runs).items():
        run = RunFolder(Path(runs).resolve() / name)
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
            _tell_failure(RunFolder(Path(runs) / name), str(future.key), str(why))
        del futures[name]
    return bool(futures)


def _tell_failure(run: RunFolder, task: str, why: str) -> None:
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
