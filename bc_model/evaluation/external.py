"""Evaluate a model on another set of pictures, and say how far that set is from what it knows."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset, check_excluded
from bc_model.evaluation.calibrate_model import FEATURES_FILE
from bc_model.evaluation.checks import FEW_CASES
from bc_model.evaluation.domain_shift import measure_domain_shift
from bc_model.evaluation.evaluate import evaluate_predictions, join_predictions
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.report import EvaluationReport
from bc_model.evaluation.thresholds import find_evaluation_dir
from bc_model.inference.batching import Progress, predict_files
from bc_model.inference.engine import Engine
from bc_model.inference.seen_images import SeenInTraining, find_seen_images

PROTOCOL = "external dataset"


def evaluate_external(
    engine: Engine,
    dataset: Dataset,
    *,
    mapping: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Predict every picture of a set that the model had no part of.

    Parameters
    ----------
    engine : Engine
    manifest : Manifest
        As `load_dataset` returns it.
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
    bundle, images = engine.bundle, dataset.images
    known = find_seen_images(bundle, images)
    predicted = predict_files(engine, dataset.root, list(images["path"]), progress=progress)
    folder = find_evaluation_dir(bundle)
    features = FeatureTable.load(folder / FEATURES_FILE, bundle.graph_sha256) if folder else None
    # What a model knows looks nearer than anything new can.
    separability = ~known.is_seen if 0 < known.n_seen < len(images) else np.ones(len(images), bool)
    shift = measure_domain_shift(
        bundle, images[separability], predicted.select(separability), features
    )
    predictions = join_predictions(images, predicted, bundle.temperature)
    report = evaluate_predictions(
        predictions.assign(seen_in_training=known.is_seen),
        threshold=bundle.threshold,
        protocol=PROTOCOL,
        has_leakage=known.n_seen > 0,
        is_known=known.is_certain,
        checks=[
            *_check_labels(mapping),
            *check_excluded(dataset.excluded),
            *known.checks,
            *_check_external(known, images),
            *shift.checks,
        ],
    )
    return replace(report, domain_shift=shift)


def _check_external(known: SeenInTraining, images: pd.DataFrame) -> Iterator[Check]:
    """Check the unseen images of a dataset that contains seen images as well."""
    external = images[~known.is_seen]
    if not 0 < len(external) < len(images):
        return
    yield make_check("BC331", n_images=len(external))
    stated = external[external["case"] != ""]
    if n_unknown := len(external) - len(stated):
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
