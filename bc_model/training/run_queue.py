"""The queue of training runs: processes that train, outside of the app.

See `bc_model.jobs` for the queue and the control of jobs of all types, and
`bc_model.training.trainer` for training in this process.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bc_model import jobs as _jobs
from bc_model.data.official_folds import read_fold_file
from bc_model.data.registry import find_images_dir
from bc_model.errors import ConfigError, RunError
from bc_model.inference.bundle import open_bundled_model
from bc_model.jobs import JOB_DIRECTORY, JobSpec, launch_job, locked, niceness, queue_job
from bc_model.model import NAMED_WEIGHTS, require_weights_file
from bc_model.training.config import TrainingConfig
from bc_model.training.resume import require_resumable
from bc_model.training.run import Run, list_runs, new_run_id
from bc_model.utils.processor import require_tensorflow


def start_run(config: TrainingConfig, runs: Path) -> Run:
    """Queue a training run, and start its process if the machine has a free place.

    Parameters
    ----------
    config : TrainingConfig
        The configuration. Relative paths refer to the current directory.
    runs : Path
        The directory of all runs; created if missing.

    Returns
    -------
    Run
        The run, queued or starting.

    Raises
    ------
    WeightsError
        The weights file is missing or invalid.
    SplitError
        The fold file is missing or invalid.
    ConfigError
        BC_MAX_RUNS or BC_NICENESS is invalid.
    ProcessorError
        The processor cannot run TensorFlow.
    """
    check_environment()
    config = resolve_paths(config)
    run = _create(Path(runs).resolve(), new_run_id(config.backbone), config)
    advance_queue(runs)
    return run


def resume_run(run: Run, *, accept_changes: bool = False) -> None:
    """Queue a run that has not finished; it continues after its last complete epoch.

    Parameters
    ----------
    run : Run
        An interrupted, canceled or failed run.
    accept_changes : bool
        Resume even if the data, the split or the code have changed.

    Raises
    ------
    RunError
        The run is queued, running or done, or its configuration is missing.
    ConfigError
        BC_MAX_RUNS or BC_NICENESS is invalid.
    """
    check_environment()
    with locked(run.path.parent):
        require_resumable(run)
        queue_run(run, accept_changes=accept_changes)
    advance_queue(run.path.parent)


def advance_queue(runs: Path) -> list[str]:
    """Start queued runs, oldest first, up to BC_MAX_RUNS, and return their names."""
    return _jobs.advance_queue(runs, list_runs, launch_run, max_runs)


def queue_run(
    run: Run, *, accept_changes: bool = False, scheduler: str = "", task: str = ""
) -> None:
    """Queue a run; the caller ensures that no process works on it.

    With `accept_changes`, changes are accepted until ``config.json`` changes. `scheduler` and
    `task` are the cluster scheduler and the task that start the run, if a cluster does.
    """
    accepted = run.config_sha256() if accept_changes else ""
    spec = make_spec(accepted_config_sha256=accepted, scheduler=scheduler, task=task)
    queue_job(run, spec)


def make_spec(**fields: str) -> JobSpec:
    """Return how a run is started, with further fields of `JobSpec`."""
    command = ("train", "--resume", "--run", JOB_DIRECTORY)
    return JobSpec(command=command, low_priority=True, **fields)  # type: ignore[arg-type]


def launch_run(
    run: Run, *, tied: bool = False, environment: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Start the process of a queued or interrupted run; see `bc_model.jobs.launch_job`."""
    arguments = ["--accept-changes"] if accepts_changes(run) else []
    if tied:
        arguments.append("--end-with-stdin")
    return launch_job(run, arguments, tied=tied, environment=environment)


def accepts_changes(run: Run) -> bool:
    """Return whether changes are accepted: a training run replaces ``config.json`` with them."""
    accepted = run.read_spec().accepted_config_sha256
    return accepted != "" and accepted == run.config_sha256()


def resolve_paths(config: TrainingConfig) -> TrainingConfig:
    """Return a configuration with absolute paths, after checking its weights and fold files.

    Raises `ConfigError` if a path is not UTF-8, because ``config.json`` cannot contain it.

    The name of a registered dataset becomes the path of its images.
    """
    weights, fold_file = config.weights, config.official_fold_file
    if weights == "bundled":
        open_bundled_model()
    elif weights not in NAMED_WEIGHTS:
        weights = str(Path(weights).resolve())
        require_weights_file(Path(weights))
    if fold_file:
        fold_file = str(Path(fold_file).resolve())
        read_fold_file(Path(fold_file))
    data = str(find_images_dir(config.data).resolve())
    for path in (data, weights, fold_file):
        if any("\ud800" <= character <= "\udfff" for character in path):
            raise ConfigError(f"The path {path!a} is not UTF-8. Rename the file or its folder.")
    return replace(config, data=data, weights=weights, official_fold_file=fold_file)


def check_environment() -> None:
    """Raise an error if a run cannot start: the processor, BC_MAX_RUNS or BC_NICENESS."""
    require_tensorflow()
    max_runs()
    niceness()


def max_runs() -> int:
    """Return how many runs may train at a time on this machine: BC_MAX_RUNS (1 to 64), or 1."""
    value = os.environ.get("BC_MAX_RUNS", "1")
    if not value.isdecimal() or not 1 <= int(value) <= 64:
        raise ConfigError(
            f"Invalid environment variable BC_MAX_RUNS. Expected 1 to 64, got '{value}'."
        )
    return int(value)


def _create(runs: Path, run_id: str, config: TrainingConfig) -> Run:
    """Create a queued run with a name of its own, also for two starts within one second."""
    with locked(runs):
        for number in range(1, 1000):
            path = runs / (run_id if number == 1 else f"{run_id}-{number}")
            if not path.exists():
                return Run.create(path, config, make_spec())
    raise RunError(f"There are already 1,000 runs named '{run_id}'. Delete some of them.")
