"""The command tree, and the wording of all help texts."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from bc_model import __version__
from bc_model.cli import commands

TREE = """
audit compare demo evaluate evaluate-robustness explain report split train
build-bundled-model, build-demo-model
data add, data download, data generate, data list, data remove, data split, data summary
experiments cv, experiments protocols, experiments sweep
models calibrate, models card, models choose-threshold, models export, models list
models quantize, models set-threshold, models show, models verify
runs cancel, runs continue, runs delete, runs list, runs pause, runs resume, runs stop
"""


def walk(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group with its path."""
    for name, command in group.commands.items():
        path = f"{prefix}{name}"
        yield path, command
        if isinstance(command, click.Group):
            yield from walk(command, f"{path} ")


COMMANDS = dict(walk(commands))


def test_command_tree_is_complete() -> None:
    top, *groups = TREE.strip().splitlines()
    expected = {*top.split(), *(path for line in groups for path in line.split(", "))}
    assert {path for path, command in COMMANDS.items() if not isinstance(command, click.Group)} == (
        expected
    )


def test_top_level_audit_and_split_are_the_commands_of_data() -> None:
    assert COMMANDS["audit"] is COMMANDS["data summary"]
    assert COMMANDS["split"] is COMMANDS["data split"]


@pytest.mark.parametrize("path", COMMANDS)
def test_help_texts_are_short_sentences(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    assert command.help.split("\n\n")[0].strip().endswith(".")
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, param.name
            assert param.help.endswith("."), param.help
            assert len(param.help.replace(" Unit:", "").split()) <= 15, param.help


def test_version_names_the_program() -> None:
    result = CliRunner().invoke(commands, ["--version"])
    assert result.output == f"breast-histology, version {__version__}\n"
