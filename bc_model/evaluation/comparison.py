"""Comparison of two models on the same images: paired differences of metrics.

Both models are evaluated on the images that both predicted, and each bootstrap resample contains
the same cases for both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.errors import DataError
from bc_model.evaluation.bootstrap import CaseSample, Functional, difference_functional
from bc_model.evaluation.checks import check_few_cases
from bc_model.evaluation.estimates import (
    combine_rates,
    describe_resamples,
    estimate_metric,
    metric_functional,
    undefined_reason,
)
from bc_model.evaluation.metrics import Floats, all_metrics
from bc_model.evaluation.predictions import check_predictions
from bc_model.evaluation.report import EvaluationReport, require_predictions
from bc_model.utils.measurement import Metric

COMPARED = ("balanced_accuracy", "sensitivity", "specificity", "roc_auc", "accuracy", "brier")

# Rounding error of a difference of equal means.
_ROUNDING = 1e-12


class Conclusion(StrEnum):
    """Conclusion that the interval of a difference supports."""

    FIRST_HIGHER = "first higher"
    SECOND_HIGHER = "second higher"
    NO_EVIDENCE = "no evidence of a difference"
    NO_INTERVAL = "no interval"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class ComparedModel:
    """One of two models: its predictions, threshold, leakage, and the cases seen in training."""

    name: str
    predictions: pd.DataFrame = field(repr=False)
    threshold: float = 0.5
    has_leakage: bool = False
    seen_cases: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True)
class Difference:
    """One metric of both models on the common images, and the difference second minus first.

    The difference has a paired interval. Without an interval or a value, its note states the
    reason. An undefined metric is None.
    """

    first: float | None
    second: float | None
    difference: Metric
    conclusion: Conclusion

    @property
    def has_evidence(self) -> bool:
        """Whether the interval excludes 0."""
        return _excludes_zero(self.difference)

    def text(self, digits: int = 3) -> str:
        """Return the difference in one line, with signs.

        Examples
        --------
        >>> difference = Metric(0.1, 0.02, 0.2, 60, 9, "")
        >>> print(Difference(0.8, 0.9, difference, Conclusion.SECOND_HIGHER).text(2))
        0.80 and 0.90, +0.10 (95 % CI +0.02 to +0.20; 60 images, 9 cases): second higher
        """
        metric = self.difference
        if self.first is None or self.second is None or metric.value is None:
            return f"{self.conclusion}: {metric.note}"
        reason = f", {metric.note}" if self.conclusion == Conclusion.NO_INTERVAL else ""
        interval = "no interval"
        if metric.ci_low is not None and metric.ci_high is not None:
            interval = f"95 % CI {metric.ci_low:+.{digits}f} to {metric.ci_high:+.{digits}f}"
        return (
            f"{self.first:.{digits}f} and {self.second:.{digits}f}, {metric.value:+.{digits}f} "
            f"({interval}; {metric.n_images:,} images, {metric.n_cases or 'unknown'} cases): "
            f"{self.conclusion}{reason}"
        )


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison of two models.

    Attributes
    ----------
    first, second : str
        Names of the models.
    n_images, n_cases : int
        Numbers of common images and of their known cases.
    n_excluded : (int, int)
        Numbers of the other images of each model.
    differences : dict of str to Difference
        Keys: `COMPARED`.
    """

    first: str
    second: str
    n_images: int
    n_cases: int
    n_excluded: tuple[int, int]
    differences: dict[str, Difference]
    checks: tuple[Check, ...]


