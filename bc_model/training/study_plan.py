"""What a study consists of: settings times folds, each combination checked and named.

Nothing here touches the disk; `study` starts what was planned.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from bc_model.errors import SettingsError
from bc_model.training.settings import TrainSettings

MAX_RUNS = 200
MAX_LABEL = 59
"""Letters; with a study's name and a hyphen it is still the name of a run."""

Plan = list[tuple[str, TrainSettings]]
"""A label, unique in its study, and the settings of one run."""

_RULES = {int: "a whole number", float: "a number", bool: "true or false",
          tuple: "whole numbers joined by x or +, such as 224x224"}  # fmt: skip


def plan_study(
    base: TrainSettings,
    *,
    folds: Sequence[int] | str = "all",
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> Plan:
    """Multiply settings by folds.

    Parameters
    ----------
    base : TrainSettings
        Holds where the grid says nothing; its fold does not count.
    folds : sequence of int or 'all'
        The test folds; all are as many as the settings' ``n_folds``. With a fold file, which has
        one test part whatever the fold, 'all' is fold 0 alone.
    grid : mapping of str to sequence, optional
        Values to try, by the name of a setting; every combination is taken.

    Returns
    -------
    list of (str, TrainSettings)
        Labels such as 'fold0' or 'dropout-0.5-fold2'; numbered where they would be too long.

    Raises
    ------
    SettingsError
        A setting is unknown, without a value or out of its range, or there are too many runs; or
        several folds are asked of a fold file.
    """
    grid = dict(grid or {})
    for name, values in grid.items():
        _require_setting(name)
        if not values:
            raise SettingsError(f"{name} has no value to try; give one or more.")
        _require_once(name, [value_text(name, value) for value in values])
    if folds != "all" and (isinstance(folds, str) or not folds):
        raise SettingsError(f"folds must be 'all' or numbers from 0; asked for '{folds}'.")
    require_folds_once(folds)
    _require_few(base, folds, grid)
    combinations = []
    for values in itertools.product(*grid.values()):
        changed = dict(zip(grid, values, strict=True))
        settings = _replace(base, **changed)
        for fold in _test_folds(settings, folds):
            combinations.append((changed, _replace(settings, fold=fold)))
    labels = [
        "-".join([*(f"{n}-{_slug(v)}" for n, v in changed.items()), f"fold{settings.fold}"])
        for changed, settings in combinations
    ]
    if max(map(len, labels)) > MAX_LABEL or len({x.lower() for x in labels}) < len(labels):
        numbers: dict[TrainSettings, int] = {}
        for number, (_, settings) in enumerate(combinations):
            of_group = numbers.setdefault(_without_fold(settings), len(numbers) + 1)
            labels[number] = f"s{of_group}-fold{settings.fold}"
    plan = [(label, one) for label, (_, one) in zip(labels, combinations, strict=True)]
    require_distinct(plan)
    return plan


def require_folds_once(folds: Sequence[int] | str) -> None:
    """Raise `SettingsError` when a test fold is named twice."""
    _require_once("the list of test folds", [] if isinstance(folds, str) else list(map(str, folds)))


def require_distinct(plan: Plan) -> None:
    """Raise `SettingsError` when a plan is empty, too long, or names or runs something twice."""
    if not 1 <= len(plan) <= MAX_RUNS:
        raise SettingsError(f"A study has from 1 to {MAX_RUNS} runs; asked for {len(plan)}.")
    labels, settings = set(), set()
    for label, one in plan:
        if one in settings:
            raise SettingsError(
                f"The run '{label}' comes twice with the same settings; name each value and each "
                "fold once."
            )
        # Some file systems do not tell capitals apart.
        if label.lower() in labels:
            raise SettingsError(f"Two runs of the study are called '{label}'; name each once.")
        labels.add(label.lower())
        settings.add(one)


def group_words(settings: Sequence[TrainSettings]) -> list[str]:
    """Say for each run what sets its settings apart from those of others; its fold does not count.

    Examples
    --------
    >>> group_words([TrainSettings("set", seed=1), TrainSettings("set", seed=2, fold=3)])
    ['seed=1', 'seed=2']
    """
    differing = [
        field.name
        for field in dataclasses.fields(TrainSettings)
        if field.name != "fold" and len({getattr(one, field.name) for one in settings}) > 1
    ]
    return [
        ", ".join(f"{name}={value_text(name, getattr(one, name))}" for name in differing)
        for one in settings
    ]


def parse_value(name: str, text: str) -> Any:
    """Read the value of a setting as a person types it, such as '1e-3', '224x224' or 'default'.

    Raises
    ------
    SettingsError
        There is no such setting, or it has values of another kind.
    """
    _require_setting(name)
    hint = get_type_hints(TrainSettings)[name]
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if type(None) in get_args(hint):
        if text == "default":
            return None
        hint = kinds[0]
    kind = get_origin(hint) or hint
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is tuple:
            return tuple(int(part) for part in re.split("[x+]", text) if part)
        return kind(text)
    except (ValueError, KeyError) as error:
        raise SettingsError(f"{name} must be {_RULES[kind]}; asked for '{text}'.") from error


def value_text(name: str, value: Any) -> str:
    """Return a value as `parse_value` reads it."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ("x" if name == "image_size" else "+").join(map(str, value))
    return str(value)


def _require_once(name: str, texts: list[str]) -> None:
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise SettingsError(f"In {name} stands {twice[0]} twice; name each value once.")


def _require_setting(name: str) -> None:
    known = {field.name for field in dataclasses.fields(TrainSettings)} - {"fold"}
    if name not in known:
        raise SettingsError(
            f"There is no setting '{name}' to try values of; there are "
            f"{', '.join(sorted(known))}, and the folds have their own list."
        )


def _test_folds(settings: TrainSettings, folds: Sequence[int] | str) -> Sequence[int]:
    if not settings.folds_file:
        return range(settings.n_folds) if isinstance(folds, str) else folds
    if len(numbers := [0] if isinstance(folds, str) else folds) > 1:
        raise SettingsError(
            f"The fold file {settings.folds_file} has one test part, so its figures cannot be "
            f"pooled over {len(numbers)} folds; to train with several fold files: --set "
            "folds_file=a,b,... --test-folds 0."
        )
    return numbers


def _require_few(
    base: TrainSettings, folds: Sequence[int] | str, grid: Mapping[str, Sequence[Any]]
) -> None:
    """Refuse too many runs before they are counted out one by one."""
    n_settings = math.prod(len(values) for values in grid.values())
    n_folds = len(_test_folds(base, folds))
    if n_settings * (1 if "n_folds" in grid else n_folds) > MAX_RUNS:
        raise SettingsError(
            f"A study has at most {MAX_RUNS} runs; asked for {n_settings} settings with "
            f"{n_folds} folds each."
        )


def _replace(settings: TrainSettings, **changed: Any) -> TrainSettings:
    changed = {name: tuple(v) if isinstance(v, list) else v for name, v in changed.items()}
    try:
        return dataclasses.replace(settings, **changed)
    except TypeError as error:
        told = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        raise SettingsError(f"A setting has a value of another kind than it takes: {told}.") from (
            error
        )


def _without_fold(settings: TrainSettings) -> TrainSettings:
    return dataclasses.replace(settings, fold=0)


def _slug(value: Any) -> str:
    """Return a value as it may stand in the name of a run."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", value_text("", value)).strip("-") or "none"
