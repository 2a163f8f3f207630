"""The cut-off bench: choose a cut-off on validation predictions, see what it does on test data.

Never on one and the same: a cut-off looks best on the pictures that chose it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bc_model.errors import DataError, SettingsError
from bc_model.evaluation.by_case import Confusion, by_case, case_table
from bc_model.evaluation.estimate import estimate_figures
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.metrics import confusion_counts
from bc_model.evaluation.weighting import Floats

GOALS = ("sensitivity", "specificity", "youden", "balanced")
"""At least so much of one; the largest sum of both; both the same."""
UNITS = ("picture", "case")
"""What is called malignant: a picture by its probability, or a case by the mean of its pictures."""

TRIAL_FIGURES = ("sensitivity", "specificity", "balanced_accuracy", "accuracy")


@dataclass(frozen=True)
class Cutoff:
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
    chosen: str
    n: int
    n_cases: int


@dataclass(frozen=True)
class Trial:
    """What a cut-off does on some pictures.

    Attributes
    ----------
    value : float
    unit : {'picture', 'case'}
    confusion : tuple of two pairs of int
        Pictures or cases: rows are the truth, columns the verdict.
    figures : dict of str to Figure
        Keys as in `TRIAL_FIGURES`. Predictive values follow from the first two by
        `combined.predictive_values`.
    """

    value: float
    unit: str
    confusion: Confusion
    figures: dict[str, Figure]


def choose_cutoff(
    validation: pd.DataFrame,
    *,
    goal: str = "sensitivity",
    wanted: float = 0.95,
    unit: str = "picture",
) -> Cutoff:
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
    SettingsError
        Unknown goal or unit, or a wish out of its range.
    DataError
        One class only, or no case is known and the unit is the case.
    """
    _check_wish(goal, wanted, unit)
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
    index = _choose(goal, wanted, candidates, sensitivity, specificity)
    n, n_cases = len(validation), validation.loc[validation["case"] != "", "case"].nunique()
    what = {
        "sensitivity": f"the highest with a sensitivity of at least {wanted}",
        "specificity": f"the lowest with a specificity of at least {wanted}",
        "youden": "the largest sum of sensitivity and specificity",
        "balanced": "sensitivity and specificity as close as they come",
    }[goal]
    chosen = (
        f"chosen by {unit} on {n} validation pictures of {n_cases or 'unknown'} cases: {what} "
        f"(there sensitivity {sensitivity[index]:.2f}, specificity {specificity[index]:.2f})"
    )
    return Cutoff(float(candidates[index]), unit, chosen, n, n_cases)


def try_cutoff(
    predictions: pd.DataFrame,
    value: float,
    *,
    unit: str = "picture",
    n_resamples: int = 2000,
    seed: int = 0,
) -> Trial:
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
    SettingsError
        The cut-off or the unit is out of its range.
    DataError
        No case is known and the unit is the case.
    """
    _check_wish("sensitivity", 1.0, unit)
    if not 0.0 <= value <= 1.0:
        raise SettingsError(f"A cut-off lies between 0 and 1; asked for {value}.")
    malignant, prob = _judged(predictions, unit)
    counts = confusion_counts(malignant, prob, threshold=value)
    settings: dict[str, Any] = {"threshold": value, "n_resamples": n_resamples, "seed": seed}
    if unit == "picture":
        figures = estimate_figures(predictions, **settings, names=TRIAL_FIGURES)
    else:
        found = by_case(predictions, **settings)
        assert found is not None, "_judged has refused what has no case"
        figures = {name: found.figures[name] for name in TRIAL_FIGURES}
    (tn, fp), (fn, tp) = counts.astype(int).tolist()
    return Trial(float(value), unit, ((tn, fp), (fn, tp)), figures)


def _check_wish(goal: str, wanted: float, unit: str) -> None:
    if goal not in GOALS:
        raise SettingsError(f"There is no goal '{goal}'; choose one of {', '.join(GOALS)}.")
    if unit not in UNITS:
        raise SettingsError(f"There is no unit '{unit}'; choose one of {', '.join(UNITS)}.")
    if goal in ("sensitivity", "specificity") and not 0.0 < wanted <= 1.0:
        raise SettingsError(f"A wished {goal} lies above 0 and at most at 1; asked for {wanted}.")


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
    goal: str, wanted: float, candidates: Floats, sensitivity: Floats, specificity: Floats
) -> int:
    if goal == "sensitivity":
        return int(np.flatnonzero(sensitivity >= wanted)[-1])
    if goal == "specificity":
        # Without a probability of exactly 1 the highest cut-off calls everything benign.
        reached = np.flatnonzero(specificity >= wanted)
        return int(reached[0]) if reached.size else candidates.size - 1
    score = sensitivity + specificity if goal == "youden" else -np.abs(sensitivity - specificity)
    best = np.flatnonzero(score >= score.max() - 1e-12)
    # Of equals the one nearest to the usual cut-off.
    return int(best[np.argmin(np.abs(candidates[best] - 0.5))])
