"""A drawn data set put on the shelf: to try the program where no real pictures are at hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

from bc_model.data.intake import Added
from bc_model.data.sets import (
    PICTURES_FOLDER,
    describe_set,
    free_place,
    open_set,
    put_in_place,
    staging_folder,
)
from bc_model.data.synthetic import write_synthetic

SOURCE = "drawn by this program"


def add_drawn(
    name: str,
    *,
    n_cases: int = 12,
    pictures_per_case: int = 6,
    size: tuple[int, int] = (460, 700),
    seed: int = 0,
    shelf: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Draw a set of invented pictures at 200X into a new data set.

    Parameters
    ----------
    name : str
        Of the new data set.
    n_cases, pictures_per_case, size, seed
        See `bc_model.data.synthetic.write_synthetic`.
    shelf : Path, optional
        Default: `bc_model.data.sets.datasets_folder`.
    progress : callable, optional
        Called with (pictures drawn, pictures in all). What it raises stops the drawing, and
        nothing is left.

    Returns
    -------
    Added

    Raises
    ------
    DataError
        The name is taken or cannot be one.
    SettingsError
        A number is out of range.
    """
    target = free_place(name, shelf)
    staging = staging_folder(target.parent)
    try:
        written = write_synthetic(
            staging / PICTURES_FOLDER,
            n_cases=n_cases,
            pictures_per_case=pictures_per_case,
            size=size,
            seed=seed,
            progress=progress,
        )
        describe_set(staging, kind="stored", pictures=PICTURES_FOLDER, source=SOURCE)
        put_in_place(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Added(open_set(name, target.parent), written, [], [])
