"""From checked predictions to figures: each metric with the pictures, cases and interval it has.

It decides when an interval may be shown at all; the arithmetic is in `metrics` and `bootstrap_t`.
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
from bc_model.evaluation import metrics as metric_functions
from bc_model.evaluation.bootstrap import (
    EXTERNAL,
    CaseSample,
    Functional,
    average_precision_functional,
    bootstrap_t,
    case_clusters,
    confusion_functional,
    mean_functional,
    roc_auc_functional,
)
from bc_model.evaluation.intervals import Interval, korn_graubard, mean_interval
from bc_model.evaluation.metrics import METRICS, Floats
from bc_model.utils.metric import Metric

OF_CONFUSION: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "accuracy": metric_functions.accuracy,
    "balanced_accuracy": metric_functions.balanced_accuracy,
    "sensitivity": metric_functions.sensitivity,
    "specificity": metric_functions.specificity,
    "f1": metric_functions.f1,
    "mcc": metric_functions.mcc,
}
PROPORTIONS = frozenset({"accuracy", "sensitivity", "specificity", "recognition_rate"})
_NO_SPREAD = "no spread between cases: exact binomial interval over them"

BOUNDS = {"mcc": (-1.0, 1.0), "log_loss": (0.0, math.inf)}
"""Range of each metric where it is not [0, 1]."""


def estimate_metrics(
    predictions: pd.DataFrame,
    *,
    threshold: float,
    n_resamples: int,
    seed: int,
    names: Iterable[str] = METRICS,
) -> dict[str, Metric]:
    """Return a Figure for each metric asked for.

    Sensitivity rests on the malignant pictures alone and counts only those; specificity likewise
    on the benign ones.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As `check_predictions` returns it.
    threshold : float
        A picture is called malignant at this probability or above.
    n_resamples : int
        Bootstrap replicates.
    seed : int
        Of the bootstrap, 0 or more.
    names : iterable of str
        Out of `METRICS`.

    Returns
    -------
    dict of str to Figure
        In the order of `names`.
    """
    case = predictions["case"].to_numpy(dtype=str)
    malignant = (predictions["class"] == "malignant").to_numpy(dtype=bool)
    prob = predictions["prob_malignant"].to_numpy(dtype=np.float64)
    sample = CaseSample.of(case, malignant)
    draws = sample.draw(n_resamples, seed)
    confusion = confusion_cells(malignant, prob >= threshold).sum(axis=0)
    told = describe_resamples(n_resamples, seed)
    found = {
        name: estimate_metric(
            name, partial(metric_functional, name, sample, malignant, prob, threshold),
            sample, draws, case, malignant,
            undefined=undefined_reason(name, malignant, confusion), resampling=told,
        )
        for name in names
    }  # fmt: skip
    return correct_mean_intervals(found)


def estimate_metric(
    name: str,
    make: Callable[[], Functional],
    sample: CaseSample,
    draws: Floats,
    case: NDArray[np.str_],
    malignant: NDArray[np.bool_],
    *,
    undefined: str,
    resampling: str,
    bounds: tuple[float, float] | None = None,
) -> Metric:
    """Return one figure with its interval, or with the reason why there is none.

    Parameters
    ----------
    name : str
        It decides which pictures the figure looks at, and its range.
    make : callable
        Returns the functional; called only when the figure is defined.
    sample, draws
        As for `studentised`.
    case, malignant : ndarray of shape (n_images,)
    undefined : str
        Why the figure is not defined; empty when it is.
    draws_told : str
        As `draws_in_words` returns it.
    bounds : (float, float), optional
        Range of the figure; default is that of the metric.
    """
    scope = images_in_scope(name, malignant)
    if undefined:
        value, interval = math.nan, Interval(None, None, undefined)
    elif refused := refuse_single_case(case[scope], malignant[scope]):
        value, interval = float(make()(np.ones((1, sample.size)))[0][0]), refused
    else:
        bounds = bounds or BOUNDS.get(name, (0.0, 1.0))
        is_proportion = name in PROPORTIONS or name == "balanced_accuracy"
        value, interval = bootstrap_t(
            make(), sample, draws, bounds=bounds, is_proportion=is_proportion
        )
        if interval.note == EXTERNAL and name in PROPORTIONS and bounds == (0.0, 1.0):
            n = np.unique(sample.cluster[scope]).size
            exact = korn_graubard(value, 0.0, 1.0, n_cases=n)
            interval = replace(exact, note=_NO_SPREAD)
    return build_metric(
        value, interval, case[scope], malignant[scope], kind="bootstrap-t", draws=resampling
    )


def metric_functional(
    name: str, sample: CaseSample, malignant: NDArray[np.bool_], prob: Floats, threshold: float
) -> Functional:
    """Return a metric as a function of how often each case is drawn.

    Parameters
    ----------
    name : str
        One of `METRICS`.
    sample : CaseSample
    malignant, prob : ndarray of shape (n_images,)
    threshold : float
    """
    if name in OF_CONFUSION:
        cells = sample.sums(confusion_cells(malignant, prob >= threshold))
        return confusion_functional(cells, OF_CONFUSION[name])
    if name in ("brier", "log_loss"):
        losses = {
            "brier": metric_functions.squared_errors,
            "log_loss": metric_functions.log_losses,
        }[name]
        columns = np.stack([losses(malignant, prob), np.ones(prob.size)], axis=1)
        return mean_functional(sample.sums(columns))
    area = {"roc_auc": roc_auc_functional, "average_precision": average_precision_functional}[name]
    return area(malignant, prob, sample.cluster, sample.size)


def describe_resamples(n_resamples: int, seed: int) -> str:
    """Say how the resamples were drawn."""
    return f"{n_resamples} resamples within each class, seed {seed}"


def confusion_cells(malignant: NDArray[np.bool_], called: NDArray[np.bool_]) -> Floats:
    """Return 1 in the cell of the confusion matrix that each picture falls into, shape (n, 4)."""
    cells = np.zeros((malignant.size, 4))
    cells[np.arange(malignant.size), 2 * malignant + called] = 1.0
    return cells


def images_in_scope(name: str, malignant: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pictures that a metric looks at."""
    alone = {"sensitivity": malignant, "specificity": ~malignant}
    return alone.get(name, np.ones_like(malignant))


