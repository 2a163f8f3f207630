"""The cut-off bench: choose a cut-off on validation predictions, see what it does on test data.

Never on one and the same: a cut-off looks best on the pictures that chose it.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from bc_model.errors import ConfigError, DataError, RunError
from bc_model.evaluation.checks import remove_metric_checks
from bc_model.evaluation.estimates import estimate_metrics
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.metrics import Floats, confusion_counts
from bc_model.evaluation.report import _recompute_hint, read_report, report_files
from bc_model.evaluation.subgroups import Confusion, case_table, evaluate_cases
from bc_model.inference.bundle import MODEL_FOLDER, Bundle
from bc_model.inference.model_card import (
    MODEL_CARD_FILE,
    DecisionThreshold,
    ModelCard,
    model_card_text,
    read_model_card,
)
from bc_model.utils.io import write_together
from bc_model.utils.metric import Metric

CRITERIA = ("sensitivity", "specificity", "youden", "balanced")
"""At least so much of one; the largest sum of both; both the same."""
UNITS = ("image", "case")
"""What is called malignant: a picture by its probability, or a case by the mean of its pictures."""

THRESHOLD_METRICS = ("sensitivity", "specificity", "balanced_accuracy", "accuracy")


@dataclass(frozen=True)
class ThresholdChoice:
    """A cut-off and how it came about.

    Attributes
    ----------
    value : float
        In [0, 1]. It lies halfway between two probabilities that occurred.
    unit : {'picture', 'case'}
    chosen : str
        A sentence for the model card.
    n, n_cases : int
        Validation pictures, and known cases among them.
    """

    value: float
    unit: str
    method: str
    n_images: int
    n_cases: int


@dataclass(frozen=True)
class ThresholdResult:
    """What a cut-off does on some pictures.

    Attributes
    ----------
    value : float
    unit : {'picture', 'case'}
    confusion : tuple of two pairs of int
        Pictures or cases: rows are the truth, columns the verdict.
    figures : dict of str to Figure
        Keys as in `TRIAL_METRICS`. Predictive values follow from the first two by
        `combined.predictive_values`.
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
    """Choose a cut-off on validation predictions.

    Parameters
    ----------
    validation : pandas.DataFrame
        As `check_predictions` returns it, with both classes.
    goal : {'sensitivity', 'specificity', 'youden', 'balanced'}
        'sensitivity' takes the highest cut-off that has at least the wanted one, 'specificity' the
        lowest; 'youden' the largest sum of both; 'balanced' the smallest difference.
    wanted : float
        Of the first two goals, in (0, 1]; the others do without.
    unit : {'picture', 'case'}

    Raises
    ------
    ConfigError
        Unknown goal or unit, or a wish out of its range.
    DataError
        One class only, or no case is known and the unit is the case.
    """
    _check_wish(criterion, target, unit)
    malignant, prob = _judged(validation, unit)
    if malignant.all() or not malignant.any():
        raise DataError(
            "A cut-off is chosen between two classes, but the validation part holds "
            f"{'malignant' if malignant.all() else 'benign'} ones only: train with another split."
        )
    candidates = _candidates(prob)
    sensitivity, specificity = (
        np.array([np.mean(right(prob[side], c)) for c in candidates])
        for side, right in ((malignant, np.greater_equal), (~malignant, np.less))
    )
    index = _choose(criterion, target, candidates, sensitivity, specificity)
    n, n_cases = len(validation), validation.loc[validation["case"] != "", "case"].nunique()
    what = {
        "sensitivity": f"the highest with a sensitivity of at least {target}",
        "specificity": f"the lowest with a specificity of at least {target}",
        "youden": "the largest sum of sensitivity and specificity",
        "balanced": "sensitivity and specificity as close as they come",
    }[criterion]
    chosen = (
        f"chosen by {unit} on {n} validation pictures of {n_cases or 'unknown'} cases: {what} "
        f"(there sensitivity {sensitivity[index]:.2f}, specificity {specificity[index]:.2f})"
    )
    return ThresholdChoice(float(candidates[index]), unit, chosen, n, n_cases)


