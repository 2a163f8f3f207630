"""Start an experiment, list the states of its runs, and wait for it.

The runs of an experiment are ordinary runs, so the queue and the control of runs do not depend on
experiments. `bc_model.experiments.results` computes the metrics.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bc_model.errors import BcModelError, RunError
from bc_model.experiments.plan import (
    Experiment,
    ExperimentRun,
    Plan,
    create_experiment,
    experiment_file,
    read_experiment,
    require_experiment_name,
)
from bc_model.jobs import ENDED_STATES, JobStatus, locked
from bc_model.training.config import OPTIONS, TrainingConfig
from bc_model.training.run import Run, is_taken
from bc_model.training.run_queue import (
    advance_queue,
    check_environment,
    make_spec,
    queue_run,
    resolve_paths,
)
from bc_model.utils.serialization import to_json, write_record

MISSING = "missing"
"""State of a run without a run directory: deleted, or not created yet."""

_POLL_INTERVAL_S = 1.0

logger = logging.getLogger("bc_model.training")


def start_experiment(
    name: str, plan: Plan, runs_dir: Path, *, scheduler: str | None = None,
    accept_changes: bool = False,
) -> Experiment:  # fmt: skip
    """Queue the runs of an experiment that are not done.

    Parameters
    ----------
    name : str
        A valid run name of at most 40 characters.
    plan : list of (str, TrainingConfig)
        Labels and configurations, for example from `plan_experiment`.
    runs_dir : Path
        Directory of all runs; created if missing.
    scheduler : str, optional
        Address of the Dask scheduler that trains the runs. `bc_model.experiments.dask_cluster`
        submits them.
    accept_changes : bool, default=False
        Resume interrupted runs even if data or code have changed.

    Returns
    -------
    Experiment
        A run that cannot be queued is logged and stays 'missing'. The others are queued.

    Raises
    ------
    ConfigError
        The name or the plan is invalid.
    WeightsError
        A weights file is missing.
    RunError
        The name belongs to an experiment with another plan, or to a run outside this experiment.
    """
    require_experiment_name(name)
    check_environment()
    runs_dir = Path(runs_dir).resolve()
    plan = [(label, resolve_paths(config)) for label, config in plan]
    experiment = create_experiment(name, plan)
    with locked(runs_dir):
        has_file = experiment_file(runs_dir, name).exists()
        existing = read_experiment(runs_dir, name) if has_file else None
        # A name is free again once all runs of its experiment are deleted.
        if existing and (difference := _first_difference(existing, experiment)):
            if set(count_states(existing, runs_dir)) != {MISSING}:
                raise RunError(
                    f"The experiment '{name}' already exists with another plan: {difference}. Use "
                    "the same plan to continue it, or another name."
                )
            existing = None
        if existing:
            experiment = existing
        else:
            for run in experiment.runs:
                if is_taken(runs_dir / run.name):
                    raise RunError(
                        f"{runs_dir / run.name} already exists outside this experiment. Use "
                        "another experiment name."
                    )
            write_record(experiment_file(runs_dir, name), experiment)
        for run in experiment.runs:
            try:
                _queue(run, runs_dir, scheduler or "", accept_changes)
            except (BcModelError, OSError) as error:
                logger.warning("Run '%s' was not queued: %s", run.name, error)
    if scheduler is None:
        advance_queue(runs_dir)
    return experiment


def run_states(experiment: Experiment, runs_dir: Path) -> dict[str, JobStatus]:
    """Return the status of each run by name.

    The state is `MISSING` without a run directory, and 'interrupted' with a damaged status.
    """
    statuses: dict[str, JobStatus] = {}
    for member in experiment.runs:
        run = Run(Path(runs_dir) / member.name)
        try:
            statuses[run.name] = run.read_status()
        except RunError as error:
            if run.exists:
                statuses[run.name] = {"state": "interrupted", "message": str(error)}
            else:
                statuses[run.name] = {"state": MISSING, "message": "The run directory is missing."}
    return statuses


def count_states(experiment: Experiment, runs_dir: Path) -> dict[str, int]:
    """Count the runs of an experiment by state."""
    statuses = run_states(experiment, runs_dir).values()
    return dict(Counter(str(status["state"]) for status in statuses))


def wait_for_experiment(
    experiment: Experiment, runs_dir: Path, *,
    on_update: Callable[[dict[str, int]], None] | None = None,
    advance: Callable[[], bool] | None = None,
) -> None:  # fmt: skip
    """Wait until no run of an experiment is queued or running.

    Parameters
    ----------
    experiment : Experiment
    runs_dir : Path
    on_update : callable, optional
        Receives the result of `count_states` every second.
    advance : callable, optional
        Moves the runs forward every second, and returns True while some are pending. By default,
        it advances the queue of this machine.
    """
    is_finished = False
    while not is_finished:
        is_pending = advance() if advance else bool(advance_queue(runs_dir))
        counts = count_states(experiment, runs_dir)
        if on_update:
            on_update(counts)
        is_finished = not is_pending and set(counts) <= ENDED_STATES | {MISSING}
        if not is_finished:
            time.sleep(_POLL_INTERVAL_S)


def _queue(member: ExperimentRun, runs_dir: Path, scheduler: str, accept_changes: bool) -> None:
    run = Run(runs_dir / member.name)
    config = _read_config(run)
    if config not in (None, member.config):
        raise RunError(
            f"The configuration of run '{run.name}' differs from the experiment. Delete the run, "
            "or use another experiment name."
        )
    state = run.read_status()["state"] if run.status_file.exists() else MISSING
    if state == "done" or state not in ENDED_STATES | {"queued", MISSING}:
        return
    if state == "queued" and run.read_spec().scheduler == scheduler:
        return
    task = f"{run.name}-{secrets.token_hex(4)}" if scheduler else ""
    if config is None and not run.exists:
        Run.create(run.path, member.config, make_spec(scheduler=scheduler, task=task))
        return
    if config is None:
        run.write_config({"config": to_json(member.config)})
    queue_run(run, accept_changes=accept_changes, scheduler=scheduler, task=task)


def _read_config(run: Run) -> TrainingConfig | None:
    """Return the configuration of a run; None if it has none yet."""
    try:
        return run.read_training_config()
    except RunError:
        return None


def _first_difference(existing: Experiment, requested: Experiment) -> str:
    """Describe the first difference between two experiments; empty if there is none."""
    old = {run.name: run.config for run in existing.runs}
    new = {run.name: run.config for run in requested.runs}
    for name in (name for name in new if name in old):
        for option in OPTIONS:
            values = [getattr(configs[name], option) for configs in (old, new)]
            if values[0] != values[1]:
                before, after = map(OPTIONS[option].format, values)
                return f"{option} is {before} there and {after} here"
    return "" if old == new else "it has other runs"
