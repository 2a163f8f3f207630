"""The command that trains."""

import dataclasses
import logging
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bc_model.cli.options import PATH, config_from, is_given, log_to, training_options
from bc_model.errors import BcModelError, ConfigError, FolderNotFoundError
from bc_model.jobs import end_with_stdin, keep_alive
from bc_model.training import Run
from bc_model.utils import native_stderr_silenced

if TYPE_CHECKING:
    from bc_model.training import TrainingConfig

logger = logging.getLogger("bc_model.training")


@click.command()
@click.argument("data", type=PATH, required=False)
@click.option("--run", "run_path", type=PATH, required=True, help="Run folder to write.")
@training_options()
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with RUN as it was set; DATA only where the set was moved.",
)
@click.option("--accept-changes", is_flag=True, help="Resume though data or code changed.")
@click.option("--end-with-stdin", "tied", is_flag=True, hidden=True)
def train(
    data: Path | None,
    run_path: Path,
    resume: bool,
    accept_changes: bool,
    tied: bool,
    **options: Any,
) -> int:
    """Train on DATA: frozen backbone first, then fine-tuning; ends with a model and its figures.

    Ctrl-C ends the run within one batch and keeps the best model so far. A run that was
    interrupted goes on after its last whole epoch: train --run RUN --resume. The exit code is 1
    when no model was made.
    """
    if resume:
        _refuse_options(options)
        return _resume(Run.open(run_path), data, accept_changes, tied=tied)
    if data is None:
        raise ConfigError("Name the folder of the data set, or give --resume to go on with RUN.")
    from bc_model.training import resolve_paths

    # A run that is resumed from another folder finds the same data.
    config = resolve_paths(config_from(data, options))
    was_there = run_path.exists()
    run = Run.create(run_path)
    try:
        return _work_on(run, config)
    except BcModelError:
        if not was_there and not run.read_history():
            # Nothing was trained: the next try, with better input, may have this name.
            logging.shutdown()
            shutil.rmtree(run.path)
        raise


def _refuse_options(options: dict[str, Any]) -> None:
    """Raise `ConfigError` if a training option is given, which a resumed run would ignore."""
    given = [f"--{name.replace('_', '-')}" for name in options if is_given(name)]
    if given:
        raise ConfigError(
            f"Invalid options with --resume. Expected none, got {', '.join(given)}. A resumed run "
            "keeps its configuration; remove the options, or train a new run."
        )


def _resume(run: Run, data: Path | None, accept_changes: bool, *, tied: bool) -> int:
    from bc_model.training import advance_queue, read_resumable_config

    if tied:
        end_with_stdin(run)
    started_by_hand = run.read_status()["state"] != "starting"
    config = read_resumable_config(run)
    if data is not None:  # the same pictures, or they are refused as changed
        if not data.is_dir():
            raise FolderNotFoundError(f"There is no folder {data}; check the path of the data set.")
        config = dataclasses.replace(config, data=str(data.resolve()))
    if started_by_hand:
        run.request(None)  # of the run that ended; the app has done so before it started this one
    try:
        return _work_on(run, config, resume=True, accept_changes=accept_changes)
    finally:
        if not tied:  # a worker of a cluster has its own queue
            advance_queue(run.path.parent)


def _work_on(run: Run, config: "TrainingConfig", **how: bool) -> int:
    """Train in this process, with its log and its signals tied to the run; the exit code."""
    log_to(run.path / "log.txt")
    # Ctrl-C is a person's; SIGTERM is a machine that shuts down, and the run is to be resumed.
    signal.signal(signal.SIGINT, lambda *_: _ask_to_stop(run))
    # TensorFlow takes seconds to import: the run says that it is there before that.
    logger.info("Starting TensorFlow")
    run.write_status("starting", message="Starting TensorFlow")
    with keep_alive(run):
        with native_stderr_silenced():
            from bc_model.training import train as train_model

        train_model(config, run, **how)
    if run.read_status()["state"] != "done":
        logger.info("%s", run.read_status()["message"])
        return 1
    # Matplotlib loads only now, as training does not need it.
    from bc_model.evaluation import read_report
    from bc_model.reporting import write_plots

    write_plots(read_report(run.evaluation_dir), run.evaluation_dir)
    return 0


def _ask_to_stop(run: Run) -> None:
    run.request("stop")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who asks twice means it
