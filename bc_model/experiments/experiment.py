"""A study: runs that belong together, as the folds of a cross-validation or the values of a sweep.

Its runs are runs like any other in the folder of all runs, so the queue, the pages and what can be
asked of a run know nothing of studies. A study is started here and waited for; figures of it are
the work of `bc_model.experiments.results`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bc_model.errors import BcModelError, ConfigError, RunError
from bc_model.experiments.plan import (
    MAX_LABEL,
    Experiment,
    ExperimentRun,
    Plan,
    experiment_file,
    group_words,
    read_experiment,
    require_distinct,
    write_experiment,
)
from bc_model.jobs import ENDED_STATES, is_name, locked
from bc_model.training.config import OPTIONS, TrainingConfig
from bc_model.training.run import Run, is_taken
from bc_model.training.run_queue import (
    advance_queue,
    check_environment,
    queue_run,
    resolve_paths,
)
from bc_model.utils.serialization import from_json, to_json

MAX_NAME = 40
MISSING = "missing"
"""The state of a run whose folder is not there: deleted, or not made yet."""

_LOOK_EVERY_S = 1.0

logger = logging.getLogger("bc_model.training")


def start_experiment(
    name: str,
    plan: Plan,
    runs: Path,
    *,
    scheduler: str | None = None,
    accept_changes: bool = False,
) -> Experiment:
    """Queue the runs of a study, or those of them that are not done.

    Parameters
    ----------
    name : str
        As a run may be called, at most `MAX_NAME` letters.
    plan : list of (str, TrainingConfig)
        From `plan_experiment`, or any labels and settings.
    runs : Path
        Folder of all runs; made when missing.
    scheduler : str, optional
        Leave the runs to this Dask cluster; `bc_model.experiments.dask_cluster` hands them over.
    accept_changes : bool
        Go on with interrupted runs even though data or code are not what they were.

    Returns
    -------
    Study
        A run that could not be queued is logged, stays 'missing' and does not stop the others.

    Raises
    ------
    ConfigError
        The name or the plan cannot be used.
    WeightsError
        A weights file is not there.
    RunError
        The name is taken by a study of other settings, or a run of that name is not of the study.
    """
    if len(name) > MAX_NAME or not is_name(name):
        raise ConfigError(
            f"'{name[:100]}' cannot be the name of a study: it may hold up to {MAX_NAME} letters, "
            "digits, '.', '_' and '-', and begins with a letter or digit."
        )
    check_environment()
    runs = Path(runs).resolve()
    experiment = _make(name, plan)
    with locked(runs):
        there = read_experiment(runs, name) if experiment_file(runs, name).exists() else None
        # A study whose runs were all deleted keeps its name from nobody.
        if there and (differs := _difference(there, experiment)):
            if set(experiment_state(there, runs)) != {MISSING}:
                raise RunError(
                    f"There is a study {name} already, with other settings: {differs}. Give the "
                    "same settings to go on with it, or another name."
                )
            there = None
        if there:
            experiment = there
        else:
            for member in experiment.members:
                if is_taken(runs / member.run):
                    raise RunError(
                        f"There is {runs / member.run} already that is not of this study; give the "
                        "study another name."
                    )
            write_experiment(experiment, runs)
        for member in experiment.members:
            try:
                _queue(member, runs, scheduler, accept_changes)
            except (BcModelError, OSError) as error:
                logger.warning("%s could not be queued: %s", member.run, error)
    if scheduler is None:
        advance_queue(runs)
    return experiment


def run_states(experiment: Experiment, runs: Path) -> dict[str, dict[str, Any]]:
    """Return the status of each run by its name; `MISSING` where there is no readable one."""
    found: dict[str, dict[str, Any]] = {}
    for member in experiment.members:
        try:
            found[member.run] = Run(Path(runs) / member.run).read_status()
        except RunError:
            found[member.run] = {"state": MISSING, "message": "Its folder is not there."}
    return found


def experiment_state(experiment: Experiment, runs: Path) -> dict[str, int]:
    """Count the runs of a study by their state."""
    return dict(Counter(str(one["state"]) for one in run_states(experiment, runs).values()))


def wait_for_experiment(
    experiment: Experiment,
    runs: Path,
    *,
    tell: Callable[[dict[str, int]], None] | None = None,
    look: Callable[[], bool] | None = None,
) -> None:
    """Wait until nobody works on a study any more, and keep it going meanwhile.

    Parameters
    ----------
    study : Study
    runs : Path
    tell : callable, optional
        Called with `experiment_state` every second.
    look : callable, optional
        Called every second; returns True while there is more to come. Default moves the queue on
        this machine.
    """
    over = False
    while not over:
        more = look() if look else bool(advance_queue(runs))
        state = experiment_state(experiment, runs)
        if tell:
            tell(state)
        over = not more and set(state) <= ENDED_STATES | {MISSING}
        if not over:
            time.sleep(_LOOK_EVERY_S)


def _make(name: str, plan: Plan) -> Experiment:
    plan = [(label, resolve_paths(config)) for label, config in plan]
    require_distinct(plan)
    for label, _ in plan:
        if len(label) > MAX_LABEL or not is_name(f"{name}-{label}"):
            raise ConfigError(
                f"'{label[:100]}' cannot be the label of a run: it may hold up to {MAX_LABEL} "
                "letters, digits, '.', '_' and '-'."
            )
    groups = group_words([config for _, config in plan])
    members = tuple(
        ExperimentRun(f"{name}-{label}", label, group, config)
        for (label, config), group in zip(plan, groups, strict=True)
    )
    return Experiment(name, datetime.now(UTC).isoformat(timespec="seconds"), members)


def _queue(member: ExperimentRun, runs: Path, scheduler: str | None, accept_changes: bool) -> None:
    run = Run(runs / member.run)
    config = _config_of(run)
    if config not in (None, member.config):
        raise RunError(
            f"the run {run.name} has other settings than the study says; delete it, or give the "
            "study another name."
        )
    state = MISSING
    if config and run.status_file.exists():
        state = run.read_status()["state"]
    if state == "done" or state not in ENDED_STATES | {"queued", MISSING}:
        return
    if state == "queued" and run.read_spec().scheduler == (scheduler or ""):
        return
    if config is None:
        run.path.mkdir(exist_ok=True)
        run.write_config({"config": to_json(member.config)})
    task = f"{run.name}-{secrets.token_hex(4)}" if scheduler else ""
    queue_run(run, accept_changes=accept_changes, scheduler=scheduler or "", task=task)


def _config_of(run: Run) -> TrainingConfig | None:
    """Return the settings of a run; None when it has none yet."""
    try:
        return from_json(TrainingConfig, run.read_config()["config"])
    except (RunError, KeyError):
        return None


def _difference(there: Experiment, asked: Experiment) -> str:
    """Say how two studies differ first; empty when they are the same."""
    known = {member.run: member.config for member in there.members}
    target = {member.run: member.config for member in asked.members}
    for run in target:
        if run in known and known[run] != target[run]:
            was, now = to_json(known[run]), to_json(target[run])
            name = next(name for name in now if was[name] != now[name])
            old, new = (OPTIONS[name].format(getattr(one[run], name)) for one in (known, target))
            return f"{name} is {old} there and {new} here"
    return "" if known == target else "its runs are others"
