"""The report of a model made of every picture: that of its recipe, from its cross-validation."""

from __future__ import annotations

from bc_model.checks import Check, make_check
from bc_model.errors import BundleError
from bc_model.evaluation.alarms import without_alarms
from bc_model.evaluation.intervals import Figure
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
        With the checks of the model card and `check_nested`.

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
    return evaluate_predictions(
        read_predictions(bundle.file(CROSS_VALIDATED_FILE)),
        threshold=bundle.threshold,
        protocol=test.protocol,
        leaky=test.has_leakage,
        checks=[*without_alarms(test.checks), *check_nested(bundle.card)],
    )


def check_nested(card: ModelCard) -> tuple[Check, ...]:
    """Return the result of nested cross-validation as a check, if the model card has one."""
    nested = card.metrics.nested
    if nested is None:
        return ()
    area, balanced = (nested.metrics[name] for name in ("roc_auc", "balanced_accuracy"))
    return (
        make_check(
            "BC214",
            roc_auc=area.value,
            roc_auc_ci=_ci(area),
            balanced_accuracy=balanced.value,
            balanced_accuracy_ci=_ci(balanced),
            network=nested.network,
        ),
    )


def _ci(figure: Figure) -> list[float] | None:
    if figure.low is None or figure.high is None:
        return None
    return [figure.low, figure.high]
