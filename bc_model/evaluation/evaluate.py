"""Evaluation of predictions, and of a model on one subset of a split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.dataset import Dataset
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE
from bc_model.errors import ConfigError, SplitError
from bc_model.evaluation.calibration import measure_calibration
from bc_model.evaluation.checks import check_constant, check_metrics
from bc_model.evaluation.estimates import estimate_metrics
from bc_model.evaluation.metrics import confusion_counts, pr_curve, roc_curve
from bc_model.evaluation.predictions import check_predictions, join_predictions
from bc_model.evaluation.report import EvaluationReport, PrCurve, RocCurve
from bc_model.evaluation.subgroups import RECOGNITION_RATE, evaluate_cases, evaluate_subgroups
from bc_model.inference.batching import Progress, predict_files
from bc_model.inference.classifier import Classifier
from bc_model.inference.engine import Engine
from bc_model.inference.seen_images import UNKNOWN_INITIALIZATION, find_seen_images

_MIN_RESAMPLES = 100


def evaluate(
    classifier: Classifier | Engine,
    dataset: Dataset,
    split: pd.DataFrame,
    *,
    subset: str = "test",
    progress: Progress | None = None,
) -> EvaluationReport:
    """Evaluate a classifier on one subset of a split.

    Parameters
    ----------
    classifier : Classifier or Engine
        Result of `bc_model.load_classifier`.
    dataset : Dataset
        Dataset of the split.
    split : pandas.DataFrame
        Result of `bc_model.make_split`.
    subset : {'test', 'validation', 'train'}
        Subset of the split. The report of any subset but 'test' is marked as one with leakage.
    progress : callable, optional
        Function that is called with the number of predicted images and of all images.

    Returns
    -------
    EvaluationReport
        Marked as a report with leakage if the protocol allows leakage, or if the training or
        validation data of the model contain an image or a case of the subset.

    Raises
    ------
    SplitError, ImageError, BundleError
        The subset is empty, an image cannot be read, or a file of the model is damaged.

    Examples
    --------
    >>> report = evaluate(load_classifier("bundled"), dataset, split)  # doctest: +SKIP
    """
    return evaluate_split(
        inner_engine(classifier), dataset.root, split, subset=subset, progress=progress
    )


def evaluate_split(
    engine: Engine,
    root: Path,
    split: pd.DataFrame,
    *,
    subset: str = "test",
    progress: Progress | None = None,
) -> EvaluationReport:
    """Evaluate an engine; see `evaluate`. The paths of the split are relative to `root`."""
    rows = split[split["subset"] == subset].reset_index(drop=True)
    if rows.empty:
        raise SplitError(
            f"Empty {subset} subset. Expected at least one image. Choose another subset or split."
        )
    seen = find_seen_images(engine.bundle, rows)
    predicted = predict_files(engine, root, list(rows["path"]), progress=progress)
    protocol = str(rows["protocol"].iloc[0])
    data, checks = engine.bundle.card.data, seen.checks
    if not seen.n_seen:
        checks = [check for check in checks if check == UNKNOWN_INITIALIZATION]
    if data.has_initialization_leakage:
        checks = [make_check("BC211"), *checks]
    return evaluate_predictions(
        join_predictions(rows, predicted, engine.bundle.temperature),
        threshold=engine.bundle.threshold,
        protocol=protocol if subset == "test" else f"{protocol}, {subset} subset",
        has_leakage=protocol in PROTOCOLS_WITH_LEAKAGE
        or data.has_leakage
        or seen.n_seen > 0
        or subset != "test",
        is_leakage_certain=seen.is_certain,
        checks=[*checks, *check_constant(predicted.is_constant)],
    )


def inner_engine(classifier: Classifier | Engine) -> Engine:
    """Return the engine that predicts batches of images."""
    return classifier.engine.engine if isinstance(classifier, Classifier) else classifier


def evaluate_predictions(
    frame: pd.DataFrame,
    *,
    threshold: float = 0.5,
    protocol: str,
    has_leakage: bool,
    is_leakage_certain: bool = False,
    n_resamples: int = 2000,
    seed: int = 0,
    checks: Iterable[Check] = (),
) -> EvaluationReport:
    """Evaluate predictions.

    Parameters
    ----------
    frame : pandas.DataFrame
        Table of predictions, see `check_predictions`. The order of the rows has no influence.
    threshold : float, default=0.5
        Decision threshold in [0, 1]. It must have been selected on other images.
    protocol : str
        Split protocol, such as 'case' or 'image'.
    has_leakage, is_leakage_certain : bool
        Whether images of one case can be in training and test, and whether this is certain.
    n_resamples : int, default=2000
        Number of bootstrap resamples, at least 100.
    seed : int, default=0
        Random seed of the bootstrap, 0 or more.
    checks : iterable of Check
        Checks of the origin of the images, which follow those of the metrics.

    Raises
    ------
    DataError, ConfigError
        The predictions are invalid, see `check_predictions`, or a parameter is out of range.
    """
    check_threshold(threshold)
    if n_resamples < _MIN_RESAMPLES:
        raise ConfigError(
            f"Invalid n_resamples. Expected at least {_MIN_RESAMPLES}, got {n_resamples}. Use 2000."
        )
    if seed < 0:
        raise ConfigError(f"Invalid seed. Expected seed >= 0, got {seed}. Choose another seed.")
    table = check_predictions(frame)
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    prob = table["prob_malignant"].to_numpy(dtype=float)
    case = table["case"].to_numpy(dtype=str)
    (tn, fp), (fn, tp) = confusion_counts(malignant, prob, threshold=threshold).astype(int).tolist()
    roc, pr = roc_curve(malignant, prob), pr_curve(malignant, prob)
    metrics = estimate_metrics(table, threshold=threshold, n_resamples=n_resamples, seed=seed)
    cases = evaluate_cases(table, threshold=threshold, n_resamples=n_resamples, seed=seed)
    checked = metrics | ({RECOGNITION_RATE: cases.metrics[RECOGNITION_RATE]} if cases else {})
    known = table[table["case"] != ""]
    return EvaluationReport(
        protocol=protocol,
        has_leakage=bool(has_leakage),
        threshold=float(threshold),
        n_images=len(table),
        n_cases=known["case"].nunique(),
        n_benign_cases=known.loc[known["class"] == "benign", "case"].nunique(),
        n_malignant_cases=known.loc[known["class"] == "malignant", "case"].nunique(),
        malignant_proportion=float(malignant.mean()),
        confusion=((tn, fp), (fn, tp)),
        metrics=metrics,
        roc=None if roc is None else RocCurve(*(tuple(axis.tolist()) for axis in roc)),
        checks=(
            *check_metrics(
                table, checked, has_leakage=has_leakage, is_leakage_certain=is_leakage_certain
            ),
            *checks,
        ),
        pr=None if pr is None else PrCurve(*(tuple(axis.tolist()) for axis in pr)),
        case_metrics=cases,
        subgroups=evaluate_subgroups(
            table, threshold=threshold, n_resamples=n_resamples, seed=seed
        ),
        calibration=measure_calibration(malignant, prob, case, seed=seed),
        predictions=table,
    )


def check_threshold(threshold: float) -> None:
    """Raise `ConfigError` if a decision threshold is not in [0, 1]."""
    # NaN fails this comparison as well.
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(
            f"Invalid threshold. Expected 0 <= threshold <= 1, got {threshold}. Choose another one."
        )
