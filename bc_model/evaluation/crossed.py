"""The report of a model made of every picture: that of its recipe, from its cross-validation."""

from __future__ import annotations

from typing import Any

from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.predictions import read_predictions
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.bundle import Bundle

CROSS_VALIDATED_FILE = "cross_validation.csv"
"""Beside a model made of every picture: what each got from a model that had not seen its case."""
CHOSEN_INSIDE_FILE = "chosen_inside.csv"
"""The same with settings that were chosen without the case, as the passport's 'chosen_inside' says.
Its logits are in the teacher's standard deviations."""


def is_crossed(bundle: Bundle) -> bool:
    """Tell whether the predictions of a cross-validation belong to the model."""
    return CROSS_VALIDATED_FILE in bundle.passport["files"]


def crossed_report(bundle: Bundle) -> Report:
    """Evaluate the predictions of the cross-validation anew, with the curves that no passport has.

    Parameters
    ----------
    bundle : Bundle
        See `is_crossed`.

    Returns
    -------
    Report
        With the notes of the passport, whose figures these are, and `inside_in_words`.

    Raises
    ------
    BundleError
        The file is missing, or is not the one that the passport lists.
    DataError
        It holds no predictions.
    """
    test = bundle.passport["metrics"]["test"]
    inside = inside_in_words(bundle.passport)
    return evaluate_predictions(
        read_predictions(bundle.file(CROSS_VALIDATED_FILE)),
        threshold=bundle.threshold,
        protocol=test["protocol"],
        leaky=test["leaky"],
        notes=[*test["notes"], *([inside] if inside else [])],
    )


def inside_in_words(passport: dict[str, Any]) -> str:
    """Say what the way a recipe was chosen comes to when it is judged as well.

    Parameters
    ----------
    passport : dict

    Returns
    -------
    str
        A sentence; empty where the passport has no such figures.
    """
    inside = passport["metrics"].get("chosen_inside")
    if not inside:
        return ""
    by = f", by {inside['chosen_by']}" if "chosen_by" in inside else ""
    area, balanced = (Figure(**inside["figures"][one]) for one in ("roc_auc", "balanced_accuracy"))
    return (
        "The recipe was chosen while its figures were looked at, which flatters them. With four "
        f"settings chosen anew for each share of the cases, without a look at it{by}: area under "
        f"the ROC curve {area}, balanced accuracy {balanced}, judged with {inside['network']}."
    )
