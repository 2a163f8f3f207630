"""Checks of predictions and metrics: leakage, implausible metrics, too few or missing cases.

The checks change no metric and stop no evaluation.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import CLASSES
from bc_model.evaluation.metrics import majority_baseline
from bc_model.evaluation.subgroups import RECOGNITION_RATE
from bc_model.utils.measurement import Metric

MAX_PLAUSIBLE = 0.97
"""Published leakage-free metrics are lower; higher metrics turned out to have leakage."""
PLAUSIBILITY_LABELS = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    RECOGNITION_RATE: "recognition rate",
}
"""Labels of the metrics that are implausible above `MAX_PLAUSIBLE`."""
FEW_CASES = 10
"""With fewer cases of a class, the metrics are imprecise."""

_METRIC_CODES = frozenset(f"BC{number}" for number in range(201, 211))


def check_metrics(
    predictions: pd.DataFrame,
    metrics: Mapping[str, Metric],
    *,
    has_leakage: bool,
    is_leakage_certain: bool = False,
    malignant_proportion: float | None = None,
) -> list[Check]:
    """Return the checks of predictions and their metrics, in order of severity.

    `malignant_proportion` is by default that of the predictions.
    """
    checks = []
    if is_leakage_certain:
        checks.append(make_check("BC201"))
    elif has_leakage:
        checks.append(make_check("BC202"))
    if names := implausible_metrics(metrics):
        labels = [f"{PLAUSIBILITY_LABELS[name]} {metrics[name].value:.3f}" for name in names]
        checks.append(make_check("BC203", metrics=labels, limit=MAX_PLAUSIBLE))
    if malignant_proportion is None:
        malignant_proportion = float((predictions["class"] == "malignant").mean())
    checks += _check_baseline(malignant_proportion, metrics["accuracy"].value)
    area = metrics.get("roc_auc")
    if area is not None and area.ci_high is not None and area.ci_high < 0.5:
        checks.append(make_check("BC205", roc_auc=area.value, ci=[area.ci_low, area.ci_high]))
    checks += _check_cases(predictions)
    hashes = predictions.loc[predictions["sha256"] != "", "sha256"]
    if n_duplicates := int(hashes.duplicated().sum()):
        checks.append(make_check("BC210", n_duplicates=n_duplicates))
    return checks


def check_constant(is_constant: np.ndarray) -> list[Check]:
    """Check that the logits of all images depend on the image; the mask has the shape (n,)."""
    n_found = int(is_constant.sum())
    return [make_check("BC153", n_found=n_found, n_images=len(is_constant))] if n_found else []


def remove_metric_checks(checks: Iterable[Check]) -> list[Check]:
    """Return checks without those of `check_metrics`: the checks of the origin of the images."""
    return [check for check in checks if check.code not in _METRIC_CODES]


def implausible_metrics(metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """Return the names of the metrics above `MAX_PLAUSIBLE`."""
    return tuple(
        name
        for name in PLAUSIBILITY_LABELS
        if name in metrics and (metrics[name].value or 0.0) > MAX_PLAUSIBLE
    )


def check_few_cases(images: pd.DataFrame) -> Iterator[Check]:
    """Check that each class with known cases has at least `FEW_CASES` of them."""
    known = images[images["case"] != ""]
    for name in CLASSES:
        n_cases = int(known.loc[known["class"] == name, "case"].nunique())
        if 0 < n_cases < FEW_CASES:
            yield make_check("BC207", class_name=name, n_cases=n_cases, min_cases=FEW_CASES)


def _check_baseline(malignant_proportion: float, accuracy: float | None) -> Iterator[Check]:
    majority_class, majority_accuracy = majority_baseline(malignant_proportion)
    # With one class only there is no baseline; `_check_cases` reports the missing class.
    if accuracy is None or majority_accuracy == 1.0 or accuracy > majority_accuracy:
        return
    yield make_check(
        "BC204",
        accuracy=accuracy,
        majority_class=majority_class,
        majority_accuracy=majority_accuracy,
    )


def _check_cases(predictions: pd.DataFrame) -> Iterator[Check]:
    for name in CLASSES:
        if not (predictions["class"] == name).any():
            yield make_check("BC206", missing_class=name)
    known = predictions[predictions["case"] != ""]
    if n_unknown := len(predictions) - len(known):
        yield make_check("BC208", n_unknown=n_unknown, n_images=len(predictions))
    else:
        yield from check_few_cases(predictions)
    n_classes = known.groupby("case")["class"].nunique()
    mixed = n_classes.index[n_classes > 1]
    if len(mixed):
        yield make_check("BC209", case=str(mixed[0]), n_cases=len(mixed))