def compare_models(
    report_a: EvaluationReport,
    report_b: EvaluationReport,
    *,
    names: tuple[str, str] = ("A", "B"),
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two models by the predictions in their evaluation reports.

    Parameters
    ----------
    report_a, report_b : EvaluationReport
        Reports with predictions of common images.
    names : (str, str), default=('A', 'B')
        Names of the models in messages.
    n_resamples, seed : int
        Number of resamples and random seed of the bootstrap.

    Returns
    -------
    Comparison
        Paired differences, B minus A, each model at the threshold of its report.

    Raises
    ------
    RunError, DataError
        A report has no predictions, or the reports have no common image or conflicting labels.

    Examples
    --------
    >>> compare_models(report_a, report_b).differences["roc_auc"]  # doctest: +SKIP
    """
    first, second = (
        ComparedModel(name, require_predictions(report), report.threshold, report.has_leakage)
        for name, report in zip(names, (report_a, report_b), strict=True)
    )
    return compare_predictions(first, second, n_resamples=n_resamples, seed=seed)


def compare_predictions(
    first: ComparedModel, second: ComparedModel, *, n_resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare two models by their predictions.

    An image is common if both models have its path, and its hash if both state one. For the other
    parameters and the errors see `compare_models`.
    """
    pairs, n_excluded = _join_predictions(first, second)
    case = pairs["case"].to_numpy(dtype=str)
    malignant = (pairs["class"] == "malignant").to_numpy(dtype=bool)
    probs = [pairs[column].to_numpy(dtype=np.float64) for column in ("prob_first", "prob_second")]
    values = [
        all_metrics(malignant, prob, threshold=model.threshold)
        for model, prob in zip((first, second), probs, strict=True)
    ]
    sample = CaseSample.of(case, malignant)
    draws = sample.draw(n_resamples, seed)

    def make_functional(name: str) -> Functional:
        return difference_functional(
            *(
                metric_functional(name, sample, malignant, prob, model.threshold)
                for model, prob in zip((first, second), probs, strict=True)
            )
        )

    metrics = combine_rates(
        {
            name: estimate_metric(
                name, partial(make_functional, name), sample, draws, case, malignant,
                undefined=undefined_reason(name, malignant), bounds=(-1.0, 1.0),
                resampling=f"paired, {describe_resamples(n_resamples, seed)}",
            )
            for name in COMPARED
        }
    )  # fmt: skip
    return Comparison(
        first=first.name,
        second=second.name,
        n_images=len(pairs),
        n_cases=pairs.loc[pairs["case"] != "", "case"].nunique(),
        n_excluded=n_excluded,
        differences={
            name: Difference(
                _none_if_nan(values[0][name]),
                _none_if_nan(values[1][name]),
                metric,
                draw_conclusion(metric),
            )
            for name, metric in metrics.items()
        },
        checks=tuple(_check_comparison(pairs, n_excluded, first, second)),
    )


def draw_conclusion(difference: Metric) -> Conclusion:
    """Return the conclusion that a difference (second minus first) supports."""
    if difference.value is None:
        return Conclusion.UNDEFINED
    if difference.ci_low is None:
        # Equal predictions for every image have no spread and need no interval.
        is_equal = abs(difference.value) <= _ROUNDING
        return Conclusion.NO_EVIDENCE if is_equal else Conclusion.NO_INTERVAL
    if not _excludes_zero(difference):
        return Conclusion.NO_EVIDENCE
    return Conclusion.SECOND_HIGHER if difference.value > 0 else Conclusion.FIRST_HIGHER


def check_multiplicity(n_comparisons: int) -> Check:
    """Return the check that the intervals are not corrected for multiple comparisons."""
    return make_check("BC224", n_intervals=n_comparisons * len(COMPARED))


def _excludes_zero(metric: Metric) -> bool:
    if metric.ci_low is None or metric.ci_high is None:
        return False
    return metric.ci_low > _ROUNDING or metric.ci_high < -_ROUNDING


def _none_if_nan(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)


def _join_predictions(
    first: ComparedModel, second: ComparedModel
) -> tuple[pd.DataFrame, tuple[int, int]]:
    """Return one row per common image, and the number of other images of each model."""
    tables = [check_predictions(model.predictions) for model in (first, second)]
    columns = ["path", "sha256", "case", "class", "prob_malignant"]
    pairs = tables[0][columns].merge(tables[1][columns], on="path", suffixes=("_first", "_second"))
    hashes = pairs["sha256_first"], pairs["sha256_second"]
    pairs = pairs[(hashes[0] == hashes[1]) | (hashes[0] == "") | (hashes[1] == "")]
    if pairs.empty:
        raise DataError(
            f"No common image. Expected images that both {first.name} and {second.name} predicted. "
            "Train both on one dataset with the same split seed, number of folds and fold."
        )
    for column in ("class", "case"):
        value, other = pairs[f"{column}_first"], pairs[f"{column}_second"]
        differ = pairs[(value != other) & (value != "") & (other != "")]
        if len(differ):
            row = differ.iloc[0]
            raise DataError(
                f"Conflicting {column} of '{row['path']}' ({len(differ)} images in total). "
                f"Expected one {column}, got {row[f'{column}_first']} for {first.name} and "
                f"{row[f'{column}_second']} for {second.name}. Train one of them again."
            )
    joined = pd.DataFrame(
        {
            "path": pairs["path"],
            "case": pairs["case_first"].where(pairs["case_first"] != "", pairs["case_second"]),
            "class": pairs["class_first"],
            "prob_first": pairs["prob_malignant_first"],
            "prob_second": pairs["prob_malignant_second"],
        }
    )
    n_excluded = len(tables[0]) - len(joined), len(tables[1]) - len(joined)
    return joined.reset_index(drop=True), n_excluded


def _check_comparison(
    pairs: pd.DataFrame, n_excluded: tuple[int, int], first: ComparedModel, second: ComparedModel
) -> Iterator[Check]:
    cases = set(pairs["case"]) - {""}
    for model in (first, second):
        if model.has_leakage:
            yield make_check("BC221", run=model.name)
        if seen := sorted(cases & model.seen_cases):
            yield make_check(
                "BC222", run=model.name, n_seen=len(seen), n_cases=len(cases), case=seen[0]
            )
    if any(n_excluded):
        yield make_check(
            "BC223",
            first=first.name,
            second=second.name,
            n_excluded_first=n_excluded[0],
            n_excluded_second=n_excluded[1],
            n_images=len(pairs),
        )
    yield from check_few_cases(pairs)