def evaluate_threshold(
    predictions: pd.DataFrame,
    value: float,
    *,
    unit: str = "image",
    n_resamples: int = 2000,
    seed: int = 0,
) -> ThresholdResult:
    """Say what a cut-off does on predictions that did not choose it.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As `check_predictions` returns it.
    value : float
        In [0, 1].
    unit : {'picture', 'case'}
    n_resamples, seed : int
        Of the bootstrap over cases.

    Raises
    ------
    ConfigError
        The cut-off or the unit is out of its range.
    DataError
        No case is known and the unit is the case.
    """
    _check_wish("sensitivity", 1.0, unit)
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"A cut-off lies between 0 and 1; asked for {value}.")
    malignant, prob = _judged(predictions, unit)
    counts = confusion_counts(malignant, prob, threshold=value)
    config: dict[str, Any] = {"threshold": value, "n_resamples": n_resamples, "seed": seed}
    if unit == "image":
        metrics = estimate_metrics(predictions, **config, names=THRESHOLD_METRICS)
    else:
        found = evaluate_cases(predictions, **config)
        assert found is not None, "_judged has refused what has no case"
        metrics = {name: found.metrics[name] for name in THRESHOLD_METRICS}
    (tn, fp), (fn, tp) = counts.astype(int).tolist()
    return ThresholdResult(float(value), unit, ((tn, fp), (fn, tp)), metrics)


def _check_wish(criterion: str, target: float, unit: str) -> None:
    if criterion not in CRITERIA:
        raise ConfigError(f"There is no goal '{criterion}'; choose one of {', '.join(CRITERIA)}.")
    if unit not in UNITS:
        raise ConfigError(f"There is no unit '{unit}'; choose one of {', '.join(UNITS)}.")
    if criterion in ("sensitivity", "specificity") and not 0.0 < target <= 1.0:
        raise ConfigError(
            f"A wished {criterion} lies above 0 and at most at 1; asked for {target}."
        )


def _judged(predictions: pd.DataFrame, unit: str) -> tuple[np.ndarray, Floats]:
    """Return truth and probability of what is called: pictures, or cases by their mean."""
    column, table = "prob_malignant", predictions
    if unit == "case":
        column, table = "mean_prob", case_table(predictions, 0.5)
        if table.empty:
            raise DataError(
                "A cut-off by case needs known cases of one class each; there is none: choose by "
                "picture."
            )
    return (table["class"] == "malignant").to_numpy(dtype=bool), table[column].to_numpy(dtype=float)


def _candidates(prob: Floats) -> Floats:
    """Return every cut-off that calls differently, rising: 0, then halfway between neighbours."""
    distinct = np.unique(np.append(prob, 1.0))
    return np.append(0.0, (distinct[1:] + distinct[:-1]) / 2)


def _choose(
    criterion: str, target: float, candidates: Floats, sensitivity: Floats, specificity: Floats
) -> int:
    if criterion == "sensitivity":
        return int(np.flatnonzero(sensitivity >= target)[-1])
    if criterion == "specificity":
        # Without a probability of exactly 1 the highest cut-off calls everything benign.
        reached = np.flatnonzero(specificity >= target)
        return int(reached[0]) if reached.size else candidates.size - 1
    score = (
        sensitivity + specificity if criterion == "youden" else -np.abs(sensitivity - specificity)
    )
    best = np.flatnonzero(score >= score.max() - 1e-12)
    # Of equals the one nearest to the usual cut-off.
    return int(best[np.argmin(np.abs(candidates[best] - 0.5))])


LOCK_NAME = ".model_card.lock"
LOCK_TIMEOUT_S = 10
"""It is held while files are written, not while figures are computed."""


