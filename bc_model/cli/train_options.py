"""Command line options of a training run, generated from the fields of `TrainingConfig`."""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from bc_model.errors import FolderNotFound
from bc_model.training.settings import OPTIONS, Option, TrainingConfig

Command = TypeVar("Command", bound=Callable[..., Any])


FIELDS = tuple(name for name in OPTIONS if name != "data")
"""Fields with a command line option; the dataset is an argument."""


def training_options(
    only: Collection[str] = FIELDS, *, without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Return a decorator that adds command line options for fields of `TrainingConfig`.

    Parameters
    ----------
    only : collection of str
        By default all fields but `data`.
    without : collection of str
        Fields that the command sets itself.
    """

    def decorate(command: Command) -> Command:
        for name in reversed(FIELDS):
            if name in only and name not in without:
                command = _click_option(OPTIONS[name])(command)
        return command

    return decorate


def is_given(name: str) -> bool:
    """Return whether the user set an option of the current command on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def config_from(data: Path, values: dict[str, Any]) -> TrainingConfig:
    """Return the configuration for a dataset directory and the values of `training_options`.

    With bundled weights, the default image size is that of the bundled model.

    Raises
    ------
    SettingsError
        A value is out of range.
    FolderNotFound
        There is no such dataset directory.
    SplitError
        The fold file does not exist or is invalid.
    WeightsError
        The bundled model is required for its image size, but is missing or damaged.
    """
    from bc_model.data.fold_file import read_fold_file
    from bc_model.serving.shipped import bundled_model

    if values["weights"] == "bundled" and not is_given("image_size"):
        values = values | {"image_size": bundled_model().image_size}
    config = TrainingConfig(data=str(data), **values)
    if not data.is_dir():
        raise FolderNotFound(f"There is no folder {data}; check the path of the data set.")
    if config.official_fold_file:
        read_fold_file(Path(config.official_fold_file))
    return config


class _Numbers(click.ParamType):
    """Several whole numbers, such as ``224x224`` or ``512,128``."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = "x".join("N" * option.length) if option.length else "N[,N...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the numbers as a tuple."""
        return self.option.parse(value) if isinstance(value, str) else value


def _click_option(option: Option) -> Callable[[Command], Command]:
    flag = f"--{option.name.replace('_', '-')}"
    unit = f" Unit: {option.unit}." if option.unit else ""
    shared: dict[str, Any] = {"help": option.help + unit, "show_default": option.default != ""}
    if option.default is not dataclasses.MISSING:
        shared["default"] = option.default
    if option.type is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", **shared)
    if option.type is tuple:
        shared["default"] = option.format(option.default)
    return click.option(flag, type=_click_type(option), **shared)


def _click_type(option: Option) -> click.ParamType:
    if option.choices:
        return click.Choice(option.choices)
    if option.type is tuple:
        return _Numbers(option)
    if option.type is str:
        return click.STRING
    number_range: type[Any] = click.IntRange if option.type is int else click.FloatRange
    return number_range(
        min=option.ge if option.gt is None else option.gt,
        max=option.le if option.lt is None else option.lt,
        min_open=option.gt is not None,
        max_open=option.lt is not None,
    )
