"""Options, progress lines and output that several commands share."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from bc_model import data, inference
from bc_model.checks import Check
from bc_model.errors import BcModelError, ConfigError, FolderNotFoundError, SplitError
from bc_model.training import OPTIONS, Option, TrainingConfig, runs_dir
from bc_model.utils import describe_error

Command = TypeVar("Command", bound=Callable[..., Any])

FIELDS = tuple(name for name in OPTIONS if name != "data")
"""Fields of `TrainingConfig` with a command line option; the dataset is an argument."""

_REFRESH_S = 0.2


class _Path(click.Path):
    """A path; an empty text, such as an unset variable, is an error."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        if value == "":
            self.fail("The path is empty.", param, ctx)
        return Path(super().convert(value, param, ctx))  # type: ignore[arg-type]


class _Model(_Path):
    """The path of a model or run, or a name from `models list`, or 'bundled'."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return an existing path, else the run or the included model with this name."""
        # 'bundled' is the bundled model even if a directory has this name.
        if value == "bundled" and inference.has_bundled_model():
            return inference.bundled_model_dir(value)
        path = super().convert(value, param, ctx)
        if path.name != str(path) or path.exists():
            return path
        named = (runs_dir() / path, inference.bundled_model_dir(path.name))
        return next((directory for directory in named if directory.exists()), path)


PATH = _Path(path_type=Path)
MODEL = _Model(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
runs_option = click.option(
    "--runs", type=PATH, default=runs_dir, help="Directory of all runs.",
    show_default="BC_RUNS, or runs in the checkout or the current directory",
)  # fmt: skip
accept_changes_option = click.option(
    "--accept-changes", is_flag=True, help="Continue even if data or code have changed."
)
_labels_option = click.option(
    "--labels", default="", metavar="LABEL=CLASS,...",
    help=OPTIONS["labels"].help,
)  # fmt: skip
_case_option = click.option(
    "--case-from", default="", metavar="RULE",
    help=OPTIONS["case_from"].help,
)  # fmt: skip
seed_option = click.option("--seed", default=0, show_default=True, help="Random seed.")


def combine(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds several arguments and options in this order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def rules_options(command: Command) -> Command:
    """Add ``--labels`` and ``--case-from`` to a command."""
    return combine(_labels_option, _case_option)(command)


def training_options(
    only: Collection[str] = FIELDS, *, without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Return a decorator that adds an option for each field of `TrainingConfig`."""
    names = [name for name in FIELDS if name in only and name not in without]
    return combine(*(_click_option(OPTIONS[name]) for name in names))


def is_given(name: str) -> bool:
    """Return whether the user set an option of the current command on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def build_config(data_dir: Path, values: dict[str, Any]) -> TrainingConfig:
    """Return the configuration for a dataset and the values of `training_options`."""
    # The default image size of bundled weights is that of the bundled model.
    if values["weights"] == "bundled" and not is_given("image_size"):
        values = values | {"image_size": inference.open_bundled_model().image_size}
    config = TrainingConfig(data=str(data_dir), **values)
    config = replace(config, data=str(find_images_dir(data_dir)))
    if config.rules != data.NO_RULES:
        data.require_usable_paths(config.data, config.rules)
    if config.official_fold_file:
        data.read_fold_file(Path(config.official_fold_file))
    return config


def find_images_dir(data_dir: Path) -> Path:
    """Return the directory of a dataset, which is a directory or the name of a registered one.

    A `FolderNotFoundError` is raised if it does not exist.
    """
    images_dir = data.find_images_dir(data_dir)
    if not images_dir.is_dir():
        raise FolderNotFoundError(
            f"There is no folder {images_dir}. Check the path or name of the dataset."
        )
    return images_dir


def load_dataset(data_dir: Path, rules: data.DatasetRules = data.NO_RULES) -> data.Dataset:
    """Return the dataset and show the progress."""
    return data.load_dataset(data_dir, rules=rules, progress=progress("reading"))


def rules_of(bundle: inference.Bundle) -> data.DatasetRules:
    """Return the rules of the dataset that a model was trained with."""
    return data.parse_rules(bundle.card.data.labels, bundle.card.data.case_from)


def find_split_file(bundle: inference.Bundle, split_file: Path | None, alternative: str) -> Path:
    """Return the given or the model's split file; errors end with the alternative."""
    if bundle.trained_on_all_images:
        raise SplitError(
            f"Model '{bundle.label}' was trained on all images of its dataset, so it has no "
            f"validation or test subset. {alternative}"
        )
    return split_file or bundle.folder.parent / "split.csv"


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width from a text such as '224x224'."""
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise ConfigError(
            f"Invalid --image-size '{text}'. Expected height x width, such as 224x224."
        ) from error
    return height, width


def progress(verb: str) -> Callable[[int, int], None]:
    """Return a callback that updates one line on stderr if it is a terminal."""

    def show(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            _show_progress(f"{verb} {done}/{total}", is_last=done == total)

    return show


def byte_progress() -> Callable[[str, int, int], None]:
    """Return a callback of (verb, bytes done, total bytes or 0) that shows megabytes."""
    shown_s = 0.0

    def show(verb: str, done: int, total: int) -> None:
        nonlocal shown_s
        if done == total or time.monotonic() - shown_s > _REFRESH_S:
            shown_s = time.monotonic()
            of_total = f" of {total / 1e6:,.0f}" if total else ""
            _show_progress(f"{verb} {done / 1e6:,.0f}{of_total} MB", is_last=done == total)

    return show


def log_to(path: Path) -> None:
    """Send the log of the library to stdout and, with dates, to a file."""
    logger = logging.getLogger("bc_model")
    logger.setLevel(logging.INFO)
    logging.raiseExceptions = False  # A closed pipe would print a traceback for each line.
    file_handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file_handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for handler in (logging.StreamHandler(sys.stdout), file_handler):
        logger.addHandler(handler)


def count_failed(writers: Iterable[Callable[[], None]]) -> int:
    """Write several outputs, print why some cannot be written, and return their number."""
    n_failed = 0
    for write in writers:
        try:
            write()
        except (BcModelError, OSError) as error:
            click.echo(f"not written: {describe_error(error)}", err=True)
            n_failed += 1
    return n_failed


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def print_checks(checks: Iterable[Check], prefix: str = "") -> None:
    """Print one line for each check."""
    for check in checks:
        click.echo(f"  {check.severity} {check.code}: {prefix}{check.message}")


def format_table(rows: list[list[str]]) -> list[str]:
    """Return one line for each row, with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _show_progress(text: str, *, is_last: bool) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{text}", nl=is_last, err=True)


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
    default = option.format(option.default) if option.type is tuple else option.default
    text = f"{option.help} Unit: {option.unit}." if option.unit else option.help
    shared: dict[str, Any] = {"help": text, "default": default, "show_default": default != ""}
    if option.type is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", **shared)
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
