"""Evaluate a model on another set of pictures, and say how far that set is from what it knows."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Manifest, check_excluded
from bc_model.evaluation.calibrate_model import FEATURES_FILE
from bc_model.evaluation.checks import FEW_CASES
from bc_model.evaluation.domain_shift import measure_shift
from bc_model.evaluation.evaluate import evaluate_predictions, predictions_of
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.report import Report
from bc_model.evaluation.thresholds import evaluation_of
from bc_model.inference.engine import Engine
from bc_model.inference.predict import Progress, predict_files
from bc_model.inference.seen_images import Known, known_to

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
    shift = measure_shift(bundle, pictures[apart], predicted.select(apart), features)
    predictions = predictions_of(pictures, predicted, bundle.temperature)
    report = evaluate_predictions(
        predictions.assign(known=known.pictures),
        threshold=bundle.threshold,
        protocol=PROTOCOL,
        leaky=known.number > 0,
        is_known=known.is_certain,
        checks=[
            *_check_labels(mapping),
            *check_excluded(manifest.rejected),
            *known.checks,
            *_check_unseen(known, pictures),
            *shift.checks,
        ],
    )
    return replace(report, shift=shift)


def _check_unseen(known: Known, pictures: pd.DataFrame) -> Iterator[Check]:
    """Check the unseen images of a dataset that contains seen images as well."""
    unseen = pictures[~known.pictures]
    if not 0 < len(unseen) < len(pictures):
        return
    yield make_check("BC331", n=len(unseen))
    stated = unseen[unseen["case"] != ""]
    if n_unknown := len(unseen) - len(stated):
        yield make_check("BC332", n_unknown=n_unknown)
    benign, malignant = (
        int(stated.loc[stated["class"] == name, "case"].nunique()) for name in CLASSES
    )
    if len(stated) and min(benign, malignant) < FEW_CASES:
        yield make_check(
            "BC333", n_benign_cases=benign, n_malignant_cases=malignant, min_cases=FEW_CASES
        )


def _check_labels(mapping: Mapping[str, str] | None) -> Iterator[Check]:
    if mapping:
        yield make_check(
            "BC334", labels=[f"'{label}' as {name}" for label, name in mapping.items()]
        )
