"""The report of a model made of every picture: that of its recipe, from its cross-validation."""

from __future__ import annotations

from bc_model.evaluation.predictions import read_predictions
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.bundle import Bundle

CROSS_VALIDATED_FILE = "cross_validation.csv"
"""Beside a model made of every picture: what each got from a model that had not seen its case."""


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
        With the notes of the passport: whose figures these are.

    Raises
    ------
    BundleError
        The file is missing, or is not the one that the passport lists.
    DataError
        It holds no predictions.
    """
    test = bundle.passport["metrics"]["test"]
    return evaluate_predictions(
        read_predictions(bundle.file(CROSS_VALIDATED_FILE)),
        threshold=bundle.threshold,
        protocol=test["protocol"],
        leaky=test["leaky"],
        notes=test["notes"],
    )
