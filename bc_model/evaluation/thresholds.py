"""Selection of a decision threshold on validation data, its evaluation, and its storage.

The images that select a threshold must not evaluate it, because it fits them best.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from bc_model.errors import ConfigError, DataError, RunError
from bc_model.evaluation.calibration import (
    VALIDATION_IMAGES,
    VALIDATION_PREDICTIONS_FILE,
    read_validation_predictions,
)
from bc_model.evaluation.checks import remove_metric_checks
from bc_model.evaluation.estimates import estimate_metrics
from bc_model.evaluation.evaluate import check_threshold, evaluate_predictions
from bc_model.evaluation.metrics import Floats, confusion_counts
from bc_model.evaluation.report import EVALUATE_AGAIN, REPORT_FILE, read_report, report_files
from bc_model.evaluation.selective import summarize_selective
from bc_model.evaluation.subgroups import Confusion, case_table, evaluate_cases
from bc_model.inference.bundle import MODEL_FOLDER, Bundle
from bc_model.inference.model_card import (
    MODEL_CARD_FILE,
    DecisionThreshold,
    ModelCard,
    model_card_text,
    read_model_card,
)
from bc_model.utils.io import write_files_atomic
from bc_model.utils.measurement import Metric

CRITERIA = ("sensitivity", "specificity", "youden", "balanced")
"""A minimum of one rate, the largest sum of both rates, or the smallest difference of both."""
UNITS = ("image", "case")
"""What is predicted: an image, or a case by the mean probability of its images."""
THRESHOLD_METRICS = ("sensitivity", "specificity", "balanced_accuracy", "accuracy")

MAX_REASON_LENGTH = 2000

LOCK_NAME = ".model_card.lock"
LOCK_TIMEOUT_S = 10
"""The lock is held while files are written, not while metrics are computed."""


@dataclass(frozen=True)
class ThresholdChoice:
    """A selected decision threshold, and the numbers of validation images and known cases.

    The value is halfway between two observed probabilities. The unit is 'image' or 'case', and the
    method is the description for the model card.
    """

    value: float
    unit: str
    method: str
    n_images: int
    n_cases: int


@dataclass(frozen=True)
class ThresholdResult:
    """The `THRESHOLD_METRICS` at a decision threshold, by image or by case.

    `predictive_values` follow from the first two metrics.
    """

    value: float
    unit: str
    confusion: Confusion
    metrics: dict[str, Metric]


def choose_threshold(
    validation: pd.DataFrame,
    *,
    criterion: str = "sensitivity",
    target: float = 0.95,
    unit: str = "image",
) -> ThresholdChoice:
    """Select a decision threshold on validation predictions.

    Parameters
    ----------
    validation : pandas.DataFrame
        Result of `check_predictions`, with both classes.
    criterion : {'sensitivity', 'specificity', 'youden', 'balanced'}
        'sensitivity' selects the highest threshold with at least the target sensitivity,
        'specificity' the lowest one with at least the target specificity, 'youden' the largest sum
        of both, 'balanced' the smallest difference of both.
    target : float
        Target of the first two criteria, in (0, 1].
    unit : {'image', 'case'}
        Whether to select for images or for means over cases.

    Raises
    ------
    ConfigError, DataError
        A parameter is invalid, a class is missing, or no case is known and the unit is the case.
    """
    _check_criterion(criterion, target)
    malignant, prob = _truth_and_prob(validation, unit)
    if malignant.all() or not malignant.any():
        raise DataError(
            "Only one class in the validation subset. Expected benign and malignant images, got "
            f"only {'malignant' if malignant.all() else 'benign'} ones. Train with another split."
        )
    candidates = _candidates(prob)
    sensitivity, specificity = (
        np.array([np.mean(is_correct(prob[side], c)) for c in candidates])
        for side, is_correct in ((malignant, np.greater_equal), (~malignant, np.less))
    )
    index = _best_index(criterion, target, candidates, sensitivity, specificity)
    n_images = len(validation)
    n_cases = validation.loc[validation["case"] != "", "case"].nunique()
    description = {
        "sensitivity": f"the highest with a sensitivity of at least {target}",
        "specificity": f"the lowest with a specificity of at least {target}",
        "youden": "the largest sum of sensitivity and specificity",
        "balanced": "the smallest difference of sensitivity and specificity",
    }[criterion]
    method = (
        f"selected by {unit} on {n_images} validation images of {n_cases or 'unknown'} cases: "
        f"{description} (sensitivity {sensitivity[index]:.2f}, specificity "
        f"{specificity[index]:.2f})"
    )
    return ThresholdChoice(float(candidates[index]), unit, method, n_images, n_cases)


def evaluate_threshold(
    predictions: pd.DataFrame,
    value: float,
    *,
    unit: str = "image",
    n_resamples: int = 2000,
    seed: int = 0,
) -> ThresholdResult:
    """Return the metrics at a threshold, for predictions that did not select it.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Result of `check_predictions`.
    value : float
        Threshold in [0, 1].
    unit : {'image', 'case'}
        Unit of the metrics.
    n_resamples, seed : int
        Number of resamples and random seed of the bootstrap.

    Raises
    ------
    ConfigError, DataError
        A parameter is invalid, or no case is known and the unit is the case.
    """
    check_threshold(value)
    malignant, prob = _truth_and_prob(predictions, unit)
    counts = confusion_counts(malignant, prob, threshold=value)
    config: dict[str, Any] = {"threshold": value, "n_resamples": n_resamples, "seed": seed}
    metrics: Mapping[str, Metric]
    if unit == "image":
        metrics = estimate_metrics(predictions, **config, names=THRESHOLD_METRICS)
    else:
        cases = evaluate_cases(predictions, **config)
        assert cases is not None, "_truth_and_prob refuses predictions without cases"
        metrics = cases.metrics
    (tn, fp), (fn, tp) = counts.astype(int).tolist()
    return ThresholdResult(
        float(value), unit, ((tn, fp), (fn, tp)), {n: metrics[n] for n in THRESHOLD_METRICS}
    )


def set_threshold(
    bundle: Bundle, value: float, reason: str, *, threshold_choice: ThresholdChoice | None = None
) -> Bundle:
    """Write a threshold to the model card, and recompute the report of the run.

    The test metrics and the uncertain range in the model card are recomputed at the new threshold
    from the stored predictions of the run. Without a run, they keep the threshold that they state.

    Parameters
    ----------
    bundle : Bundle
        Model to change.
    value : float
        Threshold in [0, 1].
    reason : str
        Reason for the threshold, in free text; not empty.
    threshold_choice : ThresholdChoice, optional
        Result of `choose_threshold` with this value.

    Raises
    ------
    ConfigError, RunError
        A parameter is invalid, a file cannot be read or written, or the model has changed. The
        model is then unchanged.
    """
    check_threshold(value)
    if not reason.strip():
        raise ConfigError("Missing reason. Expected a reason for the threshold. Add a sentence.")
    if len(reason) > MAX_REASON_LENGTH or not "".join(reason.split()).isprintable():
        raise ConfigError(
            f"Invalid reason. Expected at most {MAX_REASON_LENGTH:,} printable characters, got "
            f"{len(reason):,}. Shorten it, and remove control characters."
        )
    if threshold_choice is not None and threshold_choice.value != value:
        raise ConfigError(
            f"Inconsistent threshold. Expected the selected threshold {threshold_choice.value}, "
            f"got {value}. Set the selected threshold, or set the other one manually."
        )
    threshold = DecisionThreshold(
        value=float(value),
        method=threshold_choice.method if threshold_choice else "set manually",
        reason=reason.strip(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        unit=threshold_choice.unit if threshold_choice else None,
        n_images=threshold_choice.n_images if threshold_choice else 0,
        n_cases=threshold_choice.n_cases if threshold_choice else 0,
    )
    directory = find_evaluation_dir(bundle)
    selective = None  # A range that was fitted at another threshold does not hold.
    if directory is not None and (directory / VALIDATION_PREDICTIONS_FILE).is_file():
        selective = summarize_selective(
            read_validation_predictions(directory), images=VALIDATION_IMAGES, threshold=value
        )
    metrics = replace(bundle.card.metrics, selective=selective)
    card = replace(bundle.card, threshold=threshold, metrics=metrics)
    files: dict[Path, bytes] = {}
    if directory is not None:
        old = read_report(directory)
        assert old.predictions is not None, "read_report reads the predictions or fails"
        report = evaluate_predictions(
            old.predictions,
            threshold=value,
            protocol=old.protocol,
            has_leakage=old.has_leakage,
            checks=remove_metric_checks(old.checks),
        )
        files = report_files(report, directory)
        card = replace(card, metrics=replace(card.metrics, test=report.summary()))
    return update_model_card(bundle, card, files)


def update_model_card(bundle: Bundle, card: ModelCard, files: dict[Path, bytes]) -> Bundle:
    """Write a model card together with other files, all or none."""
    path = bundle.folder / MODEL_CARD_FILE
    text = model_card_text(bundle.folder, card)
    try:
        with filelock.FileLock(bundle.folder / LOCK_NAME, timeout=LOCK_TIMEOUT_S):
            if read_model_card(bundle.folder) != bundle.card:
                raise RunError(
                    f"The model {bundle.label} has changed. Expected the model card as it was "
                    "read, and nothing was written. Check the model, then repeat the change."
                )
            write_files_atomic({**files, path: text.encode()})
    except OSError as error:
        raise RunError(
            f"Cannot write the model card. Expected a writable file '{path}' "
            f"({error.strerror or error}). Nothing was changed. Check the free space and the "
            "permissions."
        ) from error
    return Bundle(bundle.folder, card)


def find_evaluation_dir(bundle: Bundle) -> Path | None:
    """Return the evaluation directory of the run of a model; None outside a finished run."""
    folder = bundle.folder.resolve()
    directory = folder.parent / "evaluation"
    is_in_run = folder.name == MODEL_FOLDER and (directory / REPORT_FILE).is_file()
    return directory if is_in_run else None


def require_evaluation(bundle: Bundle) -> Path:
    """Return the evaluation directory of the run of a model, or raise `RunError`."""
    directory = find_evaluation_dir(bundle)
    if directory is not None:
        return directory
    if bundle.trained_on_all_images:
        raise RunError(
            f"The model {bundle.label} was trained on all of its images. Expected a model with a "
            "validation and a test subset. See the metrics in its model card."
        )
    folder = bundle.folder.resolve()
    if folder.name == MODEL_FOLDER and (folder.parent / "split.csv").is_file():
        raise RunError(
            f"Missing evaluation of the model {bundle.label}. Expected its report and predictions "
            f"in '{folder.with_name('evaluation')}'. {EVALUATE_AGAIN}."
        )
    raise RunError(
        f"The model {bundle.label} is not in a run. Expected a model in the directory of a "
        "finished run. Choose the run."
    )


def _check_criterion(criterion: str, target: float) -> None:
    if criterion not in CRITERIA:
        raise ConfigError(
            f"Invalid criterion '{criterion}'. Expected one of {', '.join(CRITERIA)}. Choose one."
        )
    if criterion in ("sensitivity", "specificity") and not 0.0 < target <= 1.0:
        raise ConfigError(
            f"Invalid target {criterion}. Expected 0 < target <= 1, got {target}. Choose another "
            "target."
        )


def _truth_and_prob(predictions: pd.DataFrame, unit: str) -> tuple[np.ndarray, Floats]:
    """Return true class and probability of each image, or of each case by its mean."""
    if unit not in UNITS:
        raise ConfigError(f"Invalid unit '{unit}'. Expected one of {', '.join(UNITS)}. Choose one.")
    column, table = "prob_malignant", predictions
    if unit == "case":
        column, table = "mean_prob", case_table(predictions, 0.5)
        if table.empty:
            raise DataError(
                "No known cases. Expected cases with images of one class. Select the threshold by "
                "image."
            )
    return (table["class"] == "malignant").to_numpy(dtype=bool), table[column].to_numpy(dtype=float)


def _candidates(prob: Floats) -> Floats:
    """Return every threshold with another result: 0, then the midpoints, in ascending order."""
    distinct = np.unique(np.append(prob, 1.0))
    return np.append(0.0, (distinct[1:] + distinct[:-1]) / 2)


def _best_index(
    criterion: str, target: float, candidates: Floats, sensitivity: Floats, specificity: Floats
) -> int:
    if criterion == "sensitivity":
        return int(np.flatnonzero(sensitivity >= target)[-1])
    if criterion == "specificity":
        # Images with a probability of exactly 1 are malignant at every threshold.
        reached = np.flatnonzero(specificity >= target)
        return int(reached[0]) if reached.size else candidates.size - 1
    score = (
        sensitivity + specificity if criterion == "youden" else -np.abs(sensitivity - specificity)
    )
    best = np.flatnonzero(score >= score.max() - 1e-12)
    # Among equal scores, the threshold closest to the default is selected.
    return int(best[np.argmin(np.abs(candidates[best] - 0.5))])
