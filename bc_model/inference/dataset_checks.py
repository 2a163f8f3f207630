"""The input checks of all images of a dataset, as a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.checks import Check, Severity, is_blocked, make_check
from bc_model.data.images import (
    Decode,
    decode_image,
    is_enlarged,
    preprocess_image,
    read_image,
)
from bc_model.inference.classifier import check_field
from bc_model.inference.engine import Engine

Progress = Callable[[int, int], None]


def check_files(
    engine: Engine,
    root: Path,
    paths: list[str],
    *,
    progress: Progress | None = None,
    decode: Decode = decode_image,
) -> pd.DataFrame:
    """Return the failed input checks of image files.

    Each image is one field of view. Its scale is not checked, because a dataset does not state it.

    Parameters
    ----------
    engine : Engine
        The model with its input reference.
    root : Path
        Directory of the dataset.
    paths : list of str
        Paths relative to `root`.
    progress : callable, optional
        Called with the number of checked images and of all images.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file.

    Returns
    -------
    DataFrame
        Columns ``path``, ``codes`` (codes of failed checks, separated by spaces), ``titles`` (of
        blocking checks, joined with semicolons) and ``is_blocked``.

    Raises
    ------
    ImageError
        An image cannot be read.
    """
    rows = []
    for i, path in enumerate(paths):
        image = read_image(root / path, decode=decode)
        size = engine.bundle.image_size
        enlarged = is_enlarged(image.shape[1], image.shape[0], size)
        pixels = preprocess_image(image, size)
        checks = check_field(engine, pixels, is_enlarged=enlarged)[1]
        blocking = [check for check in checks if check.severity == Severity.BLOCKING]
        rows.append(
            {
                "path": path,
                "codes": " ".join(check.code for check in checks),
                "titles": "; ".join(check.title for check in blocking),
                "is_blocked": is_blocked(checks),
            }
        )
        if progress:
            progress(i + 1, len(paths))
    return pd.DataFrame(rows, columns=["path", "codes", "titles", "is_blocked"])


def count_reasons(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of blocked images by title of the check, the most frequent first.

    An image with several reasons counts for each of them.

    Examples
    --------
    >>> count_reasons(pd.DataFrame({"titles": ["Out of focus", "", "Out of focus; Dark image"]}))
    {'Out of focus': 2, 'Dark image': 1}
    """
    titles = table["titles"].str.split("; ").explode()
    counts = titles[titles != ""].value_counts()
    return {str(title): int(n) for title, n in counts.items()}


def check_blocked(table: pd.DataFrame) -> tuple[Check, ...]:
    """Return BC335 with the number of blocked images and their reasons; empty without any."""
    n_blocked = int(np.sum(table["is_blocked"]))
    if not n_blocked:
        return ()
    reasons = [f"{title} ({n:,})" for title, n in count_reasons(table).items()]
    return (make_check("BC335", n_found=n_blocked, n_images=len(table), reasons=reasons),)
