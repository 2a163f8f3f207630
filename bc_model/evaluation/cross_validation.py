"""Reports of cross-validation, and averages over the test subsets of several runs."""

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
    combine_rates,
    describe_resamples,
    estimate_metric,
    metric_functional,
    undefined_reason,
)
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.metrics import Floats, ratio
from bc_model.evaluation.predictions import read_predictions
from bc_model.evaluation.report import EvaluationReport, require_predictions
from bc_model.evaluation.subgroups import RECOGNITION_RATE
from bc_model.inference.bundle import Bundle
from bc_model.inference.model_card import ModelCard
from bc_model.utils.measurement import Metric

CROSS_VALIDATION_FILE = "cross_validation.csv"
"""Out-of-fold predictions of a model that was trained on all images."""
NESTED_CROSS_VALIDATION_FILE = "nested_cross_validation.csv"
"""Out-of-fold predictions of nested cross-validation, see `NestedResult` in the model card. Its
logits are standardized by the standard deviation of the teacher."""


@dataclass(frozen=True)
class Spread:
    """Variation of a metric over repeated holdout test sets; `sd` needs two values."""

    minimum: float
    maximum: float
    sd: float | None
    n_holdouts: int


def is_cross_validated(bundle: Bundle) -> bool:
    """Return whether a model has out-of-fold predictions."""
    return CROSS_VALIDATION_FILE in bundle.card.files


def cross_validation_report(bundle: Bundle) -> EvaluationReport:
    """Evaluate the out-of-fold predictions of a model.

    The report contains the curves, the checks of the model card and `check_nested`.

    Raises
    ------
    BundleError, DataError
        The file or the test metrics are missing, the file has another hash, or it contains no
        valid predictions.
    """
    test = bundle.card.metrics.test
    if test is None:
        raise BundleError(
            f"The model card in {bundle.folder} has no test metrics, but lists "
            f"{CROSS_VALIDATION_FILE}. Expected both. Export the model again."
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
            roc_auc_ci=_interval(area),
            balanced_accuracy=balanced.value,
            balanced_accuracy_ci=_interval(balanced),
            network=nested.network,
        ),
    )


