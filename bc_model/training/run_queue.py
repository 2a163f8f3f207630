"""The run queue: training runs as jobs, and the rules of runs that a job does not have.

The process is the `train` command of the command line, so that a closed tab, a refreshed page or a
restarted server cannot affect it. See `bc_model.jobs` for the queue and the control of jobs.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bc_model import jobs as _jobs
from bc_model.data.official_folds import read_fold_file
from bc_model.errors import ConfigError, RunError
from bc_model.inference.bundle import open_bundled_model
from bc_model.jobs import JOB_DIRECTORY, JobSpec, launch_job, locked, niceness, queue_job
from bc_model.model import NAMED_WEIGHTS, require_weights_file
from bc_model.training.config import TrainingConfig
from bc_model.training.resume import require_resumable
from bc_model.training.run import Run, list_runs, new_run_id


def start_run(config: TrainingConfig, runs: Path) -> Run:
    """Queue a training run, and start it if a place is free.

    Parameters
    ----------
    settings : TrainingConfig
        Valid settings. Relative paths refer to the current directory.
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
    """
    check_environment()
    config = resolve_paths(config)
    run = Run.create(_new_folder(Path(runs).resolve(), new_run_id(config.backbone)))
    run.write_config({"config": config.as_dict()})
    queue_run(run)
    advance_queue(runs)
    return run


def resolve_paths(config: TrainingConfig) -> TrainingConfig:
    """Return settings with absolute paths, which are valid for every process.

    Raises
    ------
    WeightsError
        The weights file is missing or invalid.
    SplitError
        The fold file is missing or invalid.
    """
    config = _with_absolute_paths(config)
    _check_weights_file(config)
    if config.official_fold_file:
        read_fold_file(Path(config.official_fold_file))
    return config


def queue_run(
    run: Run, *, accept_changes: bool = False, scheduler: str = "", task: str = ""
) -> None:
    """Queue a run; the caller ensures that no process works on it.

    Parameters
    ----------
    run : Run
        A run with its settings in `config.json`.
    accept_changes : bool
        Resume the run as its `config.json` is now, even if data or code have changed.
    scheduler, task : str
        Address of the cluster scheduler and the task that starts the run, if a cluster does.
    """
    spec = JobSpec(
        command=("train", "--resume", "--run", JOB_DIRECTORY),
        low_priority=True,
        accepted_config_sha256=run.config_sha256() if accept_changes else "",
        scheduler=scheduler,
        task=task,
    )
    queue_job(run, spec, "Waiting in the queue" + (f" of {scheduler}" if scheduler else ""))


def accepts_changes(run: Run) -> bool:
    """Return whether changes since `config.json` was written are accepted.

    The training process replaces that file once it has read the data. Later changes are new, and
    no person has accepted them.
    """
    accepted = run.read_spec().accepted_config_sha256
    return accepted != "" and accepted == run.config_sha256()


def launch_run(
    run: Run, *, tied: bool = False, environment: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Start the process that trains a queued or interrupted run; see `bc_model.jobs.launch_job`."""
    arguments = ["--accept-changes"] if accepts_changes(run) else []
    if tied:
        arguments.append("--end-with-stdin")
    return launch_job(run, arguments, tied=tied, environment=environment)


def resume_run(run: Run, *, accept_changes: bool = False) -> None:
    """Queue a run that ended before it was done; it resumes after its last complete epoch.

    Raises
    ------
    RunError
        The run is queued, running or done, or its settings are missing.
    ConfigError
        BC_MAX_RUNS or BC_NICENESS is invalid.
    """
    check_environment()
    with locked(run.path.parent):
        require_resumable(run)
        queue_run(run, accept_changes=accept_changes)
    advance_queue(run.path.parent)


def advance_queue(runs: Path) -> list[str]:
    """Start queued runs, oldest first, while fewer than `max_runs` run on this machine.

    Returns
    -------
    list of str
        The names of the started runs.
    """
    return _jobs.advance_queue(runs, list_runs, launch_run, max_runs)


def check_environment() -> None:
    """Refuse invalid environment variables before a run is queued; see `max_runs`, `niceness`."""
    max_runs()
    niceness()


def max_runs() -> int:
    """Return how many runs may train at a time: BC_MAX_RUNS, or one.

    Raises
    ------
    ConfigError
        BC_MAX_RUNS is not a number from 1 to 64.
    """
    value = os.environ.get("BC_MAX_RUNS", "1")
    if not value.isdecimal() or not 1 <= int(value) <= 64:
        raise ConfigError(f"BC_MAX_RUNS must be a number from 1 to 64; it is '{value}'.")
    return int(value)


def _check_weights_file(config: TrainingConfig) -> None:
    if config.weights == "bundled":
        open_bundled_model()
    elif config.weights not in NAMED_WEIGHTS:
        require_weights_file(Path(config.weights))


def _with_absolute_paths(config: TrainingConfig) -> TrainingConfig:
    weights = config.weights
    if weights not in NAMED_WEIGHTS:
        weights = str(Path(weights).resolve())
    official_fold_file = (
        str(Path(config.official_fold_file).resolve()) if config.official_fold_file else ""
    )
    data = str(Path(config.data).resolve())
    return dataclasses.replace(
        config, data=data, weights=weights, official_fold_file=official_fold_file
    )


def _new_folder(runs: Path, run_id: str) -> Path:
    """Make a new directory: two starts within a second get two directories."""
    runs.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = runs / (run_id if number == 1 else f"{run_id}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"There are already 1,000 runs named '{run_id}'. Delete some of them.")
