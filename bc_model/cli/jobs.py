"""The commands for runs that go on: what the buttons of the app's Train page do."""

from pathlib import Path

import click

from bc_model.cli.options import PATH, as_json_option, print_json
from bc_model.training.run_folder import RunFolder, list_runs
from bc_model.words import duration_in_words

_run = click.argument("run", type=PATH)


@click.group()
def jobs() -> None:
    """List training runs and change their course."""


@jobs.command("list")
@click.argument("runs", type=PATH, default=Path("runs"))
@as_json_option
def list_(runs: Path, as_json: bool) -> None:
    """List the runs in a folder, newest first."""
    found = [{"run": str(run.path), **run.read_status()} for run in list_runs(runs)]
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
    RunFolder.open(run).request("pause")


@jobs.command("continue")
@_run
def continue_(run: Path) -> None:
    """Let a paused RUN go on at the very batch where it stood."""
    RunFolder.open(run).request(None)


@jobs.command()
@_run
def stop(run: Path) -> None:
    """End RUN after the batch at hand and keep the best model so far."""
    RunFolder.open(run).request("stop")


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

    resume_run(RunFolder.open(run.resolve()), accept_changes=accept_changes)


@jobs.command()
@_run
def delete(run: Path) -> None:
    """Delete RUN with all in it."""
    from bc_model.training.jobs import delete_run

    delete_run(RunFolder.open(run))
