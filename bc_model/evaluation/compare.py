"""Two models on the same pictures: the difference of each figure, with a paired interval.

Both are judged on exactly the pictures that both predicted, and each bootstrap replicate draws the
same whole cases for both. It does not read runs; that is the work of `compare_runs`.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.errors import DataError
from bc_model.evaluation.alarms import check_few_cases
from bc_model.evaluation.difference import COMPARED, Comparison, Difference, Side, conclusion_of
from bc_model.evaluation.estimate import (
    draws_in_words,
    functional_of,
    honest_means,
    measure,
    why_undefined,
)
from bc_model.evaluation.functionals import Functional, of_difference
from bc_model.evaluation.metrics import all_metrics
from bc_model.evaluation.predictions import check_predictions
from bc_model.evaluation.sample import CaseSample
from bc_model.evaluation.weighting import Floats


def compare(first: Side, second: Side, *, n_resamples: int = 2000, seed: int = 0) -> Comparison:
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
    draws = sample.draws(n_resamples, seed)

    def difference_in(name: str) -> Functional:
        one, other = (
            functional_of(name, sample, malignant, prob, side.threshold)
            for side, prob in zip((first, second), probs, strict=True)
        )
        return of_difference(one, other)

    figures = honest_means(
        {
            name: measure(
                name, partial(difference_in, name), sample, draws, case, malignant,
                undefined=why_undefined(name, malignant), bounds=(-1.0, 1.0),
                draws_told=f"paired, {draws_in_words(n_resamples, seed)}",
            )
            for name in COMPARED
        }
    )  # fmt: skip
    return Comparison(
        first=first.name,
        second=second.name,
        n=len(pairs),
        n_cases=pairs.loc[pairs["case"] != "", "case"].nunique(),
        n_left_out=n_left_out,
        differences={
            name: Difference(
                _or_none(values[0][name]),
                _or_none(values[1][name]),
                figure,
                conclusion_of(figure),
            )
            for name, figure in figures.items()
        },
        checks=tuple(_check(pairs, n_left_out, first, second)),
    )


def _join(first: Side, second: Side) -> tuple[pd.DataFrame, tuple[int, int]]:
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
    pairs: pd.DataFrame, n_left_out: tuple[int, int], first: Side, second: Side
) -> Iterator[Check]:
    cases = set(pairs["case"]) - {""}
    for side in (first, second):
        if side.leaky:
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
