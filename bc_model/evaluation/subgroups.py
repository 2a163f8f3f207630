"""Figures by case instead of by picture: what a patient would get.

A case counts once, however many pictures it has. Left out are pictures without a case, and cases
with pictures of both classes, which BreakHis has not: their labels are of pictures alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bc_model.data.breakhis import CLASSES, UNKNOWN_SUBTYPE, parse_name
from bc_model.evaluation import metrics as metric_functions
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
from bc_model.evaluation.metrics import Floats, confusion_counts
from bc_model.utils.metric import Metric

Confusion = tuple[tuple[int, int], tuple[int, int]]

RECOGNITION_RATE = "recognition_rate"
CASE_METRICS = (
    RECOGNITION_RATE,
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "roc_auc",
)
PROPORTIONS = {
    "accuracy": metric_functions.accuracy,
    "sensitivity": metric_functions.sensitivity,
    "specificity": metric_functions.specificity,
}
_WILSON = "95 % Wilson over cases"


@dataclass(frozen=True)
class CaseMetrics:
    """What one evaluation found by case.

    Attributes
    ----------
    confusion : tuple of two pairs of int
        Cases: rows are the truth, columns the verdict on the mean probability.
    figures : dict of str to Figure
        Keys as in `CASE_METRICS`. ``recognition_rate`` is the mean over cases of the share of their
        pictures called right (Spanhol and others, 2016); all others judge a case by its mean
        probability.
    """

    confusion: Confusion
    metrics: dict[str, Metric]


def case_table(predictions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return one row a case, the worst patient score first.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As `check_predictions` returns it.
    threshold : float
        A picture, or the mean of a case, is called malignant at this probability or above.

    Returns
    -------
    pandas.DataFrame
        case, class, pictures, right (pictures called right), patient_score (their share),
        mean_prob, called.
    """
    classes = predictions.groupby("case")["class"].transform("nunique")
    known = predictions[(predictions["case"] != "") & (classes == 1)]
    correct = (known["prob_malignant"] >= threshold) == (known["class"] == "malignant")
    grouped = known.assign(correct=correct).groupby(["case", "class"], as_index=False)
    table = grouped.agg(
        n_images=("path", "size"), n_correct=("correct", "sum"), mean_prob=("prob_malignant", "mean")
    )
    table["patient_score"] = table["n_correct"] / table["n_images"]
    table["predicted_class"] = np.where(table["mean_prob"] >= threshold, "malignant", "benign")
    columns = "case class n_images n_correct patient_score mean_prob predicted_class".split()
    return table.sort_values(["patient_score", "case"], ignore_index=True)[columns]


def evaluate_cases(
    predictions: pd.DataFrame, *, threshold: float, n_resamples: int, seed: int
) -> CaseMetrics | None:
    """Compute the figures by case; None when no case is known, or none is of one class.

    Shares of cases have Wilson's interval, since cases are independent; the others a bootstrap-t.
    """
    table = case_table(predictions, threshold)
    if table.empty:
        return None
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    prob = table["mean_prob"].to_numpy(dtype=np.float64)
    counts = metric_functions.confusion_counts(malignant, prob, threshold=threshold)
    names = table["case"].to_numpy(dtype=str)
    sample = CaseSample.of(names, malignant)
    draws = sample.draw(n_resamples, seed)
    scores = sample.sums(np.stack([table["patient_score"], np.ones(len(table))], axis=1))

    def bootstrapped(name: str, make: Callable[[], Functional], undefined: str) -> Metric:
        told = describe_resamples(n_resamples, seed)
        return estimate_metric(
            name, make, sample, draws, names, malignant, undefined=undefined, resampling=told
        )

    found = {
        RECOGNITION_RATE: bootstrapped(RECOGNITION_RATE, lambda: mean_functional(scores), "")
    } | {
        name: _proportion(metric(counts), images_in_scope(name, malignant))
        for name, metric in PROPORTIONS.items()
    }
    make = partial(metric_functional, "roc_auc", sample, malignant, prob, threshold)
    undefined = undefined_reason("roc_auc", malignant)
    found["roc_auc"] = bootstrapped("roc_auc", make, undefined)
    found["balanced_accuracy"] = _mean(found["sensitivity"], found["specificity"], undefined)
    (tn, fp), (fn, tp) = counts.astype(int).tolist()
    images = table["n_images"].to_numpy()
    metrics = {}
    for name in CASE_METRICS:
        scope = images_in_scope(name, malignant)
        metrics[name] = replace(
            found[name], n_images=int(images[scope].sum()), n_cases=int(scope.sum())
        )
    return CaseMetrics(((tn, fp), (fn, tp)), metrics)


