"""The report of a model made of every picture: that of its recipe, from its cross-validation."""

from __future__ import annotations

from bc_model.errors import BundleError
from bc_model.evaluation.predictions import read_predictions
from bc_model.evaluation.report import Report, evaluate_predictions
from bc_model.serving.bundle import Bundle
from bc_model.serving.passport import ModelCard

CROSS_VALIDATED_FILE = "cross_validation.csv"
"""Beside a model made of every picture: what each got from a model that had not seen its case."""
CHOSEN_INSIDE_FILE = "chosen_inside.csv"
"""The same with settings that were selected without the case, see `NestedResult` in the model card.
Its logits are in the teacher's standard deviations."""


def is_crossed(bundle: Bundle) -> bool:
    """Tell whether the predictions of a cross-validation belong to the model."""
    return CROSS_VALIDATED_FILE in bundle.card.files


def crossed_report(bundle: Bundle) -> Report:
    """Evaluate the predictions of the cross-validation, with the curves that model cards lack.

    Parameters
    ----------
    bundle : Bundle
        See `is_crossed`.

    Returns
    -------
    Report
        With the notes of the model card, whose figures these are, and `inside_in_words`.

    Raises
    ------
    BundleError
        The file is missing, or is not the one that the model card lists.
    DataError
        It holds no predictions.
    """
    test = bundle.card.metrics.test
    if test is None:
        raise BundleError(
            f"The model card in {bundle.folder} has no test metrics, but lists "
            f"{CROSS_VALIDATED_FILE}. Export the model again."
        )
    inside = inside_in_words(bundle.card)
    return evaluate_predictions(
        read_predictions(bundle.file(CROSS_VALIDATED_FILE)),
        threshold=bundle.threshold,
        protocol=test.protocol,
        leaky=test.has_leakage,
        notes=[*test.notes, *([inside] if inside else [])],
    )


def inside_in_words(card: ModelCard) -> str:
    """Say what the way a recipe was chosen comes to when it is judged as well.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    str
        A sentence; empty where the model card has no such figures.
    """
    inside = card.metrics.nested
    if inside is None:
        return ""
    by = f", by {inside.selected_by}" if inside.selected_by else ""
    area, balanced = (inside.metrics[one] for one in ("roc_auc", "balanced_accuracy"))
    return (
        "The recipe was chosen while its figures were looked at, which flatters them. With four "
        f"settings chosen anew for each share of the cases, without a look at it{by}: area under "
        f"the ROC curve {area}, balanced accuracy {balanced}, judged with {inside.network}."
    )