def build_metric(
    value: float,
    interval: Interval,
    case: NDArray[np.str_],
    malignant: NDArray[np.bool_],
    *,
    kind: str,
    draws: str,
) -> Metric:
    """Join a value with its interval, over the pictures that the metric looks at.

    Parameters
    ----------
    value : float
        NaN where the figure is not defined; the note of `interval` then says why.
    interval : Interval
    case, malignant : ndarray of shape (n_images,)
    kind : str
        Of the interval, such as 'bootstrap-t'.
    draws : str
        As `draws_in_words` returns it.
    """
    n, n_cases = case.size, np.unique(case[case != ""]).size
    n_unknown = int((case == "").sum())
    # A wholly unknown data set is drawn by picture; with some cases known it is a mixture.
    unit = "images" if n_cases == 0 else "cases and single pictures" if n_unknown else "cases"
    method = f"95 % {kind} over {unit}, {draws}"
    if np.isnan(value):
        return Metric(None, None, None, n, n_cases, method, interval.note)
    notes = [interval.note] if interval.note else []
    if n_unknown and interval.low is not None:
        notes.append(
            f"the case is unknown for {n_unknown} of {n} pictures, each counts as a case of its "
            "own: the interval is too narrow"
        )
    return Metric(value, interval.low, interval.high, n, n_cases, method, "; ".join(notes))


def correct_mean_intervals(metrics: dict[str, Metric]) -> dict[str, Metric]:
    """Take care of accuracy and balanced accuracy where a rate they are made of never varied.

    The bootstrap would treat that rate as exact, and the interval would be too narrow. It then
    follows from the intervals of the two rates. Balanced accuracy has none when one of them has
    none.
    """
    rates = {name: metrics[name] for name in ("sensitivity", "specificity") if name in metrics}
    if len(rates) < 2 or any(rate.value is None for rate in rates.values()):
        return metrics
    sensitivity, specificity = rates.values()
    without = [name for name, rate in rates.items() if rate.ci_low is None]
    never_varied = any(_NO_SPREAD in rate.note for rate in rates.values())
    weights = {
        "accuracy": sensitivity.n_images / (sensitivity.n_images + specificity.n_images),
        "balanced_accuracy": 0.5,
    }
    found = dict(metrics)
    for name, weight in weights.items():
        if name not in metrics or _NO_SPREAD in metrics[name].note:
            continue
        if without and name == "balanced_accuracy":
            note = f"{without[0]} has no interval"
            found[name] = replace(metrics[name], ci_low=None, ci_high=None, note=note)
        elif never_varied:
            interval = mean_interval(sensitivity, specificity, weight=weight)
            note = interval.note or "from the intervals of sensitivity and specificity"
            found[name] = replace(
                metrics[name], ci_low=interval.low, ci_high=interval.high, note=note
            )
    return found


def refuse_single_case(case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> Interval | None:
    """Return the refusal of an interval when a class has one case: its spread cannot be seen."""
    _, cluster_stratum, _ = case_clusters(case, malignant)
    ranks = np.unique(malignant)
    for is_malignant, size in zip(ranks, np.bincount(cluster_stratum), strict=True):
        if size == 1:
            return Interval(None, None, f"only one {CLASSES[int(is_malignant)]} case")
    return None


def undefined_reason(
    name: str, malignant: NDArray[np.bool_], confusion: NDArray[Any] | None = None
) -> str:
    """Say why a metric is not defined for these pictures; empty when it is.

    Parameters
    ----------
    name : str
        One of `METRICS`.
    malignant : ndarray of bool, shape (n_images,)
    confusion : ndarray of shape (4,), optional
        Counts: benign called benign, called malignant; malignant called benign, called malignant.
        Only the correlation of truth and verdict needs it.
    """
    if malignant.size == 0:
        return "no pictures"
    if name in ("accuracy", "brier", "log_loss"):
        return ""
    if name == "sensitivity":
        return "" if malignant.any() else "no malignant pictures"
    if name == "specificity":
        return "no benign pictures" if malignant.all() else ""
    if malignant.all() or not malignant.any():
        return "only one class present"
    if name == "mcc" and confusion is not None:
        tn, fp, fn, tp = confusion
        for called, n in (("malignant", tn + fn), ("benign", fp + tp)):
            if n == 0:
                return f"every picture is called {called}"
    return ""
