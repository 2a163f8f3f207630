"""The options that every command that trains has, and the settings they make."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bc_model.cli.options import (
    folds_option,
    n_folds_option,
    parse_size,
    protocol_option,
    seed_option,
)
from bc_model.errors import FolderNotFound, SettingsError
from bc_model.model import BACKBONES
from bc_model.training.settings import ZERO_THREADS

if TYPE_CHECKING:
    from bc_model.training.settings import TrainSettings

Command = TypeVar("Command", bound=Callable[..., Any])

# Named as the fields of TrainSettings are; which fold is the test fold is each command's own.
_OPTIONS = [
    click.option(
        "--weights",
        default="imagenet",
        show_default=True,
        help="imagenet, bundled, none or a file.",
    ),
    click.option(
        "--backbone", type=click.Choice(list(BACKBONES)), default="resnet50", show_default=True
    ),
    protocol_option,
    folds_option,
    n_folds_option,
    click.option("--head-epochs", default=10, show_default=True, help="Frozen backbone."),
    click.option("--finetune-epochs", default=20, show_default=True, help="Fine-tuning."),
    click.option(
        "--image-size",
        metavar="HxW",
        help="Default 224x224; with bundled weights that model's own.",
    ),
    click.option("--batch-size", default=32, show_default=True),
    click.option("--head-learning-rate", default=1e-3, show_default=True),
    click.option("--finetune-learning-rate", type=float, help="1e-4; from scratch 5e-4."),
    click.option("--unfreeze-from", help="Block where fine-tuning begins, or 'all'."),
    click.option("--dense-units", default="256", show_default=True, metavar="N[,N...]"),
    click.option("--dropout", default=0.3, show_default=True),
    click.option("--patience", default=6, show_default=True, help="Epochs without a better loss."),
    seed_option,
    click.option("--split-seed", default=0, show_default=True, help="Of the split alone."),
    click.option("--deterministic/--no-deterministic", help="Repeat a run bit for bit; slower."),
    click.option(
        "--arithmetic",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Of the convolutions that learn; auto: bfloat16 where the machine has it.",
    ),
    click.option("--mirrored", is_flag=True, help="Share each batch among all graphics cards."),
    click.option("--threads", default=0, help=f"At most this many; {ZERO_THREADS}."),
    click.option("--cache/--no-cache", default=True, help="Compute what is frozen only once."),
    click.option("--views", default=5, show_default=True, help="Augmented views in the cache."),
]


def train_options(command: Command) -> Command:
    """Give a command the options of a training; `settings_from` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def recipe_options(command: Command) -> Command:
    """Give a command the same without the choice of a split, for one that makes several."""
    for option in reversed(_OPTIONS):
        if option not in (protocol_option, folds_option):
            command = option(command)
    return command


def settings_from(data: Path, options: dict[str, Any]) -> "TrainSettings":
    """Make settings of a data folder and the values of `train_options`.

    Raises
    ------
    SettingsError
        A value is out of range.
    FolderNotFound
        There is no such data folder.
    SplitError
        The fold file is missing or not one.
    WeightsError
        The model in the box, asked for its picture size, is missing or damaged.
    """
    from bc_model.data.fold_file import read_fold_file
    from bc_model.training.settings import TrainSettings

    parsed = {
        "image_size": _image_size(options["image_size"], options["weights"]),
        "dense_units": _parse_units(options["dense_units"]),
    }
    settings = TrainSettings(data=str(data), **(options | parsed))
    if not data.is_dir():
        raise FolderNotFound(f"There is no folder {data}; check the path of the data set.")
    if settings.folds_file:
        read_fold_file(Path(settings.folds_file))
    return settings


def _image_size(text: str | None, weights: str) -> tuple[int, int]:
    from bc_model.serving.shipped import bundled_model
    from bc_model.training.settings import TrainSettings

    if text is not None:
        return parse_size(text)
    return bundled_model().image_size if weights == "bundled" else TrainSettings.image_size


def _parse_units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(units) for units in text.split(",") if units.strip())
    except ValueError as error:
        raise SettingsError(
            f"--dense-units must be numbers such as 256 or 512,128; asked for '{text}'."
        ) from error
