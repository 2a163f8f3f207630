"""Paths of the app, and paths that users type."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"


def parse_path(text: str) -> Path:
    """Return a typed path without surrounding quotes, with ~ replaced by the home folder."""
    bare = text.strip()  # File managers copy a path with quotes.
    if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1]
    try:
        return Path(bare).expanduser()
    except RuntimeError:  # The user of ~user does not exist.
        return Path(bare)
