"""Evaluation of a model on an external dataset, with the domain shift from the training data."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES
from bc_model.data.dataset import Dataset, check_excluded
from bc_model.data.images import Decode, decode_image
from bc_model.errors import DataError
from bc_model.evaluation.calibration import VALIDATION_FEATURES_FILE
from bc_model.evaluation.checks import FEW_CASES, check_constant
from bc_model.evaluation.domain_shift import measure_domain_shift
from bc_model.evaluation.evaluate import evaluate_predictions, inner_engine
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.predictions import join_predictions
from bc_model.evaluation.report import EvaluationReport, ExcludedImage
from bc_model.evaluation.thresholds import find_evaluation_dir
from bc_model.inference.batching import Progress, predict_files
from bc_model.inference.classifier import Classifier
from bc_model.inference.dataset_checks import (
    check_blocked,
    check_row,
    count_reasons,
    tabulate_checks,
)
from bc_model.inference.engine import Engine
from bc_model.inference.seen_images import SeenInTraining, find_seen_images

PROTOCOL = "external dataset"


def evaluate_external(
    classifier: Classifier | Engine,
    dataset: Dataset,
    *,
    include_blocked: bool = False,
    progress: Progress | None = None,
    decode: Decode = decode_image,
) -> EvaluationReport:
    """Evaluate a classifier on a dataset that was not used for its training.

    Images that the input checks block are excluded, counted and listed in the report.

    Parameters
    ----------
    classifier : Classifier or Engine
        Result of `bc_model.load_classifier`.
    dataset : Dataset
        External dataset. The report mentions the labels of its rules.
    include_blocked : bool
        If True, the input checks exclude no image.
    progress : callable, optional
        Function that is called with the number of predicted images and of all images.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file, such as `DecodePool.decode`.

    Returns
    -------
    EvaluationReport
        Report with the domain shift. If the training or validation data contain some of the images
        or cases, the report is marked as one with leakage. The unseen images are then a subgroup,
        and the domain shift is that of the unseen images.

    Raises
    ------
    ImageError, BundleError
        An image cannot be read, or a file of the model is damaged.
    DataError
        The input checks exclude all images.

    Examples
    --------
    >>> report = evaluate_external(load_classifier("bundled"), dataset)  # doctest: +SKIP
    """
    engine, images = inner_engine(classifier), dataset.images
    bundle = engine.bundle
    paths = list(images["path"])
    found: list[tuple[Check, ...]] = []

    def inspect(i: int, pixels: np.ndarray) -> None:
        found.append(() if include_blocked else check_row(engine, images.iloc[i], pixels))

    predicted = predict_files(
        engine, dataset.root, paths, inspect=inspect, progress=progress, decode=decode
    )
    if not include_blocked:
        for i in np.flatnonzero(predicted.is_constant):
            found[i] = (make_check("BC106"), *found[i])
    table = tabulate_checks(paths, found)
    excluded, blocked = _list_excluded(table), check_blocked(table)
    usable = ~table["is_blocked"].to_numpy(bool)
    images, predicted = images[usable].reset_index(drop=True), predicted.select(usable)
    seen = find_seen_images(bundle, images)
    directory = find_evaluation_dir(bundle)
    reference = None
    if directory is not None:
        reference = FeatureTable.load(directory / VALIDATION_FEATURES_FILE, bundle.graph_sha256)
    # The features of seen images are closer to the reference than those of new images.
    new = ~seen.is_seen if 0 < seen.n_seen < len(images) else np.ones(len(images), bool)
    shift = measure_domain_shift(bundle, images[new], predicted.select(new), reference)
    labels = [f"'{rule.pattern}' as {rule.class_name}" for rule in dataset.rules.labels]
    predictions = join_predictions(images, predicted, bundle.temperature)
    report = evaluate_predictions(
        predictions.assign(seen_in_training=seen.is_seen),
        threshold=bundle.threshold,
        protocol=PROTOCOL,
        has_leakage=seen.n_seen > 0,
        is_leakage_certain=seen.is_certain,
        checks=[
            *([make_check("BC334", labels=labels)] if labels else []),
            *check_excluded(dataset.excluded),
            *blocked,
            *seen.checks,
            *_check_unseen(seen, images),
            *shift.checks,
            *check_constant(predicted.is_constant),
        ],
    )
    return replace(report, domain_shift=shift, excluded=excluded)


def _list_excluded(table: pd.DataFrame) -> tuple[ExcludedImage, ...]:
    """Return the blocked images of a table from `check_files`.

    Raises
    ------
    DataError
        No image is left.
    """
    blocked = table[table["is_blocked"]]
    if len(blocked) == len(table):
        reasons = ", ".join(f"{title.lower()} ({n:,})" for title, n in count_reasons(table).items())
        raise DataError(
            f"The input checks block all {len(table):,} images: {reasons}. Expected H&E-stained "
            "tissue like that of the training images. Include the blocked images to evaluate them "
            "anyway."
        )
    pairs = zip(blocked["path"].astype(str), blocked["codes"].astype(str), strict=True)
    return tuple(ExcludedImage(path, tuple(codes.split())) for path, codes in pairs)


def _check_unseen(seen: SeenInTraining, images: pd.DataFrame) -> Iterator[Check]:
    """Check the unseen images of a dataset that also contains seen images."""
    unseen = images[~seen.is_seen]
    if not 0 < len(unseen) < len(images):
        return
    yield make_check("BC331", n_images=len(unseen))
    known = unseen[unseen["case"] != ""]
    if n_unknown := len(unseen) - len(known):
        yield make_check("BC332", n_unknown=n_unknown)
    benign, malignant = (
        int(known.loc[known["class"] == name, "case"].nunique()) for name in CLASSES
    )
    if len(known) and min(benign, malignant) < FEW_CASES:
        yield make_check(
            "BC333", n_benign_cases=benign, n_malignant_cases=malignant, min_cases=FEW_CASES
        )