def _mean(sensitivity: Metric, specificity: Metric, undefined: str) -> Metric:
    """Return the mean of two shares of cases, as Newcombe does it for their difference."""
    n = sensitivity.n_images + specificity.n_images
    if sensitivity.value is None or specificity.value is None:
        return Metric(None, None, None, n, n, _WILSON, undefined)
    interval = mean_interval(sensitivity, specificity)
    value = (sensitivity.value + specificity.value) / 2
    return Metric(value, interval.low, interval.high, n, n, f"{_WILSON}, of both rates")


def _proportion(value: Floats, scope: NDArray[np.bool_]) -> Metric:
    """Return a share of cases; how many pictures they have is filled in later."""
    n = int(scope.sum())
    if n == 0:
        return Metric(None, None, None, 0, 0, _WILSON, "no such case")
    interval = wilson(round(float(value) * n), n)
    return Metric(float(value), interval.low, interval.high, n, n, _WILSON)


SUBGROUP_METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "roc_auc")
NOT_STATED = "not stated"
UNSEEN = "unseen in training"


@dataclass(frozen=True)
class Subgroup:
    """What one evaluation found for some of its pictures.

    Attributes
    ----------
    kind : {'known', 'magnification', 'subtype'}
    name : str
        Such as '40X' or 'tubular adenoma'.
    n, n_cases : int
        Pictures, and known cases among them.
    malignant_proportion : float
        Share of malignant pictures; a subtype has 0 or 1.
    confusion : tuple of two pairs of int
        Rows are the truth, columns the verdict.
    figures : dict of str to Figure
        Keys as in `SUBGROUP_METRICS`.
    """

    kind: str
    name: str
    n_images: int
    n_cases: int
    malignant_proportion: float
    confusion: Confusion
    metrics: dict[str, Metric]


def evaluate_subgroups(
    predictions: pd.DataFrame, *, threshold: float, n_resamples: int, seed: int
) -> tuple[Subgroup, ...]:
    """Compute the figures of what a model knows and does not, of magnifications and subtypes.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As `check_predictions` returns it; ``known``, bool, may say which of them the
        model knows.
    threshold, n_resamples, seed
        As for `estimate_metrics`.

    Returns
    -------
    tuple of Group
        Pictures that it does not know before those it knows, where there are both; magnifications
        from the smallest; subtypes, benign ones first. A kind that nothing is known of is left out.
    """
    return tuple(
        _group(kind, name, rows, threshold, n_resamples, seed)
        for kind, parts in (
            ("seen", _by_seen(predictions)),
            ("magnification", _by_magnification(predictions)),
            ("subtype", _by_subtype(predictions)),
        )
        # Of one part that nothing is known of, the figures are those of the whole.
        if list(parts) != [NOT_STATED]
        for name, rows in parts.items()
    )


def infer_subtypes(predictions: pd.DataFrame) -> pd.Series:
    """Return the subtype of each picture: of its column, else of its official name."""
    if "subtype" in predictions:
        return predictions["subtype"].astype(str)
    names = [parse_name(PurePosixPath(path).name) for path in predictions["path"]]
    found = [UNKNOWN_SUBTYPE if name is None else name.subtype for name in names]
    return pd.Series(found, index=predictions.index, dtype="str")


def _by_seen(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    known = predictions.get("seen_in_training")
    if known is None or known.dtype != bool or known.nunique() < 2:
        return {}
    return {UNSEEN: predictions[~known], "seen in training": predictions[known]}


def _by_magnification(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    known = predictions["magnification"].dropna()
    parts = {
        f"{number}X": predictions[predictions["magnification"] == number]
        for number in sorted(known.unique())
    }
    rest = predictions[predictions["magnification"].isna()]
    return parts | ({NOT_STATED: rest} if len(rest) else {})


def _by_subtype(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    names = infer_subtypes(predictions).str.replace("_", " ")
    stated = (names != UNKNOWN_SUBTYPE) & (names != "")
    parts = {}
    for class_name in CLASSES:
        of_class = stated & (predictions["class"] == class_name)
        for name in sorted(names[of_class].unique()):
            parts[name] = predictions[of_class & (names == name)]
    return parts | ({NOT_STATED: predictions[~stated]} if not stated.all() else {})


def _group(
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
