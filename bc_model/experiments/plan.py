"""The plan of an experiment, and its record on disk.

A plan is a list of labeled configurations: every combination of option values for every test fold.
This module starts no run; see `bc_model.experiments.experiment`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from bc_model.errors import ConfigError, RecordError, RunError
from bc_model.jobs import is_name
from bc_model.training.config import OPTIONS, TrainingConfig
from bc_model.utils.serialization import read_record

MAX_RUNS = 200
MAX_NAME_LENGTH, MAX_LABEL_LENGTH = 40, 59
"""The name of an experiment, a hyphen and a label together are a valid run name."""

EXPERIMENT_SUFFIX = ".experiment.json"

Plan = list[tuple[str, TrainingConfig]]
"""Labels, unique in their experiment, with the configuration of each run."""


@dataclass(frozen=True)
class ExperimentRun:
    """One run of an experiment.

    Attributes
    ----------
    name : str
        Name of the run directory.
    label : str
        Name within the experiment.
    group : str
        Options that distinguish its configuration, such as 'dropout=0.5'. The test folds of a
        group are pooled. Empty if the experiment has one configuration.
    config : TrainingConfig
    """

    name: str
    label: str
    group: str
    config: TrainingConfig

    @property
    def fold(self) -> int:
        """The test fold."""
        return self.config.test_fold


@dataclass(frozen=True)
class Experiment:
    """Runs that are evaluated together, such as the folds of a cross-validation.

    `created` is the time in UTC, ISO 8601.
    """

    SCHEMA_VERSION: ClassVar[int] = 2

    name: str
    created: str
    runs: tuple[ExperimentRun, ...]

    @property
    def groups(self) -> dict[str, list[ExperimentRun]]:
        """The runs by group, in the order of the plan."""
        groups: dict[str, list[ExperimentRun]] = {}
        for run in self.runs:
            groups.setdefault(run.group, []).append(run)
        return groups


def plan_experiment(
    base: TrainingConfig, *, folds: Sequence[int] | str = "all",
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> Plan:  # fmt: skip
    """Return the plan with every combination of option values and test folds.

    Parameters
    ----------
    base : TrainingConfig
        Configuration of all options that the grid does not set. Its test fold is ignored.
    folds : sequence of int or 'all'
        Test folds. 'all' means ``n_folds`` folds, or fold 0 alone with an official fold file,
        which has one test subset.
    grid : mapping of str to sequence, optional
        Values to try, by option name.

    Returns
    -------
    list of (str, TrainingConfig)
        Labels such as 'fold0' or 'dropout-0.5-fold2', or numbered ones such as 's1-fold2' if those
        are too long or ambiguous.

    Raises
    ------
    ConfigError
        An option is unknown, has no value or an invalid one, the plan has too many runs, or several
        folds of an official fold file are requested.

    Examples
    --------
    >>> base = TrainingConfig("BreaKHis_v1")
    >>> [label for label, _ in plan_experiment(base, folds=[0], grid={"dropout": [0.1, 0.5]})]
    ['dropout-0.1-fold0', 'dropout-0.5-fold0']
    """
    grid = dict(grid or {})
    for name, values in grid.items():
        _require_option(name)
        if not values:
            raise ConfigError(f"No value for {name}. Expected at least one. Add a value.")
        _require_distinct_values(name, [OPTIONS[name].format(value) for value in values])
    require_folds(folds)
    _require_few_runs(base, folds, grid)
    combinations = []
    for values in itertools.product(*grid.values()):
        changes: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in zip(grid, values, strict=True)
        }
        config = dataclasses.replace(base, **changes)
        for fold in _test_folds(config, folds):
            combinations.append((changes, dataclasses.replace(config, test_fold=fold)))
    labels = [
        "-".join([*(f"{n}-{_slug(n, v)}" for n, v in changes.items()), f"fold{config.test_fold}"])
        for changes, config in combinations
    ]
    if max(map(len, labels)) > MAX_LABEL_LENGTH or len({x.lower() for x in labels}) < len(labels):
        numbers: dict[TrainingConfig, int] = {}
        for i, (_, config) in enumerate(combinations):
            group = dataclasses.replace(config, test_fold=0)
            labels[i] = f"s{numbers.setdefault(group, len(numbers) + 1)}-fold{config.test_fold}"
    plan = [(label, config) for label, (_, config) in zip(labels, combinations, strict=True)]
    require_distinct_runs(plan)
    return plan


def require_folds(folds: Sequence[int] | str) -> None:
    """Raise `ConfigError` unless test folds are 'all' or distinct numbers."""
    if folds != "all" and (isinstance(folds, str) or not folds):
        raise ConfigError(
            f"Invalid test folds '{folds}'. Expected 'all' or numbers from 0. List the test folds."
        )
    if not isinstance(folds, str):
        _require_distinct_values("the test folds", list(map(str, folds)))


def require_distinct_runs(plan: Plan) -> None:
    """Raise `ConfigError` if a plan is empty, too long, or repeats a label or a configuration."""
    if not 1 <= len(plan) <= MAX_RUNS:
        raise ConfigError(
            f"Invalid number of runs. Expected 1 to {MAX_RUNS}, got {len(plan)}. Change the plan."
        )
    labels, configs = set(), set()
    for label, config in plan:
        if config in configs:
            raise ConfigError(f"The run '{label}' repeats the configuration of another run.")
        # Some file systems ignore case.
        if label.lower() in labels:
            raise ConfigError(f"Two runs have the label '{label}'. Use each label once.")
        labels.add(label.lower())
        configs.add(config)


def require_experiment_name(name: str) -> None:
    """Raise `ConfigError` unless a name is valid for an experiment."""
    if len(name) > MAX_NAME_LENGTH or not is_name(name):
        raise ConfigError(
            f"Invalid experiment name '{name[:100]}'. Expected at most {MAX_NAME_LENGTH} letters, "
            "digits, '.', '_' and '-', starting with a letter or digit. Use another name."
        )


def create_experiment(name: str, plan: Plan) -> Experiment:
    """Return the experiment of a plan; raise `ConfigError` if a label is invalid."""
    require_distinct_runs(plan)
    for label, _ in plan:
        if len(label) > MAX_LABEL_LENGTH or not is_name(f"{name}-{label}"):
            raise ConfigError(
                f"Invalid run label '{label[:100]}'. Expected at most {MAX_LABEL_LENGTH} letters, "
                "digits, '.', '_' and '-'. Use another label."
            )
    groups = group_labels([config for _, config in plan])
    runs = tuple(
        ExperimentRun(f"{name}-{label}", label, group, config)
        for (label, config), group in zip(plan, groups, strict=True)
    )
    return Experiment(name, datetime.now(UTC).isoformat(timespec="seconds"), runs)


def group_labels(configs: Sequence[TrainingConfig]) -> list[str]:
    """Return for each configuration the options that differ among them, except the test fold.

    Examples
    --------
    >>> group_labels([TrainingConfig("set", seed=1), TrainingConfig("set", seed=2, test_fold=3)])
    ['seed=1', 'seed=2']
    """
    differing = [
        name
        for name in OPTIONS
        if name != "test_fold" and len({getattr(config, name) for config in configs}) > 1
    ]
    return [
        ", ".join(f"{name}={OPTIONS[name].format(getattr(config, name))}" for name in differing)
        for config in configs
    ]


def parse_value(name: str, text: str) -> Any:
    """Return the value of an option from text such as '1e-3', '224x224' or 'default'.

    Raises
    ------
    ConfigError
        The option is unknown, or the text is not a value of its type.
    """
    _require_option(name)
    return OPTIONS[name].parse(text)


def read_experiment(runs_dir: Path, name: str) -> Experiment:
    """Read an experiment.

    Raises
    ------
    RunError
        There is no experiment of that name, or its file is damaged.
    """
    if not is_name(name):
        raise RunError(f"'{name[:100]}' is not a valid experiment name.")
    file = experiment_file(runs_dir, name)
    try:
        experiment = dataclasses.replace(read_record(file, Experiment), name=name)
        if invalid := [run.name for run in experiment.runs if not is_name(run.name)]:
            raise RecordError(f"runs: invalid run name '{invalid[0]}'")
        return experiment
    except FileNotFoundError as error:
        raise RunError(f"There is no experiment '{name}' in {runs_dir}.") from error
    except (OSError, RecordError) as error:
        raise RunError(f"Cannot read the experiment file {file}: {error}.") from error


def list_experiments(runs_dir: Path) -> list[str]:
    """Return the names of the experiments in a directory, newest first, with damaged ones."""
    times = {}
    for file in Path(runs_dir).glob(f"*{EXPERIMENT_SUFFIX}"):
        if is_name(name := file.name.removesuffix(EXPERIMENT_SUFFIX)):
            with suppress(FileNotFoundError):  # It was deleted in the meantime.
                times[name] = file.lstat().st_mtime_ns  # Written once, at the start.
    return sorted(times, key=times.__getitem__, reverse=True)


def experiment_file(runs_dir: Path, name: str) -> Path:
    """Return the path of the file of an experiment."""
    return Path(runs_dir) / f"{name}{EXPERIMENT_SUFFIX}"


def _require_distinct_values(name: str, texts: list[str]) -> None:
    if repeated := [text for text, count in Counter(texts).items() if count > 1]:
        raise ConfigError(f"Repeated value {repeated[0]} in {name}. Use each value once.")


def _require_option(name: str) -> None:
    names = OPTIONS.keys() - {"test_fold"}
    if name not in names:
        raise ConfigError(
            f"Unknown option '{name}'. Expected one of {', '.join(sorted(names))}. Test folds are "
            "listed separately."
        )


def _test_folds(config: TrainingConfig, folds: Sequence[int] | str) -> Sequence[int]:
    """Return the test folds of a configuration; an official fold file has one test subset."""
    if not config.official_fold_file:
        return range(config.n_folds) if isinstance(folds, str) else folds
    numbers = [0] if isinstance(folds, str) else folds
    if len(numbers) > 1:
        raise ConfigError(
            f"The fold file {config.official_fold_file} has one test subset. Expected one test "
            f"fold, got {len(numbers)}. Use test fold 0, and list several fold files as values of "
            "official_fold_file."
        )
    return numbers


def _require_few_runs(
    base: TrainingConfig, folds: Sequence[int] | str, grid: Mapping[str, Sequence[Any]]
) -> None:
    """Refuse too many runs before their configurations are built."""
    n_configs = math.prod(len(values) for values in grid.values())
    n_folds = len(_test_folds(base, folds))
    if n_configs * (1 if "n_folds" in grid else n_folds) > MAX_RUNS:
        raise ConfigError(
            f"Too many runs. Expected at most {MAX_RUNS}, got {n_configs} configurations with "
            f"{n_folds} folds each. Reduce the values or the folds."
        )


def _slug(name: str, value: Any) -> str:
    """Return a value as a part of a run name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", OPTIONS[name].format(value)).strip("-") or "none"
