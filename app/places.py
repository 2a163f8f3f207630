"""Where the app keeps and finds things on disk."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"
SHIPPED_MODELS = ASSETS / "models"


def runs_folder() -> Path:
    """Return the folder of all runs: `BC_RUNS`, or `runs` beside the program."""
    return Path(os.environ.get("BC_RUNS") or ROOT / "runs")


def typed_path(text: str) -> Path:
    """Return the path that somebody typed, with a ~ at its beginning made a home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # a home folder of somebody who is not there
        return Path(text)
