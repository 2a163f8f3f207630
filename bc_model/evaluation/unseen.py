"""Evaluate a model on another set of pictures, and say how far that set is from what it knows."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from bc_model.data.manifest import Manifest
from bc_model.evaluation.evaluate import predictions_of
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.known import Known, known_to
from bc_model.evaluation.lock import evaluation_of
from bc_model.evaluation.predict import Progress, predict_files
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.evaluation.shift import measure_shift
from bc_model.evaluation.validation import FEATURES_FILE
from bc_model.serving.engine import Engine
from bc_model.words import many

PROTOCOL = "another set"


def evaluate_unseen(
    engine: Engine,
    manifest: Manifest,
    *,
    mapping: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Predict every picture of a set that the model had no part of.

    Parameters
    ----------
    engine : Engine
    manifest : Manifest
        As `read_manifest` or `read_mapped` returns it.
    mapping : mapping of str to str, optional
        From the set's labels to classes, where somebody mapped them by hand.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Returns
    -------
    Report
        With its shift. Marked as leaky when the model learned from, or was chosen by, one of the
        pictures or cases; then the other ones are a group of their own.
    """
    bundle, pictures = engine.bundle, manifest.pictures
    predicted = predict_files(engine, manifest.root, list(pictures["path"]), progress=progress)
    folder = evaluation_of(bundle)
    features = FeatureTable.load(folder / FEATURES_FILE, bundle.network) if folder else None
    shift = measure_shift(bundle, pictures, predicted, features)
    known = known_to(bundle, pictures)
    predictions = predictions_of(pictures, predicted, bundle.temperature)
    report = evaluate_predictions(
        predictions.assign(known=known.pictures) if known.number else predictions,
        threshold=bundle.threshold,
        protocol=PROTOCOL,
        leaky=known.number > 0,
        notes=[
            *_about_labels(mapping),
            *known.notes,
            *_about_new(known, pictures),
            *shift.sentences,
        ],
    )
    return replace(report, shift=shift)


def _about_new(known: Known, pictures: pd.DataFrame) -> list[str]:
    if not 0 < known.number < len(pictures):
        return []
    case = pictures.loc[~known.pictures, "case"]
    n_cases = case[case != ""].nunique()
    of_whom = f" of {many(n_cases, 'case')}" if n_cases else ""
    return [
        f"New to the model: {many(len(case), 'picture')}{of_whom}. What it is worth on patients "
        "that it has not seen, their figures alone can say; they stand under 'New and known'."
    ]


def _about_labels(mapping: Mapping[str, str] | None) -> list[str]:
    if not mapping:
        return []
    told = " and ".join(f"'{label}' as {name}" for label, name in mapping.items())
    return [
        f"The set's own labels were read {told} by hand. The model tells malignant from benign "
        "tumours; labels that ask anything else, such as invasive carcinoma against all other "
        "tissue, make this another task than the one it was trained for."
    ]
