"""What several commands share: options, progress, and printing."""

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bc_model.errors import SettingsError
from bc_model.training.run_folder import runs_folder


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
        from bc_model.serving.shipped import has_bundled_model, shipped_folder

        if value == "bundled" and has_bundled_model():
            return shipped_folder(value)
        path = super().convert(value, param, ctx)
        if path.name != str(path) or path.exists():
            return path
        named = (runs_folder() / path, shipped_folder(path.name))
        return next((folder for folder in named if folder.exists()), path)


PATH = _Path(path_type=Path)
MODEL = _Model(path_type=Path)
as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on stdout, only that."
)
runs_option = click.option(
    "--runs",
    type=PATH,
    default=runs_folder,
    show_default="BC_RUNS, or runs beside the program",
    help="Folder of all runs.",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Of every random choice.")


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as ``224x224``: height and width."""
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise SettingsError(
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
