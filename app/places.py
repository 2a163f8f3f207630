"""Where the app keeps and finds things on disk."""

import os
import shlex
import subprocess
from pathlib import Path

from bc_model.serving.shipped import SHIPPED_MODELS as SHIPPED_MODELS
from bc_model.training.run_folder import runs_folder as runs_folder

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"


def typed_path(text: str) -> Path:
    """Return the path that somebody typed, without quotes about it and with ~ made a home folder.

    File managers copy a path with quotes.
    """
    bare = text.strip()
    if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1]
    try:
        return Path(bare).expanduser()
    except RuntimeError:  # a home folder of somebody who is not there
        return Path(bare)


def as_typed(command: list[str]) -> str:
    """Return a command as it is typed in this system's shell, with quotes where it has blanks."""
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
