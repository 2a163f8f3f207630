"""The report of a model made of every picture: that of its recipe, from its cross-validation."""

from __future__ import annotations

from typing import Any

from bc_model.checks import Check, make_check
from bc_model.evaluation.alarms import without_alarms
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
        With the checks of the model card and `check_nested`.

    Raises
    ------
    BundleError
        The file is missing, or is not the one that the passport lists.
    DataError
        It holds no predictions.
    """
    test = bundle.passport["metrics"]["test"]
    checks = without_alarms(map(Check.from_dict, test["checks"]))
    return evaluate_predictions(
        read_predictions(bundle.file(CROSS_VALIDATED_FILE)),
        threshold=bundle.threshold,
        protocol=test["protocol"],
        leaky=test["leaky"],
        checks=[*checks, *check_nested(bundle.passport)],
    )


def check_nested(passport: dict[str, Any]) -> tuple[Check, ...]:
    """Return the result of nested cross-validation as a check, if the model card has one."""
    inside = passport["metrics"].get("chosen_inside")
    if not inside:
        return ()
    area, balanced = (inside["figures"][name] for name in ("roc_auc", "balanced_accuracy"))
    return (
        make_check(
            "BC214",
            roc_auc=area["value"],
            roc_auc_ci=_ci(area),
            balanced_accuracy=balanced["value"],
            balanced_accuracy_ci=_ci(balanced),
            network=inside["network"],
        ),
    )


def _ci(figure: dict[str, Any]) -> list[float] | None:
    return None if figure["low"] is None else [figure["low"], figure["high"]]
