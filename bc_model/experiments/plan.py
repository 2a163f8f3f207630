"""What a study consists of: settings times folds, each combination checked and named.

Nothing here touches the disk; `experiment` starts what was planned.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bc_model.errors import ConfigError, RunError
from bc_model.jobs import is_name
from bc_model.training.config import OPTIONS, TrainingConfig
from bc_model.utils.io import write_text_atomic
from bc_model.utils.serialization import from_json, to_json

MAX_RUNS = 200
MAX_LABEL = 59
"""Letters; with a study's name and a hyphen it is still the name of a run."""

Plan = list[tuple[str, TrainingConfig]]
"""A label, unique in its study, and the settings of one run."""


def plan_experiment(
    base: TrainingConfig,
    *,
    folds: Sequence[int] | str = "all",
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> Plan:
    """Multiply settings by folds.

    Parameters
    ----------
    base : TrainingConfig
        Holds where the grid says nothing; its fold does not count.
    folds : sequence of int or 'all'
        The test folds; all are as many as the settings' ``n_folds``. With a fold file, which has
        one test part whatever the fold, 'all' is fold 0 alone.
    grid : mapping of str to sequence, optional
        Values to try, by the name of a setting; every combination is taken.

    Returns
    -------
    list of (str, TrainingConfig)
        Labels such as 'fold0' or 'dropout-0.5-fold2'; numbered where they would be too long.

    Raises
    ------
    ConfigError
        A setting is unknown, without a value or out of its range, or there are too many runs; or
        several folds are asked of a fold file.
    """
    grid = dict(grid or {})
    for name, values in grid.items():
        _require_setting(name)
        if not values:
            raise ConfigError(f"{name} has no value to try; give one or more.")
        _require_once(name, [OPTIONS[name].format(value) for value in values])
    if folds != "all" and (isinstance(folds, str) or not folds):
        raise ConfigError(f"folds must be 'all' or numbers from 0; asked for '{folds}'.")
    require_folds_once(folds)
    _require_few(base, folds, grid)
    combinations = []
    for values in itertools.product(*grid.values()):
        changed = dict(zip(grid, values, strict=True))
        config = _replace(base, **changed)
        for fold in _test_folds(config, folds):
            combinations.append((changed, _replace(config, test_fold=fold)))
    labels = [
        "-".join([*(f"{n}-{_slug(n, v)}" for n, v in changed.items()), f"fold{config.test_fold}"])
        for changed, config in combinations
    ]
    if max(map(len, labels)) > MAX_LABEL or len({x.lower() for x in labels}) < len(labels):
        numbers: dict[TrainingConfig, int] = {}
        for number, (_, config) in enumerate(combinations):
            of_group = numbers.setdefault(_without_fold(config), len(numbers) + 1)
            labels[number] = f"s{of_group}-fold{config.test_fold}"
    plan = [(label, one) for label, (_, one) in zip(labels, combinations, strict=True)]
    require_distinct(plan)
    return plan


def require_folds_once(folds: Sequence[int] | str) -> None:
    """Raise `ConfigError` when a test fold is named twice."""
    _require_once("the list of test folds", [] if isinstance(folds, str) else list(map(str, folds)))


def require_distinct(plan: Plan) -> None:
    """Raise `ConfigError` when a plan is empty, too long, or names or runs something twice."""
    if not 1 <= len(plan) <= MAX_RUNS:
        raise ConfigError(f"A study has from 1 to {MAX_RUNS} runs; asked for {len(plan)}.")
    labels, config = set(), set()
    for label, one in plan:
        if one in config:
            raise ConfigError(
                f"The run '{label}' comes twice with the same settings; name each value and each "
                "fold once."
            )
        # Some file systems do not tell capitals apart.
        if label.lower() in labels:
            raise ConfigError(f"Two runs of the study are called '{label}'; name each once.")
        labels.add(label.lower())
        config.add(one)


def group_words(config: Sequence[TrainingConfig]) -> list[str]:
    """Say for each run what sets its settings apart from those of others; its fold does not count.

    Examples
    --------
    >>> group_words([TrainingConfig("set", seed=1), TrainingConfig("set", seed=2, test_fold=3)])
    ['seed=1', 'seed=2']
    """
    differing = [
        name
        for name in OPTIONS
        if name != "test_fold" and len({getattr(one, name) for one in config}) > 1
    ]
    return [
        ", ".join(f"{name}={OPTIONS[name].format(getattr(one, name))}" for name in differing)
        for one in config
    ]


def parse_value(name: str, text: str) -> Any:
    """Read the value of a setting as a person types it, such as '1e-3', '224x224' or 'default'.

    Raises
    ------
    ConfigError
        There is no such setting, or it has values of another kind.
    """
    _require_setting(name)
    return OPTIONS[name].parse(text)


def _require_once(name: str, texts: list[str]) -> None:
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise ConfigError(f"In {name} stands {twice[0]} twice; name each value once.")


def _require_setting(name: str) -> None:
    known = OPTIONS.keys() - {"test_fold"}
    if name not in known:
        raise ConfigError(
            f"There is no setting '{name}' to try values of; there are "
            f"{', '.join(sorted(known))}, and the folds have their own list."
        )


def _test_folds(config: TrainingConfig, folds: Sequence[int] | str) -> Sequence[int]:
    if not config.official_fold_file:
        return range(config.n_folds) if isinstance(folds, str) else folds
    if len(numbers := [0] if isinstance(folds, str) else folds) > 1:
        raise ConfigError(
            f"The fold file {config.official_fold_file} has one test part, so its figures cannot "
            f"be pooled over {len(numbers)} folds; to train with several fold files: --set "
            "official_fold_file=a,b,... --test-folds 0."
        )
    return numbers


def _require_few(
    base: TrainingConfig, folds: Sequence[int] | str, grid: Mapping[str, Sequence[Any]]
) -> None:
    """Refuse too many runs before they are counted out one by one."""
    n_configs = math.prod(len(values) for values in grid.values())
    n_folds = len(_test_folds(base, folds))
    if n_configs * (1 if "n_folds" in grid else n_folds) > MAX_RUNS:
        raise ConfigError(
            f"A study has at most {MAX_RUNS} runs; asked for {n_configs} settings with "
            f"{n_folds} folds each."
        )


def _replace(config: TrainingConfig, **changed: Any) -> TrainingConfig:
    changed = {name: tuple(v) if isinstance(v, list) else v for name, v in changed.items()}
    return dataclasses.replace(config, **changed)


def _without_fold(config: TrainingConfig) -> TrainingConfig:
    return dataclasses.replace(config, test_fold=0)


def _slug(name: str, value: Any) -> str:
    """Return a value as it may stand in the name of a run."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", OPTIONS[name].format(value)).strip("-") or "none"


_SUFFIX = ".study.json"
_VERSION = 1


@dataclass(frozen=True)
class ExperimentRun:
    """One run of a study.

    Attributes
    ----------
    run : str
        Its name, in the folder of all runs.
    label : str
        Its name within the study.
    group : str
        What sets its settings apart, in words; the folds of one group are pooled. Empty when all
        runs differ in their fold alone.
    settings : TrainingConfig
    """

    run: str
    label: str
    group: str
    config: TrainingConfig

    @property
    def fold(self) -> int:
        """The test fold."""
        return self.config.test_fold


@dataclass(frozen=True)
class Experiment:
    """Runs that belong together.

    Attributes
    ----------
    name : str
    created : str
        Time in UTC, ISO 8601.
    members : tuple of Member
    """

    name: str
    created: str
    members: tuple[ExperimentRun, ...]

    @property
    def groups(self) -> dict[str, list[ExperimentRun]]:
        """The members by their group, in the order of the plan."""
        found: dict[str, list[ExperimentRun]] = {}
        for member in self.members:
            found.setdefault(member.group, []).append(member)
        return found


def write_experiment(experiment: Experiment, runs: Path) -> None:
    """Write a study, whole or not at all."""
    text = json.dumps(_as_dict(experiment), indent=1, allow_nan=False)
    write_text_atomic(experiment_file(runs, experiment.name), text + "\n")


def read_experiment(runs: Path, name: str) -> Experiment:
    """Read a study.

    Raises
    ------
    RunError
        There is none of that name, or its file is damaged.
    """
    if not is_name(name):
        raise RunError(f"'{name[:100]}' is not the name of a study.")
    file = experiment_file(runs, name)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        members = tuple(
            ExperimentRun(
                str(one["run"]), str(one["label"]), str(one["group"]),
                from_json(TrainingConfig, one["config"]),
            )
            for one in content["members"]
        )  # fmt: skip
        if content["version"] != _VERSION or not all(is_name(member.run) for member in members):
            raise ValueError("its version or the name of a run is not known")
        return Experiment(name, str(content["created"]), members)
    except FileNotFoundError as error:
        raise RunError(f"There is no study {name} in {runs}; start one with `sweep`.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The file of the study {file} cannot be read: {error}.") from error


def list_experiments(runs: Path) -> list[Experiment]:
    """Return the studies in a folder of runs, newest first; damaged ones are passed over."""
    found = []
    for file in Path(runs).glob(f"*{_SUFFIX}"):
        try:
            found.append(read_experiment(runs, file.name.removesuffix(_SUFFIX)))
        except RunError:
            continue
    return sorted(found, key=lambda experiment: experiment.created, reverse=True)


def experiment_file(runs: Path, name: str) -> Path:
    """Return where a study is kept."""
    return Path(runs) / f"{name}{_SUFFIX}"


def _as_dict(experiment: Experiment) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "name": experiment.name,
        "created": experiment.created,
        "members": [
            {
                "run": member.run, "label": member.label, "group": member.group,
                "fold": member.fold, "config": to_json(member.config),
            }
            for member in experiment.members
        ],
    }  # fmt: skip
