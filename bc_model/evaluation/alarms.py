"""Sentences that stand above the figures of a report when a reader might be misled by them.

They never change a figure and never stop an evaluation.
"""

from collections.abc import Mapping

import pandas as pd

from bc_model.evaluation.by_case import RECOGNITION
from bc_model.evaluation.intervals import Figure

# Published results with cases kept apart end below this; what is above it has turned out to leak.
TOO_GOOD = 0.97
JUDGED = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    RECOGNITION: "recognition rate",
}
"""An alarm is raised when one of these is too good; either rate alone can be had for the other."""
FEW_CASES = 10


def alarms(
    predictions: pd.DataFrame,
    figures: Mapping[str, Figure],
    *,
    leaky: bool,
    is_known: bool = False,
    base_rate: float | None = None,
) -> list[str]:
    """Return what a reader must know before believing the figures, the gravest first.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As `check_predictions` returns it.
    figures : mapping of str to Figure
        As `estimate_figures` returns it, with the recognition rate where a case is known.
    leaky : bool
        Whether the protocol lets pictures of one case stand in training and test, or the model
        knows some of these pictures.
    is_known : bool
        Whether that is certain.
    base_rate : float, optional
        Accuracy of always answering 'malignant', averaged as the figures are; default is that of
        `predictions`.

    Returns
    -------
    list of str
        Plain sentences; empty when there is nothing to say.
    """
    found = []
    if is_known:
        found.append(
            "The model was made from pictures of these cases, or from these very pictures; figures "
            "over all of them flatter."
        )
    elif leaky:
        found.append(
            "Leaky protocol: the model may have been made from pictures of these cases, or from "
            "these very pictures; this figure flatters as far as it was."
        )
    found += _alarm(figures)
    if base_rate is None:
        base_rate = float((predictions["class"] == "malignant").mean())
    found += _no_better_than_guessing(base_rate, figures["accuracy"].value)
    found += _wrong_way_round(figures.get("roc_auc"))
    found += _cases(predictions)
    found += _twins(predictions)
    return found


def too_good(figures: Mapping[str, Figure]) -> tuple[str, ...]:
    """Return those of `JUDGED` that are better than honest results."""
    return tuple(
        name for name in JUDGED if name in figures and (figures[name].value or 0.0) > TOO_GOOD
    )


def _alarm(figures: Mapping[str, Figure]) -> list[str]:
    high = [f"{JUDGED[name]} {figures[name].value:.3f}" for name in too_good(figures)]
    if not high:
        return []
    all_but_last = f"{', '.join(high[:-1])} and " if high[1:] else ""
    return [
        f"Alarm: {all_but_last}{high[-1]} above {TOO_GOOD}, better than honest results on such "
        "pictures: check for leaks (one case, or the same picture, in training and test) before "
        "you believe it."
    ]


def _no_better_than_guessing(base_rate: float, value: float | None) -> list[str]:
    # With one class only there is nothing to tell apart, which `_cases` says already.
    if value is None or base_rate in (0.0, 1.0) or value > max(base_rate, 1 - base_rate):
        return []
    common = "malignant" if base_rate >= 0.5 else "benign"
    return [
        f"Accuracy {value:.3f} is no better than always answering {common}, which is right "
        f"{max(base_rate, 1 - base_rate):.3f} of the time."
    ]


def _wrong_way_round(area: Figure | None) -> list[str]:
    if area is None or area.high is None or area.high >= 0.5:
        return []
    return [
        f"ROC AUC {area.value:.3f}, and its whole interval lies below 0.5: benign pictures rank "
        "above malignant ones."
    ]


def _cases(predictions: pd.DataFrame) -> list[str]:
    found = []
    known = predictions[predictions["case"] != ""]
    n, n_unknown = len(predictions), len(predictions) - len(known)
    for name in ("benign", "malignant"):
        if not (predictions["class"] == name).any():
            found.append(f"There is no {name} picture, so some figures are not defined.")
            continue
        n_cases = known.loc[known["class"] == name, "case"].nunique()
        if n_unknown == 0 and n_cases < FEW_CASES:
            cases = "case" if n_cases == 1 else "cases"
            found.append(
                f"Only {n_cases} {name} {cases}: figures from fewer than {FEW_CASES} cases of a "
                "class say little about new patients."
            )
    if n_unknown:
        found.append(
            f"The case is unknown for {n_unknown} of {n} pictures: leaks cannot be ruled out and "
            "the intervals are too narrow."
        )
    mixed = known.groupby("case")["class"].nunique()
    names = mixed.index[mixed > 1]
    if len(names):
        found.append(
            f"Case {names[0]} has benign and malignant pictures ({len(names)} such in all): its "
            "two parts are drawn apart in the intervals; check the labels."
        )
    return found


def _twins(predictions: pd.DataFrame) -> list[str]:
    hashes = predictions.loc[predictions["sha256"] != "", "sha256"]
    n_twins = int(hashes.duplicated().sum())
    if n_twins == 0:
        return []
    return [f"The same file comes under several paths: {n_twins} pictures count more than once."]
