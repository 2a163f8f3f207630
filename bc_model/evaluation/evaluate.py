"""Run a model over one part of a split and report on it."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE
from bc_model.errors import ConfigError, SplitError
from bc_model.evaluation.calibration import measure_calibration
from bc_model.evaluation.checks import check_metrics
from bc_model.evaluation.estimates import estimate_metrics
from bc_model.evaluation.metrics import confusion_counts, pr_curve, roc_curve
from bc_model.evaluation.predictions import check_predictions
from bc_model.evaluation.report import EvaluationReport, PrCurve, RocCurve, read_report
from bc_model.evaluation.subgroups import RECOGNITION_RATE, evaluate_cases, evaluate_subgroups
from bc_model.inference.classifier import prob_malignant
from bc_model.inference.engine import Engine
from bc_model.inference.predict import Predicted, predict_files
from bc_model.inference.seen_images import UNKNOWN_INITIALIZATION, find_seen_images

__all__ = ["Report", "RocCurve", "evaluate_predictions", "read_report"]

_MIN_RESAMPLES = 100


def evaluate_predictions(
    frame: pd.DataFrame,
    *,
    threshold: float = 0.5,
    protocol: str,
    has_leakage: bool,
    is_known: bool = False,
    n_resamples: int = 2000,
    seed: int = 0,
    checks: Iterable[Check] = (),
) -> EvaluationReport:
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
    checks : iterable of Check
        Checks of the origin of the images, which follow those of the metrics.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        The predictions break a rule of `check_predictions`.
    ConfigError
        The threshold, the number of resamples or the seed is out of its range.
    """
    _check_config(threshold, n_resamples, seed)
    table = check_predictions(frame)
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    prob = table["prob_malignant"].to_numpy(dtype=float)
    (tn, fp), (fn, tp) = confusion_counts(malignant, prob, threshold=threshold).astype(int).tolist()
    roc, pr = roc_curve(malignant, prob), pr_curve(malignant, prob)
    case = table["case"].to_numpy(dtype=str)
    metrics = estimate_metrics(table, threshold=threshold, n_resamples=n_resamples, seed=seed)
    cases = evaluate_cases(table, threshold=threshold, n_resamples=n_resamples, seed=seed)
    judged = metrics | ({RECOGNITION_RATE: cases.metrics[RECOGNITION_RATE]} if cases else {})
    known = table[table["case"] != ""]
    return EvaluationReport(
        protocol=protocol,
        has_leakage=bool(has_leakage),
        threshold=float(threshold),
        n_images=len(table),
        n_cases=known["case"].nunique(),
        n_benign_cases=known.loc[known["class"] == "benign", "case"].nunique(),
        n_malignant_cases=known.loc[known["class"] == "malignant", "case"].nunique(),
        malignant_proportion=float(malignant.mean()),
        confusion=((tn, fp), (fn, tp)),
        metrics=metrics,
        roc=None if roc is None else RocCurve(*(tuple(axis.tolist()) for axis in roc)),
        checks=(*check_metrics(table, judged, has_leakage=has_leakage, is_known=is_known), *checks),
        pr=None if pr is None else PrCurve(*(tuple(axis.tolist()) for axis in pr)),
        case_metrics=cases,
        subgroups=evaluate_subgroups(
            table, threshold=threshold, n_resamples=n_resamples, seed=seed
        ),
        calibration=measure_calibration(malignant, prob, case, seed=seed),
        predictions=table,
    )


def _check_config(threshold: float, n_resamples: int, seed: int) -> None:
    # Written so that NaN fails as well.
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(
            f"threshold must lie between 0 and 1, but it is {threshold}: choose a probability."
        )
    if n_resamples < _MIN_RESAMPLES:
        raise ConfigError(
            f"n_resamples must be at least {_MIN_RESAMPLES}, since fewer do not show the tails of "
            f"an interval, but it is {n_resamples}: 2000 is usual."
        )
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, but it is {seed}: choose another number.")


_KEPT = ("path", "sha256", "case", "class", "magnification", "subtype")


def evaluate_split(
    engine: Engine,
    root: Path,
    split: pd.DataFrame,
    *,
    subset: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Predict every picture of a part and compute the figures.

    Parameters
    ----------
    engine : Engine
    root : Path
        Folder that the split's paths are relative to.
    split : DataFrame
        As `bc_model.data.splits.make_split` returns it.
    part : {'test', 'validation', 'train'}
        Any but 'test' is reported as leaky: the model was made from it.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Returns
    -------
    Report
        Marked as leaky when the protocol is, or when the model learned from, or was chosen by,
        a picture or case of this part.

    Raises
    ------
    SplitError
        The part is empty.
    """
    rows = split[split["subset"] == subset].reset_index(drop=True)
    if rows.empty:
        raise SplitError(f"The split has no {subset} part; there is nothing to evaluate.")
    known = find_seen_images(engine.bundle, rows)
    predicted = predict_files(engine, root, list(rows["path"]), progress=progress)
    predictions = join_predictions(rows, predicted, engine.bundle.temperature)
    protocol = str(rows["protocol"].iloc[0])
    data, checks = engine.bundle.card.data, known.checks
    if not known.number:
        checks = [check for check in checks if check == UNKNOWN_INITIALIZATION]
    if data.has_initialization_leakage:
        checks = [make_check("BC211"), *checks]
    return evaluate_predictions(
        predictions,
        threshold=engine.bundle.threshold,
        protocol=protocol if subset == "test" else f"{protocol}, {subset} part",
        has_leakage=protocol in PROTOCOLS_WITH_LEAKAGE
        or data.has_leakage
        or known.number > 0
        or subset != "test",
        is_known=known.is_certain,
        checks=checks,
    )


def join_predictions(rows: pd.DataFrame, predicted: Predicted, temperature: float) -> pd.DataFrame:
    """Return the table of predictions for rows of a split or manifest.

    Returns
    -------
    pandas.DataFrame
        As `check_predictions` describes it, with the subtype where `rows` has one, and ``logit``:
        malignant minus benign, before temperature.
    """
    table = rows[[name for name in _KEPT if name in rows]].reset_index(drop=True)
    return table.assign(
        prob_malignant=prob_malignant(predicted.logits, temperature), logit=predicted.margin
    )
