"""Evaluate a model on another set of pictures, and say how far that set is from what it knows."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from bc_model.data.manifest import Manifest, left_out_in_words
from bc_model.data.names import CLASSES
from bc_model.evaluation.alarms import FEW_CASES
from bc_model.evaluation.by_group import NOT_KNOWN
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
        Marked as leaky when the model learned from, or was chosen by, one of the pictures or cases;
        then the other ones are a group of their own. With the shift of these, or of all where it
        knows all or none.
    """
    bundle, pictures = engine.bundle, manifest.pictures
    known = known_to(bundle, pictures)
    predicted = predict_files(engine, manifest.root, list(pictures["path"]), progress=progress)
    folder = evaluation_of(bundle)
    features = FeatureTable.load(folder / FEATURES_FILE, bundle.network) if folder else None
    # What a model knows looks nearer than anything new can.
    apart = ~known.pictures if 0 < known.number < len(pictures) else np.ones(len(pictures), bool)
    shift = measure_shift(bundle, pictures[apart], predicted.part(apart), features)
    predictions = predictions_of(pictures, predicted, bundle.temperature)
    report = evaluate_predictions(
        predictions.assign(known=known.pictures),
        threshold=bundle.threshold,
        protocol=PROTOCOL,
        leaky=known.number > 0,
        is_known=known.is_certain,
        notes=[
            *_about_labels(mapping),
            *filter(None, [left_out_in_words(manifest.rejected)]),
            *known.notes,
            *_about_others(known, pictures),
            *shift.sentences,
        ],
    )
    return replace(report, shift=shift)


def _about_others(known: Known, pictures: pd.DataFrame) -> list[str]:
    """Say what the pictures that a model does not know are worth, where it knows the rest."""
    others = pictures[~known.pictures]
    if not 0 < len(others) < len(pictures):
        return []
    stated = others[others["case"] != ""]
    cases = {name: stated.loc[stated["class"] == name, "case"].nunique() for name in CLASSES}
    have = "has" if len(others) == 1 else "have"
    of = ""
    if len(stated):
        of = f", of {' and '.join(f'{n} {name}' for name, n in cases.items())} cases,"
    found = [
        f"The other {many(len(others), 'picture')}{of} {have} figures apart ('{NOT_KNOWN}'), and "
        "how far the set is from what the model knows is measured on these alone."
    ]
    if unstated := len(others) - len(stated):
        found.append(
            f"The case of {unstated:,} of these others is not stated: they may be of the model's "
            "own patients."
        )
    if len(stated) and min(cases.values()) < FEW_CASES:
        found.append(
            f"With fewer than {FEW_CASES} cases of a class those figures say little about new "
            "patients."
        )
    return found


def _about_labels(mapping: Mapping[str, str] | None) -> list[str]:
    if not mapping:
        return []
    told = " and ".join(f"'{label}' as {name}" for label, name in mapping.items())
    return [
        f"The set's own labels were read {told} by hand. The model tells malignant from benign "
        "tumours; labels that ask anything else, such as invasive carcinoma against all other "
        "tissue, make this another task than the one it was trained for."
    ]
