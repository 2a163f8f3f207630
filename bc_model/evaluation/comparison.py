"""Two models on the same pictures: the difference of each figure, with a paired interval.

Both are judged on exactly the pictures that both predicted, and each bootstrap replicate draws the
same whole cases for both. It does not read runs; that is the work of `compare_runs`.
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
    correct_mean_intervals,
    describe_resamples,
    estimate_metric,
    metric_functional,
    undefined_reason,
)
from bc_model.evaluation.metrics import Floats, all_metrics
from bc_model.evaluation.predictions import check_predictions
from bc_model.utils.metric import Metric

COMPARED = (
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "roc_auc",
    "accuracy",
    "brier",
)

# Differences of means that are equal on paper differ in the last bits.
_ROUNDING = 1e-12


class Conclusion(StrEnum):
    """What the interval of a difference supports."""

    FIRST_HIGHER = "first higher"
    SECOND_HIGHER = "second higher"
    NO_EVIDENCE = "no evidence of a difference"
    NO_INTERVAL = "no interval"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class ComparedModel:
    """One of two models: what it predicted, and what speaks against its figures.

    Parameters
    ----------
    name : str
        As it is to stand in sentences.
    predictions : pandas.DataFrame
        As `check_predictions` describes it.
    threshold : float
        A picture is called malignant at this probability or above.
    leaky : bool
        Whether its protocol lets pictures of one case stand in training and test.
    seen_cases : frozenset of str
        Cases that the model learned from or was chosen by.
    """

    name: str
    predictions: pd.DataFrame = field(repr=False)
    threshold: float = 0.5
    has_leakage: bool = False
    seen_cases: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True)
class Difference:
    """One figure of both models on the common pictures, and their difference.

    Parameters
    ----------
    first, second : float or None
        None where the figure is not defined.
    difference : Figure
        Second minus first, with its paired interval.
    conclusion : Conclusion
        Without an interval or a value, the note of `difference` states the reason.
    """

    first: float | None
    second: float | None
    difference: Metric
    conclusion: Conclusion

    @property
    def has_evidence(self) -> bool:
        """True when the interval leaves out 0."""
        return _excludes_zero(self.difference)

    def text(self, digits: int = 3) -> str:
        """Return the difference in one line, with signs.

        Examples
        --------
        >>> figure = Figure(0.1, 0.02, 0.2, 60, 9, "")
        >>> print(Difference(0.8, 0.9, figure, Conclusion.SECOND_HIGHER).text(2))
        0.80 and 0.90, +0.10 (95 % +0.02 to +0.20; 60 pictures, 9 cases): second higher
        """
        found = self.difference
        if self.first is None or self.second is None or found.value is None:
            return f"{self.conclusion}: {found.note}"
        why = f", {found.note}" if self.conclusion == Conclusion.NO_INTERVAL else ""
        interval = "no interval"
        if found.ci_low is not None and found.ci_high is not None:
            interval = f"95 % {found.ci_low:+.{digits}f} to {found.ci_high:+.{digits}f}"
        return (
            f"{self.first:.{digits}f} and {self.second:.{digits}f}, {found.value:+.{digits}f} "
            f"({interval}; {found.n_images:,} pictures, {found.n_cases or 'unknown'} cases): "
            f"{self.conclusion}{why}"
        )


@dataclass(frozen=True)
class Comparison:
    """What comparing two models found.

    Parameters
    ----------
    first, second : str
        Their names.
    n, n_cases : int
        Common pictures, and known cases among them.
    n_left_out : (int, int)
        Pictures of the first and of the second that the other did not predict.
    differences : dict of str to Difference
        Keys as in `COMPARED`.
    checks : tuple of Check
        Checks of the comparison, the most serious first.
    """

    first: str
    second: str
    n_images: int
    n_cases: int
    n_excluded: tuple[int, int]
    differences: dict[str, Difference]
    checks: tuple[Check, ...]


def draw_conclusion(difference: Metric) -> Conclusion:
    """Return what a difference (second minus first) supports, and no more."""
    if difference.value is None:
        return Conclusion.UNDEFINED
    # Equal predictions for every image have no spread for an interval, and need none.
    if abs(difference.value) <= _ROUNDING and difference.ci_low is None:
        return Conclusion.NO_EVIDENCE
    if difference.ci_low is None:
        return Conclusion.NO_INTERVAL
    if not _excludes_zero(difference):
        return Conclusion.NO_EVIDENCE
    return Conclusion.SECOND_HIGHER if difference.value > 0 else Conclusion.FIRST_HIGHER


def check_multiplicity(n_comparisons: int) -> Check:
    """Return the reminder that the intervals are not corrected for multiple comparisons."""
    return make_check("BC224", n_intervals=n_comparisons * len(COMPARED))


def _excludes_zero(metric: Metric) -> bool:
    if metric.ci_low is None or metric.ci_high is None:
        return False
    return metric.ci_low > _ROUNDING or metric.ci_high < -_ROUNDING


def compare_predictions(
    first: ComparedModel, second: ComparedModel, *, n_resamples: int = 2000, seed: int = 0
) -> Comparison:
    """Compare two models on the pictures that both predicted.

    A picture is the same when its path is, and its hash where both sides have one.

    Parameters
    ----------
    first, second : Side
    n_resamples : int, default=2000
        Bootstrap replicates.
    seed : int, default=0
        Of the bootstrap, 0 or more.

    Returns
    -------
    Comparison
        Differences are second minus first, each model at its own cut-off.

    Raises
    ------
    DataError
        The two share no picture, or disagree on the class or the case of one.
    """
    pairs, n_left_out = _join(first, second)
    case = pairs["case"].to_numpy(dtype=str)
    malignant = (pairs["class"] == "malignant").to_numpy(dtype=bool)
    probs = [pairs[column].to_numpy(dtype=np.float64) for column in ("prob_first", "prob_second")]
    values = [
        all_metrics(malignant, prob, threshold=side.threshold)
        for side, prob in zip((first, second), probs, strict=True)
    ]
    sample = CaseSample.of(case, malignant)
    draws = sample.draw(n_resamples, seed)

    def difference_in(name: str) -> Functional:
        one, other = (
            metric_functional(name, sample, malignant, prob, side.threshold)
            for side, prob in zip((first, second), probs, strict=True)
        )
        return difference_functional(one, other)

    metrics = correct_mean_intervals(
        {
            name: estimate_metric(
                name, partial(difference_in, name), sample, draws, case, malignant,
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
        n_excluded=n_left_out,
        differences={
            name: Difference(
                _or_none(values[0][name]),
                _or_none(values[1][name]),
                metric,
                draw_conclusion(metric),
            )
            for name, metric in metrics.items()
        },
        checks=tuple(_check(pairs, n_left_out, first, second)),
    )


def _join(first: ComparedModel, second: ComparedModel) -> tuple[pd.DataFrame, tuple[int, int]]:
    """Return one row for each common picture, and how many each side has beside them."""
    tables = [check_predictions(side.predictions) for side in (first, second)]
    columns = ["path", "sha256", "case", "class", "prob_malignant"]
    pairs = tables[0][columns].merge(tables[1][columns], on="path", suffixes=("_first", "_second"))
    hashes = pairs["sha256_first"], pairs["sha256_second"]
    pairs = pairs[(hashes[0] == hashes[1]) | (hashes[0] == "") | (hashes[1] == "")]
    if pairs.empty:
        raise DataError(
            f"Two runs can be compared on pictures that both predicted, but {first.name} and "
            f"{second.name} share none: train both on one data set with the same split seed, "
            "number of folds and fold."
        )
    for column in ("class", "case"):
        one, other = pairs[f"{column}_first"], pairs[f"{column}_second"]
        differ = pairs[(one != other) & (one != "") & (other != "")]
        if len(differ):
            row = differ.iloc[0]
            raise DataError(
                f"Both runs must know the same {column} for a picture, but '{row['path']}' is "
                f"{row[f'{column}_first']} for {first.name} and {row[f'{column}_second']} for "
                f"{second.name} ({len(differ)} such in all): train one of them again."
            )
    case = pairs["case_first"].where(pairs["case_first"] != "", pairs["case_second"])
    joined = pairs.rename(
        columns={
            "class_first": "class",
            "prob_malignant_first": "prob_first",
            "prob_malignant_second": "prob_second",
        }
    ).assign(case=case)[["path", "case", "class", "prob_first", "prob_second"]]
    n_left_out = len(tables[0]) - len(joined), len(tables[1]) - len(joined)
    return joined.reset_index(drop=True), n_left_out


def _or_none(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)


def _check(
    pairs: pd.DataFrame, n_left_out: tuple[int, int], first: ComparedModel, second: ComparedModel
) -> Iterator[Check]:
    cases = set(pairs["case"]) - {""}
    for side in (first, second):
        if side.has_leakage:
            yield make_check("BC221", run=side.name)
        if seen := sorted(cases & side.seen_cases):
            yield make_check(
                "BC222", run=side.name, n_seen=len(seen), n_cases=len(cases), case=seen[0]
            )
    if any(n_left_out):
        yield make_check(
            "BC223",
            first=first.name,
            second=second.name,
            n_excluded_first=n_left_out[0],
            n_excluded_second=n_left_out[1],
            n=len(pairs),
        )
    yield from check_few_cases(pairs)
