"""The command that trains."""

import logging
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.backbones import BACKBONES
from bc_model.cli.options import (
    PATH,
    fold_option,
    folds_option,
    log_to,
    n_folds_option,
    parse_size,
    protocol_option,
    seed_option,
)
from bc_model.errors import BcModelError, FolderNotFound, SettingsError
from bc_model.quiet import native_stderr_silenced
from bc_model.training.run_folder import RunFolder

if TYPE_CHECKING:
    from bc_model.training.settings import TrainSettings


@click.command()
@click.argument("data", type=PATH, required=False)
@click.option("--run", "run_path", type=PATH, required=True, help="Run folder to write.")
@click.option("--weights", default="imagenet", show_default=True, help="imagenet, none or a file.")
@click.option(
    "--backbone", type=click.Choice(list(BACKBONES)), default="resnet50", show_default=True
)
@protocol_option
@folds_option
@n_folds_option
@fold_option
@click.option("--head-epochs", default=10, show_default=True, help="Frozen backbone.")
@click.option("--finetune-epochs", default=20, show_default=True, help="Fine-tuning.")
@click.option("--image-size", default="224x224", show_default=True, metavar="HxW")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--head-learning-rate", default=1e-3, show_default=True)
@click.option("--finetune-learning-rate", type=float, help="1e-4; from scratch 5e-4.")
@click.option("--unfreeze-from", help="Block where fine-tuning begins, or 'all'.")
@click.option("--dense-units", default="256", show_default=True, metavar="N[,N...]")
@click.option("--dropout", default=0.3, show_default=True)
@click.option("--patience", default=6, show_default=True, help="Epochs without a better loss.")
@seed_option
@click.option("--split-seed", default=0, show_default=True, help="Of the split alone.")
@click.option("--deterministic/--no-deterministic", help="Repeat a run bit for bit; slower.")
@click.option(
    "--arithmetic",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the convolutions that learn; auto: bfloat16 where the machine has it.",
)
@click.option("--mirrored", is_flag=True, help="Share each batch among all graphics cards.")
@click.option("--threads", default=0, help="At most this many; 0 takes all.")
@click.option("--cache/--no-cache", default=True, help="Compute what is frozen only once.")
@click.option("--views", default=5, show_default=True, help="Augmented views in the cache.")
@click.option("--resume", is_flag=True, help="Go on with RUN; its own settings hold.")
@click.option("--accept-changes", is_flag=True, help="Resume though data or code changed.")
def train(
    data: Path | None,
    run_path: Path,
    image_size: str,
    dense_units: str,
    resume: bool,
    accept_changes: bool,
    **options: Any,
) -> None:
    """Train on DATA: frozen backbone first, then fine-tuning; ends with a model and its figures.

    Ctrl-C ends the run within one batch and keeps the best model so far. A run that was
    interrupted goes on after its last whole epoch: train --run RUN --resume.
    """
    from bc_model.data.fold_file import read_fold_file
    from bc_model.training.settings import TrainSettings

    if resume:
        _resume(RunFolder.open(run_path), accept_changes)
        return
    if data is None:
        raise SettingsError("Name the folder of the data set, or give --resume to go on with RUN.")
    settings = TrainSettings(
        data=str(data),
        image_size=parse_size(image_size),
        dense_units=_parse_units(dense_units),
        **options,
    )
    if not data.is_dir():
        raise FolderNotFound(f"There is no folder {data}; check the path of the data set.")
    if settings.folds_file:
        read_fold_file(Path(settings.folds_file))
    was_there = run_path.exists()
    run = RunFolder.create(run_path)
    try:
        _work_on(run, settings)
    except BcModelError:
        if not was_there and not run.read_history():
            # Nothing was trained: the next try, with better input, may have this name.
            logging.shutdown()
            shutil.rmtree(run.path)
        raise


def _resume(run: RunFolder, accept_changes: bool) -> None:
    from bc_model.training.jobs import advance_queue
    from bc_model.training.resume import settings_to_resume

    started_by_hand = run.read_status()["state"] != "starting"
    settings = settings_to_resume(run)
    if started_by_hand:
        run.request(None)  # of the run that ended; the app has done so before it started this one
    try:
        _work_on(run, settings, resume=True, accept_changes=accept_changes)
    finally:
        advance_queue(run.path.parent)


def _work_on(run: RunFolder, settings: "TrainSettings", **how: bool) -> None:
    """Train in this process, with its log and its signals tied to the run."""
    log_to(run.path / "log.txt")
    # Ctrl-C is a person's; SIGTERM is a machine that shuts down, and the run is to be resumed.
    signal.signal(signal.SIGINT, lambda *_: _ask_to_stop(run))
    # TensorFlow takes seconds to import: the run says that it is there before that.
    run.write_status("starting", message="Starting TensorFlow")
    with native_stderr_silenced():
        from bc_model.training.fit import train as train_model

    train_model(settings, run, **how)


def _ask_to_stop(run: RunFolder) -> None:
    run.request("stop")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who asks twice means it


def _parse_units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(units) for units in text.split(",") if units.strip())
    except ValueError as error:
        raise SettingsError(
            f"--dense-units must be numbers such as 256 or 512,128; asked for '{text}'."
        ) from error
