"""Fixtures that run the command line in this process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bc_model.cli import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Return a function that returns exit code, stdout and stderr, including native output."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["breast-histology", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return (exit_info.value.code or 0, *capfd.readouterr())

    return run


@pytest.fixture
def command(command_line: Command) -> Command:
    """Return `command_line`; test files override it to add arguments."""
    return command_line


def list_tree(directory: Path) -> dict[str, int | None]:
    """Return the modification time of every file, and None for every directory."""
    return {
        path.relative_to(directory).as_posix(): path.stat().st_mtime_ns if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs an invalid command and returns its one line on stderr.

    The exit code is 2, stdout is empty and no file changes.
    """

    def run(*arguments: object) -> str:
        before = list_tree(tmp_path)
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert list_tree(tmp_path) == before
        return err

    return run
