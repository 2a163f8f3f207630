"""``runs``: list and control training runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bc_model import training
from bc_model.cli.options import (
    PATH,
    accept_changes_option,
    is_given,
    json_option,
    print_json,
)
from bc_model.errors import BcModelError, FolderNotFoundError, RunError
from bc_model.jobs import cancel_job, continue_job, delete_job, pause_job, stop_job
from bc_model.utils import format_duration

_run = click.argument("run", type=PATH)


@click.group("runs")
def run_commands() -> None:
    """List and control training runs."""


@run_commands.command("list")
@click.argument("directory", type=PATH, default=training.runs_dir, metavar="[RUNS]")
@json_option
def list_(directory: Path, as_json: bool) -> None:
    """List the runs in RUNS, newest first, and start queued runs.

    The default directory is BC_RUNS, or `runs` in the checkout of the program or, if it is
    installed, in the current directory.
    """
    if is_given("directory") and not directory.is_dir():
        raise FolderNotFoundError(f"There is no folder {directory}. Check the path.")
    try:
        training.advance_queue(directory)  # A killed run could not start the next run.
    except (BcModelError, OSError) as error:
        click.echo(f"No queued run could be started: {error}", err=True)
    rows = [{"run": str(run.path), **_read_status(run)} for run in training.list_runs(directory)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        text = f"{row['run']}: {row['state']}"
        if row.get("epochs"):
            text += f", epoch {row.get('epoch', 0)} of {row['epochs']}"
        if row.get("seconds_left"):
            text += f", about {format_duration(row['seconds_left'])} left"
        click.echo(f"{text}: {row['message']}" if row.get("message") else text)
    if not rows:
        click.echo(f"No run in {directory}. Start one with `train`.")


def _add_action(name: str, action: Callable[[training.Run], Any], text: str) -> None:
    @run_commands.command(name, help=text)
    @_run
    def command(run: Path) -> None:
        action(training.Run.open(run))


_add_action("pause", pause_job, "Pause RUN after the current batch.")
_add_action("continue", continue_job, "Continue a paused RUN with the next batch.")
_add_action("stop", stop_job, "Stop RUN after the current batch and keep the best model so far.")
_add_action("cancel", cancel_job, "Cancel RUN without a model.")
_add_action("delete", delete_job, "Delete the directory RUN with all files.")


@run_commands.command()
@_run
@accept_changes_option
def resume(run: Path, accept_changes: bool) -> None:
    """Resume RUN in a separate process, after its last complete epoch."""
    resumed = training.Run.open(run.resolve())
    training.resume_run(resumed, accept_changes=accept_changes)
    click.echo(
        f"{run}: {resumed.read_status()['state']}. Its process first checks data and code for "
        f"changes. `runs list {run.parent}` shows its state."
    )


def _read_status(run: training.Run) -> dict[str, Any]:
    """Return the status of a run; a damaged status does not hide other runs."""
    try:
        return dict(run.read_status())
    except RunError as error:
        return {"state": "unreadable", "message": f"{error} `runs delete` removes it."}
