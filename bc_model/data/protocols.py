"""The split protocols by name: quick to import, for whoever only needs to list or check them.

`case` keeps every case, over all magnifications and sections, on one side; `folds-clean` takes the
official test part and keeps its cases out of training. The others leak, and figures from them are
marked so everywhere: `image` draws pictures at random, so that neighbouring fields of one slide
stand on both sides; `folder` keeps the literature's "patients" whole, which are sections, so that
siblings of one slide number part; `folds` is the official files as published, which do the same.
"""

from pathlib import Path

from bc_model.errors import SplitError

PROTOCOLS = ("case", "folds-clean", "folds", "folder", "image")
LEAKY_PROTOCOLS = frozenset({"image", "folder", "folds"})
FOLDS_PROTOCOLS = frozenset({"folds", "folds-clean"})
"""These need an official fold file."""


def require_protocol(protocol: str, folds_file: str | Path = "") -> None:
    """Raise `SplitError` for a protocol that is none, or without the file it needs."""
    if protocol not in PROTOCOLS:
        raise SplitError(
            f"There is no split protocol '{protocol}'; choose one of {', '.join(PROTOCOLS)}."
        )
    named = str(folds_file) != ""
    if protocol in FOLDS_PROTOCOLS and not named:
        raise SplitError(f"The protocol '{protocol}' needs an official fold file; choose one.")
    if named and protocol not in FOLDS_PROTOCOLS:
        raise SplitError(
            f"The protocol '{protocol}' takes no fold file; ask for 'folds' or 'folds-clean', or "
            f"leave {folds_file} out."
        )
