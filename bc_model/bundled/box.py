"""The whole way of the model in the box, from pictures to a bundle with its passport."""

from __future__ import annotations

from pathlib import Path

from bc_model.bundled.cross_validation import fitted_on, without_offset
from bc_model.bundled.make import judge, learn_all
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

PREDICTIONS_FILE = "cross_validation.csv"
"""Beside the bundle's files: what each picture got from a model that had not seen its case."""


def make_box(
    root: Path,
    sets: tuple[str, ...],
    folder: Path,
    work: Path,
    folds_file: Path | None,
    recipe: Recipe | None = None,
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

    Raises
    ------
    DataError, FolderNotFound
        The sets cannot be used.
    SettingsError
        The bundle cannot be put there.
    """
    _require_place(folder)
    recipe = recipe or Recipe()
    source = Source.read(root, sets, recipe.image_size)
    judged = judge(source, recipe, work, folds_file)
    reports = judged_reports(source.table, judged)
    fitted = fitted_on(source.table, judged[0].folds, judged[0].logits)
    model = learn_all(source, recipe, work)
    last = model.get_layer("logits")
    kernel, bias = last.get_weights()
    last.set_weights([kernel, without_offset(bias, fitted.offset)])
    passport = box_passport(
        folder.name, source, recipe, judged, reports, fitted, model.count_params()
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
