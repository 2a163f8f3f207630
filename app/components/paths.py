"""Paths of the app."""

from pathlib import Path

from bc_model.inference import BUNDLED_MODELS_DIR as BUNDLED_MODELS_DIR
from bc_model.training import runs_dir as runs_dir

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"


def typed_path(text: str) -> Path:
    """Return a typed path without surrounding quotes and with ~ replaced by the home folder.

    File managers copy a path with quotes.
    """
    bare = text.strip()
    if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1]
    try:
        return Path(bare).expanduser()
    except RuntimeError:  # The user of ~user does not exist.
        return Path(bare)
