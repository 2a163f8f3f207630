"""Metrics by case, by magnification, by subtype, and by images seen in training.

A metric by case counts every case once. It excludes images without a case and cases with images
of both classes (BreakHis has none), because their labels describe single images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from bc_model.data.breakhis import CLASSES, UNKNOWN_SUBTYPE, parse_name
from bc_model.evaluation.bootstrap import CaseSample, Functional, mean_functional
from bc_model.evaluation.estimates import (
    describe_resamples,
    estimate_metric,
    estimate_metrics,
    images_in_scope,
    metric_functional,
    undefined_reason,
)
from bc_model.evaluation.intervals import mean_interval, wilson
from bc_model.evaluation.metrics import CONFUSION_METRICS, confusion_counts
from bc_model.utils.measurement import Metric

Confusion = tuple[tuple[int, int], tuple[int, int]]
"""Counts. Rows: true class; columns: predicted class; order: benign, malignant."""

RECOGNITION_RATE = "recognition_rate"
SUBGROUP_METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "roc_auc")
CASE_METRICS = (RECOGNITION_RATE, *SUBGROUP_METRICS)
NOT_STATED = "not stated"
UNSEEN = "unseen in training"

_WILSON = "95 % Wilson over cases"


@dataclass(frozen=True)
class CaseMetrics:
    """The `CASE_METRICS`; all but the recognition rate use the mean probability of a case.

    The recognition rate is the mean over cases of the patient score: the proportion of correctly
    predicted images of a case (Spanhol and others, 2016).
    """

    confusion: Confusion
    metrics: dict[str, Metric]


@dataclass(frozen=True)
class Subgroup:
    """The `SUBGROUP_METRICS` of a part of the images.

    Attributes
    ----------
    kind : {'seen', 'magnification', 'subtype'}
        Criterion of the subgroup.
    name : str
        Value of the criterion, such as '40X' or 'tubular adenoma'.
    """

    kind: str
    name: str
    n_images: int
    n_cases: int
    malignant_proportion: float
    confusion: Confusion
    metrics: dict[str, Metric]


def case_table(predictions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return one row per case, sorted by patient score in ascending order.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Result of `check_predictions`.
    threshold : float
        Lowest probability, of an image or mean of a case, that predicts malignant.

    Returns
    -------
    pandas.DataFrame
        case, class, n_images, n_correct, patient_score (proportion of correctly predicted
        images), mean_prob (mean probability of malignancy), predicted_class.
    """
    classes = predictions.groupby("case")["class"].transform("nunique")
    known = predictions[(predictions["case"] != "") & (classes == 1)]
    correct = (known["prob_malignant"] >= threshold) == (known["class"] == "malignant")
    grouped = known.assign(correct=correct).groupby(["case", "class"], as_index=False)
    table = grouped.agg(
        n_images=("path", "size"),
        n_correct=("correct", "sum"),
        mean_prob=("prob_malignant", "mean"),
    )
    table.insert(4, "patient_score", table["n_correct"] / table["n_images"])
    table["predicted_class"] = np.where(table["mean_prob"] >= threshold, "malignant", "benign")
    return table.sort_values(["patient_score", "case"], ignore_index=True)


def evaluate_cases(
    predictions: pd.DataFrame, *, threshold: float, n_resamples: int, seed: int
) -> CaseMetrics | None:
    """Return the metrics by case, or None if no case is known and of one class.

    Proportions of cases have Wilson's interval, because cases are independent. The other metrics
    have a bootstrap-t interval.
    """
    table = case_table(predictions, threshold)
    if table.empty:
        return None
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    prob = table["mean_prob"].to_numpy(dtype=np.float64)
    counts = confusion_counts(malignant, prob, threshold=threshold)
    names = table["case"].to_numpy(dtype=str)
    sample = CaseSample.of(names, malignant)
    draws = sample.draw(n_resamples, seed)
    scores = sample.sums(np.stack([table["patient_score"], np.ones(len(table))], axis=1))

    def bootstrap(name: str, make_functional: Callable[[], Functional], undefined: str) -> Metric:
        return estimate_metric(
            name, make_functional, sample, draws, names, malignant,
            undefined=undefined, resampling=describe_resamples(n_resamples, seed),
        )  # fmt: skip

    metrics = {
        name: _estimate_proportion(
            float(CONFUSION_METRICS[name](counts)), int(images_in_scope(name, malignant).sum())
        )
        for name in ("accuracy", "sensitivity", "specificity")
    }
    metrics[RECOGNITION_RATE] = bootstrap(RECOGNITION_RATE, lambda: mean_functional(scores), "")
    make_area = partial(metric_functional, "roc_auc", sample, malignant, prob, threshold)
    undefined = undefined_reason("roc_auc", malignant)
    metrics["roc_auc"] = bootstrap("roc_auc", make_area, undefined)
    rates = metrics["sensitivity"], metrics["specificity"]
    metrics["balanced_accuracy"] = _average_rates(*rates, undefined)
    n_images = table["n_images"].to_numpy()
    for name, metric in metrics.items():
        scope = images_in_scope(name, malignant)
        metrics[name] = replace(
            metric, n_images=int(n_images[scope].sum()), n_cases=int(scope.sum())
        )
    (tn, fp), (fn, tp) = counts.astype(int).tolist()
    return CaseMetrics(((tn, fp), (fn, tp)), {name: metrics[name] for name in CASE_METRICS})


