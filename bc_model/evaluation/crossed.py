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
"""The same where nothing was chosen with a look at its case, as far as the passport says."""


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
    chooser = inside.get("chosen_by", inside["network"])
    by = f" by {chooser}" if chooser != inside["network"] else ""
    area, balanced = (Figure(**inside["figures"][one]) for one in ("roc_auc", "balanced_accuracy"))
    return (
        "What it flatters to choose a recipe while looking at its figures was measured with "
        f"{inside['network']}: with four settings chosen for each share of the cases without a "
        f"look at it{by}, it comes to an area under the ROC curve of {area} and a balanced "
        f"accuracy of {balanced}."
    )
