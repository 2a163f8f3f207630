"""The split that a model learned by, or why it has none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bc_model.errors import SplitError

if TYPE_CHECKING:
    from bc_model.serving.bundle import Bundle


def own_split_file(bundle: Bundle, asked: Path | None, what: str, instead: str) -> Path:
    """Return the file that was asked for, or that of the model's run.

    Parameters
    ----------
    bundle : Bundle
    asked : Path or None
    what, instead : str
        What a part of the split is for, and a sentence on what can be done without one.

    Raises
    ------
    SplitError
        The model learned from every picture, so that no file can be its split.
    """
    if bundle.learned_from_all:
        raise SplitError(
            f"The model {bundle.label} learned from every picture that it was given, so no split "
            f"has a part to {what}. {instead}"
        )
    return asked or bundle.folder.parent / "split.csv"
