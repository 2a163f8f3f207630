"""From checked predictions to figures: each metric with the pictures, cases and interval it has.

It decides when an interval may be shown at all; the arithmetic is in `metrics` and `intervals`.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bc_model.data.names import CLASSES
from bc_model.evaluation.intervals import (
    Figure,
    Interval,
    case_bootstrap_blocks,
    case_clusters,
    percentile_interval,
)
from bc_model.evaluation.metrics import METRICS, all_metrics

_NEEDS_BOTH_CLASSES = ("balanced_accuracy", "roc_auc")


def estimate_figures(
    predictions: pd.DataFrame, *, threshold: float, n_resamples: int, seed: int
) -> dict[str, Figure]:
    """Return a Figure for each metric in `METRICS`.

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

    Returns
    -------
    dict of str to Figure
        In the order of `METRICS`.
    """
    case = predictions["case"].to_numpy(dtype=str)
    malignant = (predictions["class"] == "malignant").to_numpy(dtype=bool)
    prob = predictions["prob_malignant"].to_numpy(dtype=np.float64)
    point = all_metrics(malignant, prob, threshold=threshold)
    replicates: dict[str, list[NDArray[np.float64]]] = {name: [] for name in METRICS}
    for weights in case_bootstrap_blocks(case, malignant, n_resamples=n_resamples, seed=seed):
        block = all_metrics(malignant, prob, threshold=threshold, weights=weights)
        for name in METRICS:
            replicates[name].append(block[name])
    figures = {}
    for name in METRICS:
        scope = {"sensitivity": malignant, "specificity": ~malignant}.get(
            name, np.ones_like(malignant)
        )
        figures[name] = _figure(
            float(point[name]),
            np.concatenate(replicates[name]),
            case[scope],
            malignant[scope],
            undefined=_why_undefined(name),
            draws=f"{n_resamples} resamples within each class, seed {seed}",
        )
    return figures | {"balanced_accuracy": _honest_mean(figures)}


def _honest_mean(figures: dict[str, Figure]) -> Figure:
    """Give balanced accuracy no interval when one of the two it is the mean of has none.

    The bootstrap would treat that one as exact, and the interval would be too narrow.
    """
    mean = figures["balanced_accuracy"]
    unsure = [
        name
        for name in ("sensitivity", "specificity")
        if mean.value is not None and figures[name].low is None
    ]
    if not unsure:
        return mean
    return replace(mean, low=None, high=None, note=f"{unsure[0]} has no interval")


def _figure(
    value: float,
    replicates: NDArray[np.float64],
    case: NDArray[np.str_],
    malignant: NDArray[np.bool_],
    *,
    undefined: str,
    draws: str,
) -> Figure:
    """Join a value with its interval, over the pictures that the metric looks at."""
    n, n_cases = case.size, np.unique(case[case != ""]).size
    n_unknown = int((case == "").sum())
    # A wholly unknown data set is drawn by picture; with some cases known it is a mixture.
    unit = "pictures" if n_cases == 0 else "cases and single pictures" if n_unknown else "cases"
    method = f"95 % percentile bootstrap over {unit}, {draws}"
    if np.isnan(value):
        return Figure(None, None, None, n, n_cases, method, undefined)
    interval = _single_cluster(case, malignant) or percentile_interval(replicates)
    notes = [interval.note] if interval.note else []
    if n_unknown and interval.low is not None:
        notes.append(
            f"the case is unknown for {n_unknown} of {n} pictures, each counts as a case of its "
            "own: the interval is too narrow"
        )
    return Figure(value, interval.low, interval.high, n, n_cases, method, "; ".join(notes))


def _single_cluster(case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> Interval | None:
    """Return the refusal of an interval when a class has one case: its spread cannot be seen."""
    _, cluster_stratum, _ = case_clusters(case, malignant)
    ranks = np.unique(malignant)
    for is_malignant, size in zip(ranks, np.bincount(cluster_stratum), strict=True):
        if size == 1:
            return Interval(None, None, f"only one {CLASSES[int(is_malignant)]} case")
    return None


def _why_undefined(metric: str) -> str:
    if metric in _NEEDS_BOTH_CLASSES:
        return "only one class present"
    return {"sensitivity": "no malignant pictures", "specificity": "no benign pictures"}.get(
        metric, "no pictures"
    )
