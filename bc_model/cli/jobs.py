"""The commands for runs that go on: what the buttons of the app's Train page do."""

from pathlib import Path
from typing import Any

import click

from bc_model.cli.options import PATH, as_json_option, print_json
from bc_model.errors import BcModelError, RunError
from bc_model.training.asking import ask_run
from bc_model.training.run_folder import RunFolder, list_runs, runs_folder
from bc_model.words import duration_in_words

_run = click.argument("run", type=PATH)


@click.group()
def jobs() -> None:
    """List training runs and change their course."""


@jobs.command("list")
@click.argument("runs", type=PATH, default=runs_folder)
@as_json_option
def list_(runs: Path, as_json: bool) -> None:
    """List the runs in a folder, newest first; what can start by now is started.

    The default folder is BC_RUNS, or `runs` beside the program.
    """
    from bc_model.training.jobs import advance_queue

    try:
        advance_queue(runs)  # a run that was killed could start nobody behind it
    except (BcModelError, OSError) as error:
        click.echo(f"No queued run could be started: {error}", err=True)
    found = [{"run": str(run.path), **_status(run)} for run in list_runs(runs)]
    if as_json:
        print_json(found)
        return
    for one in found:
        epochs = f", epoch {one['epoch']} of {one['epochs']}" if one.get("epochs") else ""
        left = one.get("seconds_left")
        going = f", about {duration_in_words(left)} left" if left else ""
        words = f": {one['message']}" if one.get("message") else ""
        click.echo(f"{one['run']}: {one['state']}{epochs}{going}{words}")
    if not found:
        click.echo(f"No run in {runs}; start one with `train`.")


@jobs.command()
@_run
def pause(run: Path) -> None:
    """Let RUN wait after the batch at hand; it loses nothing."""
    ask_run(RunFolder.open(run), "pause")


@jobs.command("continue")
@_run
def continue_(run: Path) -> None:
    """Let a paused RUN go on at the very batch where it stood."""
    ask_run(RunFolder.open(run), None)


@jobs.command()
@_run
def stop(run: Path) -> None:
    """End RUN after the batch at hand and keep the best model so far."""
    ask_run(RunFolder.open(run), "stop")


@jobs.command()
@_run
def cancel(run: Path) -> None:
    """End RUN without a model."""
    from bc_model.training.jobs import cancel_run

    cancel_run(RunFolder.open(run))


@jobs.command()
@_run
@click.option("--accept-changes", is_flag=True, help="Though data or code changed.")
def resume(run: Path, accept_changes: bool) -> None:
    """Go on with RUN in a process of its own, after its last whole epoch."""
    from bc_model.training.jobs import resume_run

    folder = RunFolder.open(run.resolve())
    resume_run(folder, accept_changes=accept_changes)
    status = folder.read_status()
    click.echo(
        f"{run}: {status['state']}. Its process compares data and code with what they were; "
        f"`jobs list {run.parent}` shows whether it goes on."
    )


@jobs.command()
@_run
def delete(run: Path) -> None:
    """Delete RUN with all in it."""
    from bc_model.training.jobs import delete_run

    delete_run(RunFolder.open(run))


def _status(run: RunFolder) -> dict[str, Any]:
    """Return the status of a run; one that is damaged hides no other run."""
    try:
        return run.read_status()
    except RunError as error:
        return {"state": "unreadable", "message": f"{error} `jobs delete` removes it."}
