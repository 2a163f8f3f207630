"""Metrics of predictions, with intervals and numbers of images and cases.

The module decides whether an interval is shown; the arithmetic is in
`bc_model.evaluation.metrics` and `bc_model.evaluation.bootstrap`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bc_model.data.breakhis import CLASSES
from bc_model.evaluation.bootstrap import (
    NO_SPREAD,
    CaseSample,
    Functional,
    average_precision_functional,
    bootstrap_t,
    case_clusters,
    mean_functional,
    roc_auc_functional,
    sum_functional,
)
from bc_model.evaluation.intervals import Interval, korn_graubard, mean_interval
from bc_model.evaluation.metrics import (
    CONFUSION_METRICS,
    METRICS,
    Floats,
    log_losses,
    squared_errors,
)
from bc_model.utils.measurement import Metric

PROPORTIONS = frozenset({"accuracy", "sensitivity", "specificity", "recognition_rate"})
BOUNDS = {"mcc": (-1.0, 1.0), "log_loss": (0.0, math.inf)}
"""Range of each metric whose range is not [0, 1]."""

_EXACT_OVER_CASES = "no spread between cases: exact binomial interval over them"


def estimate_metrics(
    predictions: pd.DataFrame,
    *,
    threshold: float,
    n_resamples: int,
    seed: int,
    names: Iterable[str] = METRICS,
) -> dict[str, Metric]:
    """Return the named metrics with their intervals, from the result of `check_predictions`.

    Sensitivity counts only malignant images and cases, specificity only benign ones.
    """
    case = predictions["case"].to_numpy(dtype=str)
    malignant = (predictions["class"] == "malignant").to_numpy(dtype=bool)
    prob = predictions["prob_malignant"].to_numpy(dtype=np.float64)
    sample = CaseSample.of(case, malignant)
    draws = sample.draw(n_resamples, seed)
    confusion = _confusion_cells(malignant, prob >= threshold).sum(axis=0)
    resampling = describe_resamples(n_resamples, seed)
    return combine_rates(
        {
            name: estimate_metric(
                name, partial(metric_functional, name, sample, malignant, prob, threshold),
                sample, draws, case, malignant,
                undefined=undefined_reason(name, malignant, confusion), resampling=resampling,
            )
            for name in names
        }
    )  # fmt: skip


def estimate_metric(
    name: str,
    make_functional: Callable[[], Functional],
    sample: CaseSample,
    draws: Floats,
    case: NDArray[np.str_],
    malignant: NDArray[np.bool_],
    *,
    undefined: str,
    resampling: str,
    bounds: tuple[float, float] | None = None,
) -> Metric:
    """Return one metric with its interval, or with the reason why it has none.

    `name` determines the images and the range of the metric, `undefined` is the result of
    `undefined_reason`, and `resampling` that of `describe_resamples`.
    """
    scope = images_in_scope(name, malignant)
    case, malignant = case[scope], malignant[scope]
    if undefined:
        value, interval = math.nan, Interval(None, None, undefined)
    elif refusal := _refuse_single_case(case, malignant):
        value, interval = float(make_functional()(np.ones((1, sample.size)))[0][0]), refusal
    else:
        bounds = bounds or BOUNDS.get(name, (0.0, 1.0))
        is_proportion = name in PROPORTIONS or name == "balanced_accuracy"
        value, interval = bootstrap_t(
            make_functional(), sample, draws, bounds=bounds, is_proportion=is_proportion
        )
        if interval.note == NO_SPREAD and name in PROPORTIONS and bounds == (0.0, 1.0):
            n = np.unique(sample.cluster[scope]).size
            interval = Interval(*korn_graubard(value, 0.0, 1.0, n_cases=n), _EXACT_OVER_CASES)
    n_images, n_cases = case.size, np.unique(case[case != ""]).size
    n_unknown = int((case == "").sum())
    unit = "images" if n_cases == 0 else "cases and single images" if n_unknown else "cases"
    method = f"95 % bootstrap-t over {unit}, {resampling}"
    if np.isnan(value):
        return Metric(None, None, None, n_images, n_cases, method, interval.note)
    notes = [interval.note] if interval.note else []
    if n_unknown and interval.low is not None:
        notes.append(
            f"the case of {n_unknown} of {n_images} images is unknown, and each of them counts as "
            "one case: the interval is too narrow"
        )
    note = "; ".join(notes)
    return Metric(value, interval.low, interval.high, n_images, n_cases, method, note)


def estimate_mean(
    values: Floats,
    case: NDArray[np.str_],
    malignant: NDArray[np.bool_],
    *,
    is_proportion: bool,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Metric:
    """Return the mean of one value in [0, 1] per image, with its interval over cases.

    With `is_proportion`, the values are 0 or 1, and the interval is that of accuracy.
    """
    sample = CaseSample.of(case, malignant)
    columns = np.stack([np.asarray(values, np.float64), np.ones(len(values))], axis=1)
    return estimate_metric(
        "accuracy" if is_proportion else "mean",
        partial(mean_functional, sample.sums(columns)),
        sample,
        sample.draw(n_resamples, seed),
        case,
        malignant,
        undefined="" if len(values) else "no images",
        resampling=describe_resamples(n_resamples, seed),
    )


def metric_functional(
    name: str, sample: CaseSample, malignant: NDArray[np.bool_], prob: Floats, threshold: float
) -> Functional:
    """Return a metric as a function of the counts of the cases."""
    if name in CONFUSION_METRICS:
        cells = sample.sums(_confusion_cells(malignant, prob >= threshold))
        function = CONFUSION_METRICS[name]
        return sum_functional(cells, lambda sums: function(sums.reshape(*sums.shape[:-1], 2, 2)))
    if name in ("brier", "log_loss"):
        losses = {"brier": squared_errors, "log_loss": log_losses}[name]
        columns = np.stack([losses(malignant, prob), np.ones(prob.size)], axis=1)
        return mean_functional(sample.sums(columns))
    area = {"roc_auc": roc_auc_functional, "average_precision": average_precision_functional}[name]
    return area(malignant, prob, sample.cluster, sample.size)


def describe_resamples(n_resamples: int, seed: int) -> str:
    """Return the resampling as a phrase for the method of a metric."""
    return f"{n_resamples} resamples within each class, seed {seed}"


def images_in_scope(name: str, malignant: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which images a metric uses."""
    one_class = {"sensitivity": malignant, "specificity": ~malignant}
    return one_class.get(name, np.ones_like(malignant))


