"""The command line, ``breast-histology``: one module per group of commands.

Invalid input ends with one line on stderr and exit code 2. With ``--json``, stdout contains JSON
only. Commands import what they need when they run, so that ``--help`` is fast.
"""

import io
import os
import sys
import traceback

import click

from bc_model import __version__
from bc_model.cli.data import data_commands
from bc_model.cli.demo import demo
from bc_model.cli.distill import build_bundled, build_demo
from bc_model.cli.evaluate import compare, evaluate, evaluate_robustness, report
from bc_model.cli.experiments import experiment_commands
from bc_model.cli.explain import explain
from bc_model.cli.models import model_commands
from bc_model.cli.runs import run_commands
from bc_model.cli.train import train
from bc_model.errors import BcModelError
from bc_model.utils import describe_error

PROGRAM = "breast-histology"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
def commands() -> None:
    """Classify breast histology images and explain each prediction. Research use only."""


for command in (
    data_commands, train, run_commands, explain, evaluate, evaluate_robustness, compare,
    experiment_commands, model_commands, report, build_bundled, demo, build_demo,
):  # fmt: skip
    commands.add_command(command)
commands.add_command(data_commands.commands["summary"], "audit")
commands.add_command(data_commands.commands["split"])


def main() -> None:
    """Run the command line and exit; every error is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files may contain characters that the code page of the terminal lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = commands(prog_name=PROGRAM, standalone_mode=False)
    except BcModelError as error:
        code = _fail(str(error), 2)
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        code = 1
    except OSError as error:
        code = _fail(describe_error(error), 2)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _fail("Stopped.", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        code = _fail(error.format_message() + hint, 2)
    except Exception as error:  # a bug
        if os.environ.get("BC_DEBUG"):
            traceback.print_exc()
        code = _fail(
            f"Unexpected error ({type(error).__name__}: {error}). Run the command again with "
            "BC_DEBUG=1 and report its output.",
            1,
        )
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    click.echo("Error: " + " ".join(message.split()), err=True)
    return code
