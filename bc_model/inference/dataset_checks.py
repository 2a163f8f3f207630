"""The input checks of all images of a dataset, as a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.checks import Check, is_blocked, make_check
from bc_model.data.declared_scale import UNKNOWN_SCALE, scale_of_frame
from bc_model.data.images import (
    Decode,
    decode_image,
    is_enlarged,
    preprocess_image,
    read_image,
)
from bc_model.inference.engine import Engine
from bc_model.inference.image_checks import check_field, check_name_and_size, check_texture_scale
from bc_model.inference.tiling import plan_tiles, whole_image

Progress = Callable[[int, int], None]


def check_dataset_image(
    engine: Engine,
    pixels: np.ndarray,
    *,
    name: str,
    width_px: int,
    height_px: int,
    magnification: int | None,
) -> tuple[Check, ...]:
    """Return the failed checks of one image of a dataset, those of `Classifier.predict`.

    The image is one field of view. An unknown scale is no failed check, because a dataset has one
    scale for all images, which the domain shift reports.

    Parameters
    ----------
    engine : Engine
        The model with its input reference.
    pixels : ndarray of shape (height, width, 3), uint8
        Input of the network.
    name : str
        File name.
    width_px, height_px : int
        Size of the image.
    magnification : int or None
        Magnification of the image, such as 200 for 200X.
    """
    card = engine.bundle.card
    scale = UNKNOWN_SCALE if magnification is None else scale_of_frame(magnification, width_px)
    checks = list(check_name_and_size(name, width_px, height_px, scale, engine.bundle))
    plan = plan_tiles(width_px, height_px, scale, card)
    if isinstance(plan, Check):
        checks += [plan] if scale.is_known else []
        plan = whole_image(width_px, height_px, card, scale)
    enlarged = is_enlarged(width_px, height_px, engine.bundle.image_size)
    found = check_field(engine, pixels, is_enlarged=enlarged)
    _, contradiction = check_texture_scale(engine, [found.texture], plan)
    return (*checks, *found.checks, *([contradiction] if contradiction else []))


def check_files(
    engine: Engine,
    root: Path,
    images: pd.DataFrame,
    *,
    progress: Progress | None = None,
    decode: Decode = decode_image,
) -> pd.DataFrame:
    """Return the failed input checks of image files.

    Parameters
    ----------
    engine : Engine
        The model with its input reference.
    root : Path
        Directory of the dataset.
    images : DataFrame
        `Dataset.images`, with the columns path, width_px, height_px and magnification.
    progress : callable, optional
        Called with the number of checked images and of all images.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file.

    Returns
    -------
    DataFrame
        See `tabulate_checks`.

    Raises
    ------
    ImageError
        An image cannot be read.
    """
    found = []
    for i, path in enumerate(images["path"]):
        pixels = preprocess_image(read_image(root / path, decode=decode), engine.bundle.image_size)
        found.append(check_row(engine, images.iloc[i], pixels))
        if progress:
            progress(i + 1, len(images))
    return tabulate_checks(list(images["path"]), found)


def check_row(engine: Engine, row: pd.Series, pixels: np.ndarray) -> tuple[Check, ...]:
    """Return the failed checks of a row of `Dataset.images`, see `check_dataset_image`."""
    magnification = row["magnification"]
    return check_dataset_image(
        engine,
        pixels,
        name=Path(str(row["path"])).name,
        width_px=int(row["width_px"]),
        height_px=int(row["height_px"]),
        magnification=None if pd.isna(magnification) else int(magnification),
    )


def tabulate_checks(paths: list[str], checks: list[tuple[Check, ...]]) -> pd.DataFrame:
    """Return the failed checks of images as a table.

    Returns
    -------
    DataFrame
        Columns ``path``, ``codes`` (of failed checks, separated by spaces), ``titles`` (of blocking
        checks, joined with semicolons) and ``is_blocked``.
    """
    rows = [
        {
            "path": path,
            "codes": " ".join(check.code for check in found),
            "titles": "; ".join(check.title for check in found if check.is_blocking),
            "is_blocked": is_blocked(found),
        }
        for path, found in zip(paths, checks, strict=True)
    ]
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
