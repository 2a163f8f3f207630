"""The whole way of the model in the box, from pictures to a bundle with its model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bc_model.bundled.choosing import MENU, Menu, recipes_inside
from bc_model.bundled.cross_validation import temperature_of
from bc_model.bundled.make import judge, judge_choosing, learn_all
from bc_model.bundled.nested import require_folds
from bc_model.bundled.passport import bundled_model_card, judged_reports
from bc_model.bundled.recipe import Recipe
from bc_model.bundled.source import Source
from bc_model.data.names import is_drawn
from bc_model.errors import SettingsError
from bc_model.evaluation.crossed import CHOSEN_INSIDE_FILE, CROSS_VALIDATED_FILE
from bc_model.evaluation.predictions import predictions_to_csv
from bc_model.files import require_place, write_text_atomic
from bc_model.serving.bundle import Bundle, file_sha256
from bc_model.serving.compact import write_compact_bundle
from bc_model.serving.known_pictures import KNOWN_FILE, KnownPictures
from bc_model.serving.optimise import measure_parity
from bc_model.serving.passport import MODEL_CARD_FILE, write_model_card
from bc_model.serving.shipped import SHIPPED_MODELS
from bc_model.training.run_folder import is_name


def make_box(
    root: Path,
    sets: tuple[str, ...],
    folder: Path,
    work: Path,
    folds_file: Path | None,
    recipe: Recipe | None = None,
    processes: int = 0,
    menu: Menu | None = MENU,
    inside: tuple[Recipe, Recipe] | None = None,
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
    menu : Menu or None
        Judge the choosing from it as well; five folds and two kinds of views take 25 networks.
    inside : (Recipe, Recipe), optional
        Of these; default are `recipes_inside` with small ones that choose.

    Raises
    ------
    DataError, FolderNotFound
        The sets cannot be used.
    SettingsError
        Too few folds to choose inside them; the bundle cannot be put there, or would replace the
        one that comes with the program by one of drawn pictures; or Keras computes with another
        backend than TensorFlow, from which alone a graph can be served.
    """
    _require_name_and_room(folder)
    _require_tensorflow()
    recipe = recipe or Recipe()
    judged_inside, chooser = inside or recipes_inside("small-chooses", recipe)
    if menu:
        require_folds(judged_inside)
    source = Source.read(root, sets, recipe.image_size)
    _require_tissue(source, folder)
    judged = judge(source, recipe, work, folds_file, processes)
    chosen_inside = None
    if menu:
        chosen_inside = judge_choosing(
            source, judged_inside, menu, work, processes, chooser=chooser
        )
    model = learn_all(source, recipe, work, processes)
    reports = judged_reports(source.table, judged)
    temperature = temperature_of(source.table, judged[0].folds, judged[0].logits)
    card = bundled_model_card(
        folder.name, source, recipe, judged, reports, temperature, model.count_params(),
        chosen_inside,
    )  # fmt: skip
    predictions = reports[0].predictions
    assert predictions is not None, "a report that was just made has them"

    def complete(draft: Bundle) -> None:
        draft = measure_parity(draft, source.pixels, source.malignant)
        known = dict(zip(source.table["sha256"], source.table["dhash"], strict=True))
        tables = {
            CROSS_VALIDATED_FILE: predictions_to_csv(predictions),
            KNOWN_FILE: KnownPictures(known, whole=True).as_csv(),
        }
        if chosen_inside:
            tables[CHOSEN_INSIDE_FILE] = predictions_to_csv(chosen_inside.predictions)
        files = dict(draft.card.files)
        for name, text in tables.items():
            write_text_atomic(draft.folder / name, text)
            files[name] = file_sha256(draft.folder / name)
        write_model_card(draft.folder, replace(draft.card, files=files))

    return write_compact_bundle(model, folder, card, source.pixels[:4], complete=complete)


def _require_tensorflow() -> None:
    """Refuse what could learn for hours and then not be served."""
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        raise SettingsError(
            f"A model is written with Keras on TensorFlow; KERAS_BACKEND is '{backend}'. Learn "
            "with --learn-only, then run the command again without the variable."
        )


def _require_tissue(source: Source, folder: Path) -> None:
    if folder.resolve().parent == SHIPPED_MODELS and source.table["case"].map(is_drawn).any():
        raise SettingsError(
            f"{folder} holds what comes with the program, which knows tissue; these pictures are "
            "drawn. Name another folder with --out."
        )


def _require_name_and_room(folder: Path) -> None:
    """Refuse a place for the bundle before hours of work, not after."""
    if not is_name(folder.name):
        raise SettingsError(
            f"The folder of a model has a name of letters, digits and -._ alone; asked for "
            f"'{folder}'."
        )
    require_place(folder)
    if folder.exists() and not (folder / MODEL_CARD_FILE).is_file() and any(folder.iterdir()):
        raise SettingsError(
            f"{folder} holds something else than a model and would be replaced; choose another one."
        )
