"""The report of a model made of every picture: that of its recipe, from its cross-validation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.errors import BundleError, DataError
from bc_model.evaluation.bootstrap import (
    CaseSample,
    Functional,
    difference_functional,
    mean_functional,
)
from bc_model.evaluation.checks import remove_metric_checks
from bc_model.evaluation.estimates import (
    correct_mean_intervals,
    describe_resamples,
    estimate_metric,
    metric_functional,
    undefined_reason,
)
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.metrics import Floats, ratio
from bc_model.evaluation.predictions import read_predictions
from bc_model.evaluation.report import EvaluationReport
from bc_model.evaluation.subgroups import RECOGNITION_RATE
from bc_model.inference.bundle import Bundle
from bc_model.inference.model_card import ModelCard
from bc_model.utils.metric import Metric

CROSS_VALIDATION_FILE = "cross_validation.csv"
"""Beside a model made of every picture: what each got from a model that had not seen its case."""
NESTED_SELECTION_FILE = "nested_selection.csv"
"""The same with settings that were selected without the case, see `NestedResult` in the model card.
Its logits are in the teacher's standard deviations."""


def is_cross_validated(bundle: Bundle) -> bool:
    """Tell whether the predictions of a cross-validation belong to the model."""
    return CROSS_VALIDATION_FILE in bundle.card.files


