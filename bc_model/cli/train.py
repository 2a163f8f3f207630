"""``train``: train a model in this process."""

import dataclasses
import logging
import shutil
import signal
from pathlib import Path
from typing import Any

import click

from bc_model import evaluation, reporting, training
from bc_model.cli.options import (
    PATH,
    accept_changes_option,
    build_config,
    find_images_dir,
    is_given,
    log_to,
    training_options,
)
from bc_model.errors import BcModelError, ConfigError, ProcessorError
from bc_model.jobs import end_with_stdin, hold_job, keep_alive
from bc_model.utils import require_tensorflow, silence_native_stderr

logger = logging.getLogger("bc_model.training")


@click.command()
@click.argument("data_dir", type=PATH, required=False, metavar="[DATA]")
@click.option("--run", "run_dir", type=PATH, required=True, help="Run directory to create.")
@training_options()
@click.option("--resume", is_flag=True, help="Resume RUN. Give DATA only if it was moved.")
@accept_changes_option
@click.option("--end-with-stdin", "is_child", is_flag=True, hidden=True)
def train(
    data_dir: Path | None, run_dir: Path, resume: bool, accept_changes: bool, is_child: bool,
    **options: Any,
) -> int:  # fmt: skip
    """Train a model on DATA: first the head, then fine-tuning of the backbone.

    Ctrl-C stops the run after the current batch and keeps the best model so far. An interrupted
    run resumes after its last complete epoch: train --run RUN --resume. The exit code is 1 if
    there is no model.
    """
    if resume:
        _reject_options(options)
        return _resume(training.Run.open(run_dir), data_dir, accept_changes, is_child=is_child)
    if data_dir is None:
        raise ConfigError("Missing dataset. Give DATA, or resume RUN with --resume.")

    # Absolute paths, so that the run can be resumed from another directory.
    config = training.resolve_paths(build_config(data_dir, options))
    existed = run_dir.exists()
    run = training.Run.create(run_dir, config)
    try:
        with hold_job(run):
            return _execute(run, config)
    except BcModelError:
        if not existed and not run.read_history():
            # Nothing was trained, so the name stays free for the next attempt.
            logging.shutdown()
            shutil.rmtree(run.path)
        raise


def _reject_options(options: dict[str, Any]) -> None:
    """Raise `ConfigError` for training options, which a resumed run would ignore."""
    given = [f"--{name.replace('_', '-')}" for name in options if is_given(name)]
    if given:
        raise ConfigError(
            f"Invalid options with --resume. Expected none, got {', '.join(given)}. A resumed run "
            "keeps its configuration; remove the options, or train a new run."
        )


def _resume(
    run: training.Run, data_dir: Path | None, accept_changes: bool, *, is_child: bool
) -> int:
    if is_child:
        end_with_stdin(run)
    is_manual = run.read_status()["state"] != "starting"
    config = training.read_resumable_config(run)
    if data_dir is not None:  # Other images are detected as changed data.
        config = dataclasses.replace(config, data=str(find_images_dir(data_dir).resolve()))
    try:
        with hold_job(run):
            if is_manual:
                run.request(None)  # The app and the queue have already cleared the last request.
            return _execute(run, config, resume=True, accept_changes=accept_changes)
    finally:
        if not is_child:  # A cluster worker has its own queue.
            training.advance_queue(run.path.parent)


def _execute(run: training.Run, config: training.TrainingConfig, **how: bool) -> int:
    """Train in this process with log and signal handlers; return the exit code."""
    log_to(run.path / "log.txt")
    # Ctrl-C stops the run. SIGTERM, as at shutdown, ends the process, and the run can be resumed.
    signal.signal(signal.SIGINT, lambda *_: _request_stop(run))
    # The import of TensorFlow takes seconds, so the status comes first.
    logger.info("Starting TensorFlow")
    run.write_status("starting", message="Starting TensorFlow")
    try:
        require_tensorflow()
    except ProcessorError as error:
        run.write_status("failed", message=str(error), error=type(error).__name__)
        raise
    with keep_alive(run):
        with silence_native_stderr():
            from bc_model.training import train as train_model

        train_model(config, run, **how)
    if run.read_status()["state"] != "done":
        logger.info("%s", run.read_status()["message"])
        return 1
    try:
        reporting.write_plots(evaluation.read_report(run.evaluation_dir), run.evaluation_dir)
    except BcModelError as error:  # The model and its report are complete without plots.
        logger.warning("%s", error)
    return 0


def _request_stop(run: training.Run) -> None:
    run.request("stop")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # A second Ctrl-C ends the process.
