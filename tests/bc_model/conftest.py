"""The command line, run in this process as a person would run it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.cli import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command line: exit code, stdout and stderr, native code's too."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bc_model", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capfd.readouterr())

    return run


@pytest.fixture
def command(command_line: Command) -> Command:
    """Run any command; the tests of one give it what it always needs."""
    return command_line


def tree(folder: Path) -> dict[str, int | None]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must exit with 2, say one line on stderr, and leave the disk as it is."""

    def run(*arguments: object) -> str:
        before = tree(tmp_path)
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert tree(tmp_path) == before
        return err

    return run
