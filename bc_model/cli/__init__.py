"""The command line: one command for each thing the app can do.

Bad input ends with one line on stderr and exit code 2. With ``--json`` stdout carries JSON and
nothing else. Commands import what they need when they run, so that ``--help`` is quick.
"""

import os
import sys
import traceback

import click

from bc_model import __version__
from bc_model.cli.data import audit, data, split
from bc_model.cli.distill import train_bundled
from bc_model.cli.evaluate import compare, evaluate, export
from bc_model.cli.experiments import report, sweep
from bc_model.cli.explain import explain
from bc_model.cli.models import calibrate, models, threshold_choice
from bc_model.cli.runs import jobs
from bc_model.cli.train import train
from bc_model.errors import BcModelError


def main() -> None:
    """Run the command line and turn every error into one line and an exit code."""
    try:
        code = commands(standalone_mode=False)
    except BcModelError as error:
        code = _fail(str(error), 2)
    except BrokenPipeError:
        # The reader of our output (head, less) has left: nobody to tell.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        code = 1
    except OSError as error:
        name = error.filename2 or error.filename
        place = f"{name} " if name else "A file "
        code = _fail(f"{place}cannot be read or written: {error.strerror}.", 2)
    except click.exceptions.Abort:
        code = _fail("stopped.", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        code = _fail(error.format_message() + hint, 2)
    except KeyboardInterrupt:
        code = _fail("stopped.", 130)
    except Exception as error:  # a fault of ours: say so, and keep the details for a report
        if os.environ.get("BC_DEBUG"):
            traceback.print_exc()
        code = _fail(
            f"a fault in the program ({type(error).__name__}: {error}); "
            "run again with BC_DEBUG=1 and report what it prints.",
            1,
        )
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bc_model")
def commands() -> None:
    """Classify breast histopathology pictures and explain each verdict. Research use only."""


for command in (
    audit, split, train, sweep, report, evaluate, compare, explain, export, data, models, jobs,
    train_bundled,
):  # fmt: skip
    commands.add_command(command)
for command in (calibrate, threshold_choice):
    models.add_command(command)


def _fail(message: str, code: int) -> int:
    click.echo("Error: " + " ".join(message.split()), err=True)
    return code