def cross_validation_report(bundle: Bundle) -> EvaluationReport:
    """Evaluate the predictions of the cross-validation, with the curves that model cards lack.

    Parameters
    ----------
    bundle : Bundle
        See `is_cross_validated`.

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
            f"{CROSS_VALIDATION_FILE}. Export the model again."
        )
    return evaluate_predictions(
        read_predictions(bundle.file(CROSS_VALIDATION_FILE)),
        threshold=bundle.threshold,
        protocol=test.protocol,
        has_leakage=test.has_leakage,
        checks=[*remove_metric_checks(test.checks), *check_nested(bundle.card)],
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


def _ci(metric: Metric) -> list[float] | None:
    if metric.ci_low is None or metric.ci_high is None:
        return None
    return [metric.ci_low, metric.ci_high]


@dataclass(frozen=True)
class Spread:
    """How a figure differs between repeated hold-outs.

    Attributes
    ----------
    low, high : float
        The lowest and the highest.
    deviation : float or None
        Standard deviation; None for fewer than two.
    n : int
        Hold-outs in which the figure is defined.
    """

    minimum: float
    maximum: float
    sd: float | None
    n_holdouts: int


@dataclass(frozen=True)
class _Cases:
    """All pictures of all test parts, each once, and the cases that are drawn from them."""

    images: pd.DataFrame
    sample: CaseSample
    cluster_of: pd.Series

    @property
    def case(self) -> np.ndarray:
        return self.images["case"].to_numpy(dtype=str)

    @property
    def malignant(self) -> np.ndarray:
        return (self.images["class"] == "malignant").to_numpy(dtype=bool)


def mean_metrics(
    reports: Sequence[EvaluationReport],
    names: Iterable[str],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[dict[str, Metric], dict[str, Spread]]:
    """Average figures over the test parts of several runs.

    Parameters
    ----------
    reports : sequence of Report
        With their predictions. Test parts may overlap; each run keeps its own cut-off.
    names : iterable of str
        Out of `bc_model.evaluation.metrics.METRICS`, and ``recognition_rate``.
    n_resamples : int, default=2000
        Bootstrap replicates.
    seed : int, default=0
        Of the bootstrap, 0 or more.

    Returns
    -------
    figures : dict of str to Figure
        ``n`` and ``n_cases`` count each picture and each case once, however often it is tested.
    spread : dict of str to Spread
        Between the hold-outs; without those figures that are defined in none.

    Raises
    ------
    DataError
        Two reports disagree on the class or the case of a picture.
    """
    tables = [_predictions(report) for report in reports]
    cases = _cases(tables)
    draws = cases.sample.draw(n_resamples, seed)
    told = f"the same draw in each of {len(tables)} test parts, {describe_resamples(n_resamples, seed)}"
    metrics, spread = {}, {}
    for name in names:
        parts = [
            _of_subset(name, table, report.threshold, cases)
            for table, report in zip(tables, reports, strict=True)
        ]
        values = _values(parts, cases)
        metric = estimate_metric(
            name, partial(_mean_of, parts), cases.sample, draws, cases.case, cases.malignant,
            undefined="" if values else _why_undefined(name, tables), resampling=told,
        )  # fmt: skip
        if 0 < len(values) < len(parts):
            note = f"defined in {len(values)} of {len(parts)} test parts"
            metric = replace(metric, note="; ".join(filter(None, (metric.note, note))))
        metrics[name] = metric
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            spread[name] = Spread(min(values), max(values), deviation, len(values))
    return correct_mean_intervals(metrics), spread


def mean_differences(
    pairs: Sequence[tuple[EvaluationReport, EvaluationReport]],
    names: Iterable[str],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Metric]:
    """Average the paired differences of figures over several pairs of runs.

    Parameters
    ----------
    pairs : sequence of (Report, Report)
        Each is judged on the pictures that both of it predicted, each run at its own cut-off.
    names : iterable of str
        Out of `bc_model.evaluation.metrics.METRICS`. With balanced accuracy belong sensitivity and
        specificity: where one of them never varies, it has no interval either.
    n_resamples : int, default=2000
        Bootstrap replicates; each draws the same cases for all runs of all pairs.
    seed : int, default=0
        Of the bootstrap, 0 or more.

    Returns
    -------
    dict of str to Figure
        Second minus first, in [-1, 1]; empty when no pair has a picture in common.

    Raises
    ------
    DataError
        Two reports disagree on the class or the case of a picture.
    """
    common = []
    for one, other in pairs:
        first, second = _common(one, other)
        if len(first):
            common.append([(first, one.threshold), (second, other.threshold)])
    if not common:
        return {}
    tables = [table for pair in common for table, _ in pair]
    cases = _cases(tables)
    draws = cases.sample.draw(n_resamples, seed)
    told = f"paired, {describe_resamples(n_resamples, seed)}"
    found = {}
    for name in names:
        parts = [
            difference_functional(
                *(_of_subset(name, table, threshold, cases) for table, threshold in pair)
            )
            for pair in common
        ]
        undefined = "" if _values(parts, cases) else _why_undefined(name, tables)
        found[name] = estimate_metric(
            name, partial(_mean_of, parts), cases.sample, draws, cases.case, cases.malignant,
            undefined=undefined, resampling=told, bounds=(-1.0, 1.0),
        )  # fmt: skip
    return correct_mean_intervals(found)


def _cases(tables: Sequence[pd.DataFrame]) -> _Cases:
    columns = ["path", "case", "class"]
    images = pd.concat([table[columns] for table in tables]).drop_duplicates()
    images = images.sort_values("path", ignore_index=True)
    if (twice := images["path"].duplicated()).any():
        raise DataError(
            f"Runs are averaged when they know the same of each picture, but they disagree on the "
            f"class or the case of '{images.loc[twice, 'path'].iloc[0]}': train them on one data "
            "set."
        )
    malignant = (images["class"] == "malignant").to_numpy(dtype=bool)
    sample = CaseSample.of(images["case"].to_numpy(dtype=str), malignant)
    return _Cases(images, sample, pd.Series(sample.cluster, index=images["path"]))


def _of_subset(name: str, table: pd.DataFrame, threshold: float, cases: _Cases) -> Functional:
    """Return a figure of one test part as a function of how often each of *all* cases is drawn."""
    cluster = cases.cluster_of.loc[table["path"]].to_numpy()
    sample = CaseSample(cluster, cases.sample.stratum)
    if name == RECOGNITION_RATE:
        return mean_functional(_scores(table, threshold, sample))
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    prob = table["prob_malignant"].to_numpy(dtype=np.float64)
    return metric_functional(name, sample, malignant, prob, threshold)


def _values(parts: Sequence[Functional], cases: _Cases) -> list[float]:
    """Return the figures of the parts in which they are defined."""
    once = np.ones((1, cases.sample.size))
    return [float(value) for part in parts if not np.isnan(value := part(once)[0][0])]


def _scores(table: pd.DataFrame, threshold: float, sample: CaseSample) -> Floats:
    """Return of each case its patient score in this part and 1, or 0 twice: (cases, 2)."""
    known = (table["case"] != "").to_numpy(dtype=bool)  # a picture without a case has no score
    right = (table["prob_malignant"] >= threshold) == (table["class"] == "malignant")
    n_correct, n = sample.sums(np.stack([known & right, known], axis=1).astype(np.float64)).T
    return np.stack([n_correct / np.maximum(n, 1.0), (n > 0).astype(np.float64)], axis=1)


def _mean_of(parts: Sequence[Functional]) -> Functional:
    """Average functionals; a resample in which one of them is not defined counts the others."""

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        values, slopes = (np.stack(x) for x in zip(*(part(counts) for part in parts), strict=True))
        defined = ~np.isnan(values)
        n = defined.sum(axis=0).astype(np.float64)
        sums = np.where(defined, values, 0.0).sum(axis=0)
        slope_sums = np.where(defined[..., None], slopes, 0.0).sum(axis=0)
        return ratio(sums, n), ratio(slope_sums, np.broadcast_to(n[:, None], slope_sums.shape))

    return functional


def _common(one: EvaluationReport, other: EvaluationReport) -> tuple[pd.DataFrame, pd.DataFrame]:
    first, second = _predictions(one), _predictions(other)
    return first[first["path"].isin(second["path"])], second[second["path"].isin(first["path"])]


def _predictions(report: EvaluationReport) -> pd.DataFrame:
    if report.predictions is None:
        raise DataError(
            "Averaging needs the predictions of each report, but one was made from a summary "
            "without them: use read_report."
        )
    return report.predictions


def _why_undefined(name: str, tables: Sequence[pd.DataFrame]) -> str:
    if name == RECOGNITION_RATE:
        return "no case is known"
    malignant = pd.concat(tables)["class"].to_numpy() == "malignant"
    return undefined_reason(name, malignant) or "no test part has both classes"