def combine_rates(metrics: dict[str, Metric]) -> dict[str, Metric]:
    """Replace the intervals of accuracies where a rate without spread would make them too narrow.

    The bootstrap treats a rate without spread as exact. The intervals of accuracy and balanced
    accuracy are then combined from the intervals of sensitivity and specificity. Balanced accuracy
    has no interval if one of the rates has none.
    """
    rates = {name: metrics[name] for name in ("sensitivity", "specificity") if name in metrics}
    if len(rates) < 2 or any(rate.value is None for rate in rates.values()):
        return metrics
    sensitivity, specificity = rates.values()
    without = [name for name, rate in rates.items() if rate.ci_low is None]
    is_without_spread = any(_EXACT_OVER_CASES in rate.note for rate in rates.values())
    weights = {
        "accuracy": sensitivity.n_images / (sensitivity.n_images + specificity.n_images),
        "balanced_accuracy": 0.5,
    }
    combined = dict(metrics)
    for name, weight in weights.items():
        if name not in metrics or _EXACT_OVER_CASES in metrics[name].note:
            continue
        if without and name == "balanced_accuracy":
            interval = Interval(None, None, f"{without[0]} has no interval")
        elif is_without_spread:
            interval = mean_interval(sensitivity, specificity, weight=weight)
        else:
            continue
        note = interval.note or "from the intervals of sensitivity and specificity"
        combined[name] = replace(
            metrics[name], ci_low=interval.low, ci_high=interval.high, note=note
        )
    return combined


def undefined_reason(
    name: str, malignant: NDArray[np.bool_], confusion: NDArray[Any] | None = None
) -> str:
    """Return why a metric is undefined for images; empty for a defined metric.

    `confusion` contains the counts (tn, fp, fn, tp), for the Matthews correlation coefficient.
    """
    if malignant.size == 0:
        return "no images"
    if name in ("accuracy", "brier", "log_loss"):
        return ""
    if name == "sensitivity":
        return "" if malignant.any() else "no malignant images"
    if name == "specificity":
        return "no benign images" if malignant.all() else ""
    if malignant.all() or not malignant.any():
        return "only one class present"
    if name == "mcc" and confusion is not None:
        tn, fp, fn, tp = confusion
        for class_name, n_others in (("malignant", tn + fn), ("benign", fp + tp)):
            if n_others == 0:
                return f"every image is predicted {class_name}"
    return ""


def _confusion_cells(malignant: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Floats:
    """Return 1 in the cell (tn, fp, fn, tp) of each image, shape (n_images, 4)."""
    cells = np.zeros((malignant.size, 4))
    cells[np.arange(malignant.size), 2 * malignant + predicted] = 1.0
    return cells


def _refuse_single_case(case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> Interval | None:
    """Return an interval without ends if a class has only one case, and thus no known spread."""
    _, cluster_stratum = case_clusters(case, malignant)
    for is_malignant, size in zip(np.unique(malignant), np.bincount(cluster_stratum), strict=True):
        if size == 1:
            return Interval(None, None, f"only one {CLASSES[int(is_malignant)]} case")
    return None
