"""What several commands share: options, progress, and printing."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from bc_model.errors import ConfigError, FolderNotFoundError, SplitError
from bc_model.training import OPTIONS, Option, TrainingConfig, runs_dir

if TYPE_CHECKING:
    from bc_model.inference import Bundle


class _Path(click.Path):
    """A path; empty text, as of a variable that is not set, would be the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        if value == "":
            self.fail("no path is named: the text is empty", param, ctx)
        return Path(super().convert(value, param, ctx))  # type: ignore[arg-type]


class _Model(_Path):
    """A path, or the name of a model as `models list` and the pages show it; or ``bundled``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path as it is where it is there, else that of the model of this name.

        'bundled' is the model that comes with the program, whatever lies here.
        """
        from bc_model.inference import bundled_model_dir, has_bundled_model

        if value == "bundled" and has_bundled_model():
            return bundled_model_dir(value)
        path = super().convert(value, param, ctx)
        if path.name != str(path) or path.exists():
            return path
        named = (runs_dir() / path, bundled_model_dir(path.name))
        return next((folder for folder in named if folder.exists()), path)


PATH = _Path(path_type=Path)
MODEL = _Model(path_type=Path)
as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on stdout, only that."
)
runs_option = click.option(
    "--runs",
    type=PATH,
    default=runs_dir,
    show_default="BC_RUNS, or runs beside the program",
    help="Folder of all runs.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Of every random choice.")


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as ``224x224``: height and width."""
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise ConfigError(
            f"--image-size must be height x width such as 224x224; asked for '{text}'."
        ) from error
    return height, width


def progress(verb: str) -> Callable[[int, int], None]:
    """Return a callback that keeps one line of stderr up to date, on a terminal only."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 20 == 0 or done == total):
            end = "\n" if done == total else ""
            click.echo(f"\r{verb} {done}/{total}", nl=False, err=True)
            click.echo(end, nl=False, err=True)

    return show


def byte_progress() -> Callable[[str, int, int], None]:
    """Return a callback of (verb, bytes done, bytes in all or 0) that does the same, in MB."""
    told_s = 0.0

    def show(verb: str, done: int, total: int) -> None:
        nonlocal told_s
        last = done == total
        if sys.stderr.isatty() and (last or time.monotonic() - told_s > 0.2):
            told_s = time.monotonic()
            of = f" of {total / 1e6:,.0f}" if total else ""
            end = "\n" if last else ""
            click.echo(f"\r{verb} {done / 1e6:,.0f}{of} MB{end}", nl=False, err=True)

    return show


def aligned(rows: list[list[str]]) -> list[str]:
    """Return a line for each row of a table, with its columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def log_to(path: Path) -> None:
    """Send the library's log to stdout, and with dates to a file."""
    logger = logging.getLogger("bc_model")
    logger.setLevel(logging.INFO)
    plain, dated = logging.StreamHandler(sys.stdout), logging.FileHandler(path, encoding="utf-8")
    dated.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for handler in (plain, dated):
        logger.addHandler(handler)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


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
    ConfigError
        A value is out of range.
    FolderNotFoundError
        There is no such dataset directory.
    SplitError
        The fold file does not exist or is invalid.
    WeightsError
        The bundled model is required for its image size, but is missing or damaged.
    """
    from bc_model.data import read_fold_file
    from bc_model.inference import open_bundled_model

    if values["weights"] == "bundled" and not is_given("image_size"):
        values = values | {"image_size": open_bundled_model().image_size}
    config = TrainingConfig(data=str(data), **values)
    if not data.is_dir():
        raise FolderNotFoundError(f"There is no folder {data}; check the path of the data set.")
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


def own_split_file(bundle: Bundle, asked: Path | None, what: str, instead: str) -> Path:
    """Return the file that was asked for, or that of the model's run.

    Parameters
    ----------
    bundle : Bundle
    asked : Path or None
    what, instead : str
        What a part of the split is for, and a sentence on what can be done without one.

    Raises
    ------
    SplitError
        The model learned from every picture, so that no file can be its split.
    """
    if bundle.trained_on_all_images:
        raise SplitError(
            f"The model {bundle.label} learned from every picture that it was given, so no split "
            f"has a part to {what}. {instead}"
        )
    return asked or bundle.folder.parent / "split.csv"