def set_threshold(
    bundle: Bundle, value: float, reason: str, *, threshold_choice: ThresholdChoice | None = None
) -> Bundle:
    """Write a cut-off into the model card, and the run's report again at that cut-off.

    Figures at another cut-off than the one in force would mislead whoever reads the model card, so
    the test figures are computed again from the run's stored predictions. A bundle outside a run
    has none; its figures say at which cut-off they were taken.

    Parameters
    ----------
    bundle : Bundle
    value : float
        In [0, 1].
    reason : str
        Why, in the words of whoever decides; not empty.
    cutoff : Cutoff, optional
        What `choose_threshold` returned, if the value came from there.

    Returns
    -------
    Bundle
        With the new model card. It is written together with the report: whatever fails leaves the
        model as it was.

    Raises
    ------
    ConfigError
        The value is out of its range, differs from `threshold_choice`, or the reason is empty.
    RunError
        The run's report cannot be read or written, or the model was changed meanwhile.
    """
    _check(value, reason, threshold_choice)
    threshold = DecisionThreshold(
        value=float(value),
        method="set by hand",
        reason=reason.strip(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if threshold_choice:
        threshold = replace(
            threshold,
            method=threshold_choice.method,
            unit=threshold_choice.unit,
            n_images=threshold_choice.n_images,
            n_cases=threshold_choice.n_cases,
        )
    card = replace(bundle.card, threshold=threshold)
    files: dict[Path, bytes] = {}
    folder = find_evaluation_dir(bundle)
    if folder is not None:
        old = read_report(folder)
        assert old.predictions is not None, "read_report reads the predictions or fails"
        report = evaluate_predictions(
            old.predictions,
            threshold=value,
            protocol=old.protocol,
            has_leakage=old.has_leakage,
            checks=remove_metric_checks(old.checks),
        )
        files = report_files(report, folder)
        card = replace(card, metrics=replace(card.metrics, test=report.summary()))
    return update_model_card(bundle, card, files)


def update_model_card(bundle: Bundle, card: ModelCard, files: dict[Path, bytes]) -> Bundle:
    """Write a model card together with what must agree with it, all of it or nothing.

    Parameters
    ----------
    bundle : Bundle
        As it was read when the change was thought of.
    card : ModelCard
        What it is to say instead.
    files : dict of Path to bytes
        The report that it quotes, and whatever else goes with it.

    Raises
    ------
    RunError
        Somebody else has changed the model card since, or something cannot be written.
    """
    place = bundle.folder / MODEL_CARD_FILE
    text = model_card_text(bundle.folder, card)
    try:
        with filelock.FileLock(bundle.folder / LOCK_NAME, timeout=LOCK_TIMEOUT_S):
            if read_model_card(bundle.folder) != bundle.card:
                raise RunError(
                    f"The model {bundle.label} was changed by somebody else in the meantime, and "
                    "nothing was written: look at it again, then repeat."
                )
            write_together({**files, place: text.encode()})
    except OSError as error:
        raise RunError(
            f"The model card {place} and the report beside it should be written together, but that "
            f"failed ({error.strerror or error}), and nothing was changed: make room, or ask for "
            "the right to write there."
        ) from error
    return Bundle(bundle.folder, card)


def find_evaluation_dir(bundle: Bundle) -> Path | None:
    """Return the evaluation folder of the run that a bundle is in; None outside a finished run."""
    folder = bundle.folder.resolve()
    if folder.name != MODEL_FOLDER:
        return None
    beside = folder.parent / "evaluation"
    return beside if (beside / "report.json").is_file() else None


def require_evaluation(bundle: Bundle) -> Path:
    """Return `evaluation_of` a bundle, or raise `RunError`."""
    folder = find_evaluation_dir(bundle)
    if folder is None and bundle.learned_from_all:
        raise RunError(
            f"The model {bundle.label} learned from every picture that it was given: it has no "
            "validation or test part to fit, choose or report anything on. Its figures stand on "
            "its model card."
        )
    if folder is None:
        place = bundle.folder.resolve()
        if place.name == MODEL_FOLDER and (place.parent / "split.csv").is_file():
            lost = place.with_name("evaluation")
            raise RunError(
                f"The run of the model {bundle.label} has its report and its predictions in "
                f"{lost}, but they are gone: {_recompute_hint(lost)}."
            )
        raise RunError(
            f"The model {bundle.label} is not in the folder of a finished run, where its report "
            "and its predictions are; name the run."
        )
    return folder


def _check(value: float, reason: str, threshold_choice: ThresholdChoice | None) -> None:
    # Written so that NaN fails as well.
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"A cut-off lies between 0 and 1; asked for {value}.")
    if not reason.strip():
        raise ConfigError(
            "A cut-off is locked with its reason, but none is given; say in a sentence why."
        )
    if threshold_choice is not None and threshold_choice.value != value:
        raise ConfigError(
            f"The cut-off chosen on validation pictures is {threshold_choice.value}, but {value} is to be "
            "locked; lock what was chosen, or lock the other by hand."
        )
