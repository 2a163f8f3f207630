"""Evaluate predictions: from a table of probabilities to a report with figures and warnings.

One set of predictions under one protocol. It does not predict, and it does not compare reports.
"""

from collections.abc import Iterable

import pandas as pd

from bc_model.errors import SettingsError
from bc_model.evaluation.alarms import alarms
from bc_model.evaluation.by_case import RECOGNITION, by_case
from bc_model.evaluation.by_group import by_group
from bc_model.evaluation.estimate import estimate_figures
from bc_model.evaluation.metrics import confusion_counts
from bc_model.evaluation.predictions import check_predictions
from bc_model.evaluation.ranking import pr_curve, roc_curve
from bc_model.evaluation.reliability import reliability
from bc_model.evaluation.result import PrCurve, Report, RocCurve
from bc_model.evaluation.store import read_report

__all__ = ["Report", "RocCurve", "evaluate_predictions", "read_report"]

_MIN_RESAMPLES = 100


def evaluate_predictions(
    frame: pd.DataFrame,
    *,
    threshold: float = 0.5,
    protocol: str,
    leaky: bool,
    is_known: bool = False,
    n_resamples: int = 2000,
    seed: int = 0,
    notes: Iterable[str] = (),
) -> Report:
    """Evaluate predictions on pictures the model was not trained on.

    Parameters
    ----------
    frame : pandas.DataFrame
        As `check_predictions` describes it: path, sha256, case, class, magnification,
        prob_malignant. The order of its rows does not matter.
    threshold : float, default=0.5
        In [0, 1]. It must have been chosen on other pictures than these.
    protocol : str
        How the pictures were chosen, such as 'case' or 'image'; shown with every figure.
    leaky : bool
        Whether pictures of one case stand in training and test under that protocol.
    is_known : bool
        Whether it is certain that the model knows some of these pictures or cases.
    n_resamples : int, default=2000
        Bootstrap replicates for the intervals, at least 100.
    seed : int, default=0
        Of the bootstrap, 0 or more.
    notes : iterable of str
        What a reader should know of where the pictures came from.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        The predictions break a rule of `check_predictions`.
    SettingsError
        The threshold, the number of resamples or the seed is out of its range.
    """
    _check_settings(threshold, n_resamples, seed)
    table = check_predictions(frame)
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    prob = table["prob_malignant"].to_numpy(dtype=float)
    (tn, fp), (fn, tp) = confusion_counts(malignant, prob, threshold=threshold).astype(int).tolist()
    roc, pr = roc_curve(malignant, prob), pr_curve(malignant, prob)
    case = table["case"].to_numpy(dtype=str)
    figures = estimate_figures(table, threshold=threshold, n_resamples=n_resamples, seed=seed)
    cases = by_case(table, threshold=threshold, n_resamples=n_resamples, seed=seed)
    judged = figures | ({RECOGNITION: cases.figures[RECOGNITION]} if cases else {})
    known = table[table["case"] != ""]
    return Report(
        protocol=protocol,
        leaky=bool(leaky),
        threshold=float(threshold),
        n=len(table),
        n_cases=known["case"].nunique(),
        n_benign_cases=known.loc[known["class"] == "benign", "case"].nunique(),
        n_malignant_cases=known.loc[known["class"] == "malignant", "case"].nunique(),
        base_rate=float(malignant.mean()),
        confusion=((tn, fp), (fn, tp)),
        figures=figures,
        roc=None if roc is None else RocCurve(*(tuple(axis.tolist()) for axis in roc)),
        warnings=alarms(table, judged, leaky=leaky, is_known=is_known),
        pr=None if pr is None else PrCurve(*(tuple(axis.tolist()) for axis in pr)),
        by_case=cases,
        groups=by_group(table, threshold=threshold, n_resamples=n_resamples, seed=seed),
        calibration=reliability(malignant, prob, case, seed=seed),
        notes=tuple(notes),
        predictions=table,
    )


def _check_settings(threshold: float, n_resamples: int, seed: int) -> None:
    # Written so that NaN fails as well.
    if not 0.0 <= threshold <= 1.0:
        raise SettingsError(
            f"threshold must lie between 0 and 1, but it is {threshold}: choose a probability."
        )
    if n_resamples < _MIN_RESAMPLES:
        raise SettingsError(
            f"n_resamples must be at least {_MIN_RESAMPLES}, since fewer do not show the tails of "
            f"an interval, but it is {n_resamples}: 2000 is usual."
        )
    if seed < 0:
        raise SettingsError(f"seed must be 0 or more, but it is {seed}: choose another number.")
