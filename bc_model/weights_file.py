"""Files of initial weights: whether one is there and of a kind that Keras reads.

Without TensorFlow, so that a page can say it before a run is started. Whether the weights fit a
backbone is seen when they are loaded.
"""

from __future__ import annotations

from pathlib import Path

from bc_model.errors import WeightsError

NAMED_WEIGHTS = ("imagenet", "none", "bundled")
"""Initial weights that are not the path of a file; 'bundled' are those of the model in the box."""

_FIRST_BYTES = {".h5": b"\x89HDF\r\n\x1a\n", ".keras": b"PK\x03\x04"}


def require_weights_file(path: Path) -> None:
    """Refuse a file of weights that is missing or something else.

    Raises
    ------
    WeightsError
        There is no such file, it cannot be read, or it does not begin as its kind does.
    """
    if not path.is_file():
        raise WeightsError(
            f"There is no weights file {path}; check its path, or choose one of "
            f"{', '.join(NAMED_WEIGHTS)}."
        )
    first = _FIRST_BYTES.get(path.suffix)
    try:
        with path.open("rb") as stream:
            holds = first is not None and stream.read(len(first)) == first
    except OSError as error:
        raise WeightsError(
            f"The weights file {path} cannot be read: {error.strerror or error}."
        ) from error
    if not holds:
        raise WeightsError(
            f"{path} is not a weights file; give a .h5, .weights.h5 or .keras file that Keras "
            f"wrote, or one of {', '.join(NAMED_WEIGHTS)}."
        )