def mean_metrics(
    reports: Sequence[EvaluationReport],
    names: Iterable[str],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[dict[str, Metric], dict[str, Spread]]:
    """Return average metrics over repeated holdout test sets, and their variation.

    The test sets can overlap; each run has its own threshold. The numbers of the averages count
    every image and every case once. `names` can contain ``recognition_rate``.
    """
    tables = [require_predictions(report) for report in reports]
    cases = _pool_cases(tables)
    draws = cases.sample.draw(n_resamples, seed)
    resampling = (
        f"the same draw in each of {len(tables)} test subsets, "
        f"{describe_resamples(n_resamples, seed)}"
    )
    metrics, spread = {}, {}
    for name in names:
        functionals = [
            _subset_functional(name, table, report.threshold, cases)
            for table, report in zip(tables, reports, strict=True)
        ]
        values = _defined_values(functionals, cases)
        metric = estimate_metric(
            name, partial(_average, functionals), cases.sample, draws, cases.case, cases.malignant,
            undefined="" if values else _undefined_reason(name, tables), resampling=resampling,
        )  # fmt: skip
        if 0 < len(values) < len(functionals):
            note = f"defined in {len(values)} of {len(functionals)} test subsets"
            metric = replace(metric, note="; ".join(filter(None, (metric.note, note))))
        metrics[name] = metric
        if values:
            sd = statistics.stdev(values) if len(values) > 1 else None
            spread[name] = Spread(min(values), max(values), sd, len(values))
    return combine_rates(metrics), spread


def mean_differences(
    pairs: Sequence[tuple[EvaluationReport, EvaluationReport]],
    names: Iterable[str],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Metric]:
    """Return average paired differences, second minus first, of metrics over pairs of runs.

    Each pair is compared on the images that both predicted, each run at its own threshold. Without
    a common image the result is empty. Balanced accuracy needs sensitivity and specificity in
    `names`, because its interval depends on theirs.
    """
    common = []
    for first, second in pairs:
        tables = require_predictions(first), require_predictions(second)
        shared = set(tables[0]["path"]) & set(tables[1]["path"])
        if shared:
            tables = (
                tables[0][tables[0]["path"].isin(shared)],
                tables[1][tables[1]["path"].isin(shared)],
            )
            common.append(((tables[0], first.threshold), (tables[1], second.threshold)))
    if not common:
        return {}
    all_tables = [table for pair in common for table, _ in pair]
    cases = _pool_cases(all_tables)
    draws = cases.sample.draw(n_resamples, seed)
    differences = {}
    for name in names:
        functionals = [
            difference_functional(
                *(_subset_functional(name, table, threshold, cases) for table, threshold in pair)
            )
            for pair in common
        ]
        is_defined = bool(_defined_values(functionals, cases))
        differences[name] = estimate_metric(
            name, partial(_average, functionals), cases.sample, draws, cases.case, cases.malignant,
            undefined="" if is_defined else _undefined_reason(name, all_tables),
            resampling=f"paired, {describe_resamples(n_resamples, seed)}", bounds=(-1.0, 1.0),
        )  # fmt: skip
    return combine_rates(differences)


@dataclass(frozen=True)
class _PooledCases:
    """The images of all test subsets, each once, and the clusters of their cases."""

    case: np.ndarray
    malignant: np.ndarray
    sample: CaseSample
    cluster_of_path: pd.Series


def _pool_cases(tables: Sequence[pd.DataFrame]) -> _PooledCases:
    columns = ["path", "case", "class"]
    images = pd.concat([table[columns] for table in tables]).drop_duplicates()
    images = images.sort_values("path", ignore_index=True)
    if (conflicts := images["path"].duplicated()).any():
        raise DataError(
            f"Conflicting class or case of '{images.loc[conflicts, 'path'].iloc[0]}'. Expected the "
            "same value in every run. Train the runs on one dataset."
        )
    case = images["case"].to_numpy(dtype=str)
    malignant = (images["class"] == "malignant").to_numpy(dtype=bool)
    sample = CaseSample.of(case, malignant)
    return _PooledCases(case, malignant, sample, pd.Series(sample.cluster, index=images["path"]))


def _subset_functional(
    name: str, table: pd.DataFrame, threshold: float, cases: _PooledCases
) -> Functional:
    """Return a metric of one test subset as a function of the counts of all cases."""
    cluster = cases.cluster_of_path.loc[table["path"]].to_numpy()
    sample = CaseSample(cluster, cases.sample.stratum)
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    prob = table["prob_malignant"].to_numpy(dtype=np.float64)
    if name != RECOGNITION_RATE:
        return metric_functional(name, sample, malignant, prob, threshold)
    # The columns are the patient score and 1 for each case of the subset, and 0 for the others.
    known = (table["case"] != "").to_numpy(dtype=bool)
    correct = known & ((prob >= threshold) == malignant)
    n_correct, n = sample.sums(np.stack([correct, known], axis=1).astype(np.float64)).T
    return mean_functional(
        np.stack([n_correct / np.maximum(n, 1.0), (n > 0).astype(np.float64)], axis=1)
    )


def _defined_values(functionals: Sequence[Functional], cases: _PooledCases) -> list[float]:
    once = np.ones((1, cases.sample.size))
    values = [float(functional(once)[0][0]) for functional in functionals]
    return [value for value in values if not np.isnan(value)]


def _average(functionals: Sequence[Functional]) -> Functional:
    """Return the mean of functionals over those that are defined in a resample."""

    def functional(counts: Floats) -> tuple[Floats, Floats]:
        results = [function(counts) for function in functionals]
        values, slopes = (np.stack(arrays) for arrays in zip(*results, strict=True))
        defined = ~np.isnan(values)
        n = defined.sum(axis=0).astype(np.float64)
        sums = np.where(defined, values, 0.0).sum(axis=0)
        slope_sums = np.where(defined[..., None], slopes, 0.0).sum(axis=0)
        return ratio(sums, n), ratio(slope_sums, np.broadcast_to(n[:, None], slope_sums.shape))

    return functional


def _undefined_reason(name: str, tables: Sequence[pd.DataFrame]) -> str:
    if name == RECOGNITION_RATE:
        return "no case is known"
    malignant = pd.concat(tables)["class"].to_numpy() == "malignant"
    return undefined_reason(name, malignant) or "no test subset contains both classes"


def _interval(metric: Metric) -> list[float] | None:
    ends = [end for end in (metric.ci_low, metric.ci_high) if end is not None]
    return ends or None
