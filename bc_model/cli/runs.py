"""``runs``: list and control training runs."""

from pathlib import Path
from typing import Any

import click

from bc_model.cli.options import PATH, json_option, print_json
from bc_model.errors import BcModelError, RunError
from bc_model.jobs import cancel_job, continue_job, delete_job, pause_job, stop_job
from bc_model.training import Run, list_runs, runs_dir
from bc_model.utils import format_duration

_run = click.argument("run", type=PATH)


@click.group()
def runs() -> None:
    """List and control training runs."""


@runs.command("list")
@click.argument("directory", type=PATH, default=runs_dir, metavar="[RUNS]")
@json_option
def list_(directory: Path, as_json: bool) -> None:
    """List the runs in RUNS, newest first, and start queued runs.

    The default directory is BC_RUNS, or `runs` next to the program.
    """
    from bc_model.training import advance_queue

    try:
        advance_queue(directory)  # A killed run could not start the next run.
    except (BcModelError, OSError) as error:
        click.echo(f"No queued run could be started: {error}", err=True)
    rows = [{"run": str(run.path), **_read_status(run)} for run in list_runs(directory)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        text = f"{row['run']}: {row['state']}"
        if row.get("epochs"):
            text += f", epoch {row['epoch']} of {row['epochs']}"
        if row.get("seconds_left"):
            text += f", about {format_duration(row['seconds_left'])} left"
        click.echo(f"{text}: {row['message']}" if row.get("message") else text)
    if not rows:
        click.echo(f"No run in {directory}. Start one with `train`.")


@runs.command()
@_run
def pause(run: Path) -> None:
    """Pause RUN after the current batch."""
    pause_job(Run.open(run))


@runs.command("continue")
@_run
def continue_(run: Path) -> None:
    """Continue a paused RUN with the next batch."""
    continue_job(Run.open(run))


@runs.command()
@_run
def stop(run: Path) -> None:
    """Stop RUN after the current batch and keep the best model so far."""
    stop_job(Run.open(run))


@runs.command()
@_run
def cancel(run: Path) -> None:
    """Cancel RUN without a model."""
    cancel_job(Run.open(run))


@runs.command()
@_run
@click.option("--accept-changes", is_flag=True, help="Resume even if data or code have changed.")
def resume(run: Path, accept_changes: bool) -> None:
    """Resume RUN in a separate process, after its last complete epoch."""
    from bc_model.training import resume_run

    resumed = Run.open(run.resolve())
    resume_run(resumed, accept_changes=accept_changes)
    click.echo(
        f"{run}: {resumed.read_status()['state']}. Its process first checks data and code for "
        f"changes. `runs list {run.parent}` shows its state."
    )


@runs.command()
@_run
def delete(run: Path) -> None:
    """Delete the directory RUN with all files."""
    delete_job(Run.open(run))


def _read_status(run: Run) -> dict[str, Any]:
    """Return the status of a run; a damaged status does not hide other runs."""
    try:
        return run.read_status()
    except RunError as error:
        return {"state": "unreadable", "message": f"{error} `runs delete` removes it."}
