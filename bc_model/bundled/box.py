"""The whole way of the model in the box, from pictures to a bundle with its passport."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bc_model.bundled.cross_validation import temperature_of
from bc_model.bundled.make import Judged, judge, learn_all
from bc_model.bundled.passport import box_passport, judged_reports
from bc_model.bundled.recipe import Recipe
from bc_model.bundled.source import Source
from bc_model.errors import SettingsError
from bc_model.evaluation.predictions import predictions_to_csv
from bc_model.files import write_text_atomic
from bc_model.serving.bundle import Bundle
from bc_model.serving.compact import write_compact_bundle
from bc_model.serving.optimise import measure_parity
from bc_model.serving.passport import PASSPORT_FILE
from bc_model.training.run_folder import is_name

if TYPE_CHECKING:
    import keras

PREDICTIONS_FILE = "cross_validation.csv"
"""Beside the bundle's files: what each picture got from a model that had not seen its case."""


def learn_for_box(
    root: Path,
    sets: tuple[str, ...],
    work: Path,
    folds_file: Path | None,
    recipe: Recipe | None = None,
    processes: int = 0,
) -> tuple[Source, list[Judged], keras.Model]:
    """Do the long part: judge the recipe and learn from everything, keeping it all in `work`.

    `make_box` on another machine may take what this kept.

    Parameters
    ----------
    root, sets, work, folds_file, recipe, processes
        As for `make_box`.

    Returns
    -------
    source : Source
    judged : list of Judged
    model : keras.Model
    """
    recipe = recipe or Recipe()
    source = Source.read(root, sets, recipe.image_size)
    judged = judge(source, recipe, work, folds_file, processes)
    return source, judged, learn_all(source, recipe, work, processes)


def make_box(
    root: Path,
    sets: tuple[str, ...],
    folder: Path,
    work: Path,
    folds_file: Path | None,
    recipe: Recipe | None = None,
    processes: int = 0,
) -> Bundle:
    """Judge the recipe, learn from everything, and write the bundle.

    Parameters
    ----------
    root : Path
        Folder that holds the sets.
    sets : tuple of str
    folder : Path
        Of the bundle; replaced when it exists.
    work : Path
        Keeps what each fold came to.
    folds_file : Path or None
        An official fold file.
    recipe : Recipe, optional
    processes : int
        That make views beside the one that learns.

    Raises
    ------
    DataError, FolderNotFound
        The sets cannot be used.
    SettingsError
        The bundle cannot be put there.
    """
    _require_place(folder)
    recipe = recipe or Recipe()
    source, judged, model = learn_for_box(root, sets, work, folds_file, recipe, processes)
    reports = judged_reports(source.table, judged)
    temperature = temperature_of(source.table, judged[0].folds, judged[0].logits)
    passport = box_passport(
        folder.name, source, recipe, judged, reports, temperature, model.count_params()
    )
    predictions = reports[0].predictions
    assert predictions is not None, "a report that was just made has them"

    def complete(draft: Bundle) -> None:
        measure_parity(draft, source.pixels, source.malignant)
        write_text_atomic(draft.folder / PREDICTIONS_FILE, predictions_to_csv(predictions))

    return write_compact_bundle(model, folder, passport, source.pixels[:4], complete=complete)


def _require_place(folder: Path) -> None:
    """Refuse a place for the bundle before hours of work, not after."""
    if not is_name(folder.name):
        raise SettingsError(
            f"The folder of a model has a name of letters, digits and -._ alone; asked for "
            f"'{folder}'."
        )
    if folder.exists() and not (folder / PASSPORT_FILE).is_file() and any(folder.iterdir()):
        raise SettingsError(
            f"{folder} holds something else than a model and would be replaced; choose another one."
        )