def evaluate_subgroups(
    predictions: pd.DataFrame, *, threshold: float, n_resamples: int, seed: int
) -> tuple[Subgroup, ...]:
    """Return the metrics of subgroups of the images.

    The subgroups are unseen and seen images (by the optional column ``seen_in_training``),
    magnifications, and subtypes. A criterion without any known value is omitted.
    """
    return tuple(
        _evaluate_subgroup(kind, name, rows, threshold, n_resamples, seed)
        for kind, groups in (
            ("seen", _group_by_seen(predictions)),
            ("magnification", _group_by_magnification(predictions)),
            ("subtype", _group_by_subtype(predictions)),
        )
        if list(groups) != [NOT_STATED]
        for name, rows in groups.items()
    )


def infer_subtypes(predictions: pd.DataFrame) -> pd.Series:
    """Return the subtype of each image, from its column or from the official file name."""
    if "subtype" in predictions:
        return predictions["subtype"].astype(str)
    names = [parse_name(PurePosixPath(path).name) for path in predictions["path"]]
    subtypes = [UNKNOWN_SUBTYPE if name is None else name.subtype for name in names]
    return pd.Series(subtypes, index=predictions.index, dtype="str")


def _estimate_proportion(value: float, n_cases: int) -> Metric:
    if n_cases == 0:
        return Metric(None, None, None, 0, 0, _WILSON, "no such case")
    interval = wilson(round(value * n_cases), n_cases)
    return Metric(value, interval.low, interval.high, 0, n_cases, _WILSON)


def _average_rates(sensitivity: Metric, specificity: Metric, undefined: str) -> Metric:
    """Return the mean of two rates with an interval as in Newcombe's method for differences."""
    if sensitivity.value is None or specificity.value is None:
        return Metric(None, None, None, 0, 0, _WILSON, undefined)
    interval = mean_interval(sensitivity, specificity)
    value = (sensitivity.value + specificity.value) / 2
    return Metric(value, interval.low, interval.high, 0, 0, f"{_WILSON}, of both rates")


def _group_by_seen(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    seen = predictions.get("seen_in_training")
    if seen is None or seen.dtype != bool or seen.nunique() < 2:
        return {}
    return {UNSEEN: predictions[~seen], "seen in training": predictions[seen]}


def _group_by_magnification(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    magnification = predictions["magnification"]
    groups = {
        f"{number}X": predictions[magnification == number]
        for number in sorted(magnification.dropna().unique())
    }
    rest = predictions[magnification.isna()]
    return groups | ({NOT_STATED: rest} if len(rest) else {})


def _group_by_subtype(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    names = infer_subtypes(predictions).str.replace("_", " ")
    stated = (names != UNKNOWN_SUBTYPE) & (names != "")
    groups = {}
    for class_name in CLASSES:
        in_class = stated & (predictions["class"] == class_name)
        for name in sorted(names[in_class].unique()):
            groups[name] = predictions[in_class & (names == name)]
    return groups | ({NOT_STATED: predictions[~stated]} if not stated.all() else {})


def _evaluate_subgroup(
    kind: str, name: str, rows: pd.DataFrame, threshold: float, n_resamples: int, seed: int
) -> Subgroup:
    malignant = (rows["class"] == "malignant").to_numpy(dtype=bool)
    counts = confusion_counts(malignant, rows["prob_malignant"], threshold=threshold)
    (tn, fp), (fn, tp) = counts.astype(int).tolist()
    return Subgroup(
        kind=kind,
        name=name,
        n_images=len(rows),
        n_cases=rows.loc[rows["case"] != "", "case"].nunique(),
        malignant_proportion=float(malignant.mean()),
        confusion=((tn, fp), (fn, tp)),
        metrics=estimate_metrics(
            rows, threshold=threshold, n_resamples=n_resamples, seed=seed, names=SUBGROUP_METRICS
        ),
    )
