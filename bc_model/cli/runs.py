"""The commands for training runs: the same actions as the buttons of the app's Train page."""

from pathlib import Path
from typing import Any

import click

from bc_model.cli.options import PATH, as_json_option, print_json
from bc_model.errors import BcModelError, RunError
from bc_model.jobs import cancel_job, continue_job, delete_job, pause_job, stop_job
from bc_model.training import Run, list_runs, runs_dir
from bc_model.utils import format_duration

_run = click.argument("run", type=PATH)


@click.group()
def jobs() -> None:
    """List and control training runs."""


@jobs.command("list")
@click.argument("runs", type=PATH, default=runs_dir)
@as_json_option
def list_(runs: Path, as_json: bool) -> None:
    """List the runs in a directory, newest first, and start queued runs if places are free.

    The default directory is BC_RUNS, or `runs` next to the program.
    """
    from bc_model.training import advance_queue

    try:
        advance_queue(runs)  # A killed run could not start the next run.
    except (BcModelError, OSError) as error:
        click.echo(f"No queued run could be started: {error}", err=True)
    found = [{"run": str(run.path), **_status(run)} for run in list_runs(runs)]
    if as_json:
        print_json(found)
        return
    for one in found:
        epochs = f", epoch {one['epoch']} of {one['epochs']}" if one.get("epochs") else ""
        left = one.get("seconds_left")
        going = f", about {format_duration(left)} left" if left else ""
        words = f": {one['message']}" if one.get("message") else ""
        click.echo(f"{one['run']}: {one['state']}{epochs}{going}{words}")
    if not found:
        click.echo(f"No run in {runs}; start one with `train`.")


@jobs.command()
@_run
def pause(run: Path) -> None:
    """Pause RUN after the current batch; it loses nothing."""
    pause_job(Run.open(run))


@jobs.command("continue")
@_run
def continue_(run: Path) -> None:
    """Continue a paused RUN with the next batch."""
    continue_job(Run.open(run))


@jobs.command()
@_run
def stop(run: Path) -> None:
    """Stop RUN after the current batch and keep the best model so far."""
    stop_job(Run.open(run))


@jobs.command()
@_run
def cancel(run: Path) -> None:
    """Cancel RUN without a model."""
    cancel_job(Run.open(run))


@jobs.command()
@_run
@click.option("--accept-changes", is_flag=True, help="Resume even if data or code have changed.")
def resume(run: Path, accept_changes: bool) -> None:
    """Resume RUN in a separate process, after its last complete epoch."""
    from bc_model.training import resume_run

    folder = Run.open(run.resolve())
    resume_run(folder, accept_changes=accept_changes)
    status = folder.read_status()
    click.echo(
        f"{run}: {status['state']}. Its process first checks data and code for changes; "
        f"`jobs list {run.parent}` shows its state."
    )


@jobs.command()
@_run
def delete(run: Path) -> None:
    """Delete the directory RUN with all files."""
    delete_job(Run.open(run))


def _status(run: Run) -> dict[str, Any]:
    """Return the status of a run; a damaged status does not hide other runs."""
    try:
        return run.read_status()
    except RunError as error:
        return {"state": "unreadable", "message": f"{error} `jobs delete` removes it."}
