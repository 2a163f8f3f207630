"""Figures of parts of the pictures: where the model is good, and where it is not."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from bc_model.data.names import CLASSES, UNKNOWN_SUBTYPE, parse_name
from bc_model.evaluation.by_case import Confusion
from bc_model.evaluation.estimate import estimate_figures
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.metrics import confusion_counts

GROUP_FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "roc_auc")
NOT_STATED = "not stated"
NOT_KNOWN = "not known to the model"


@dataclass(frozen=True)
class Group:
    """What one evaluation found for some of its pictures.

    Attributes
    ----------
    kind : {'known', 'magnification', 'subtype'}
    name : str
        Such as '40X' or 'tubular adenoma'.
    n, n_cases : int
        Pictures, and known cases among them.
    base_rate : float
        Share of malignant pictures; a subtype has 0 or 1.
    confusion : tuple of two pairs of int
        Rows are the truth, columns the verdict.
    figures : dict of str to Figure
        Keys as in `GROUP_FIGURES`.
    """

    kind: str
    name: str
    n: int
    n_cases: int
    base_rate: float
    confusion: Confusion
    figures: dict[str, Figure]


def by_group(
    predictions: pd.DataFrame, *, threshold: float, n_resamples: int, seed: int
) -> tuple[Group, ...]:
    """Compute the figures of what a model knows and does not, of magnifications and subtypes.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As `check_predictions` returns it; ``known``, bool, may say which of them the
        model knows.
    threshold, n_resamples, seed
        As for `estimate_figures`.

    Returns
    -------
    tuple of Group
        Pictures that it does not know before those it knows, where there are both; magnifications
        from the smallest; subtypes, benign ones first. A kind that nothing is known of is left out.
    """
    return tuple(
        _group(kind, name, rows, threshold, n_resamples, seed)
        for kind, parts in (
            ("known", _known_or_not(predictions)),
            ("magnification", _by_magnification(predictions)),
            ("subtype", _by_subtype(predictions)),
        )
        # Of one part that nothing is known of, the figures are those of the whole.
        if list(parts) != [NOT_STATED]
        for name, rows in parts.items()
    )


def subtypes(predictions: pd.DataFrame) -> pd.Series:
    """Return the subtype of each picture: of its column, else of its official name."""
    if "subtype" in predictions:
        return predictions["subtype"].astype(str)
    names = [parse_name(PurePosixPath(path).name) for path in predictions["path"]]
    found = [UNKNOWN_SUBTYPE if name is None else name.subtype for name in names]
    return pd.Series(found, index=predictions.index, dtype="str")


def _known_or_not(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    known = predictions.get("known")
    if known is None or known.dtype != bool or known.nunique() < 2:
        return {}
    return {NOT_KNOWN: predictions[~known], "known to the model": predictions[known]}


def _by_magnification(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    known = predictions["magnification"].dropna()
    parts = {
        f"{number}X": predictions[predictions["magnification"] == number]
        for number in sorted(known.unique())
    }
    rest = predictions[predictions["magnification"].isna()]
    return parts | ({NOT_STATED: rest} if len(rest) else {})


def _by_subtype(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    names = subtypes(predictions).str.replace("_", " ")
    stated = (names != UNKNOWN_SUBTYPE) & (names != "")
    parts = {}
    for class_name in CLASSES:
        of_class = stated & (predictions["class"] == class_name)
        for name in sorted(names[of_class].unique()):
            parts[name] = predictions[of_class & (names == name)]
    return parts | ({NOT_STATED: predictions[~stated]} if not stated.all() else {})


def _group(
    kind: str, name: str, rows: pd.DataFrame, threshold: float, n_resamples: int, seed: int
) -> Group:
    malignant = (rows["class"] == "malignant").to_numpy(dtype=bool)
    counts = confusion_counts(malignant, rows["prob_malignant"], threshold=threshold)
    (tn, fp), (fn, tp) = counts.astype(int).tolist()
    return Group(
        kind=kind,
        name=name,
        n=len(rows),
        n_cases=rows.loc[rows["case"] != "", "case"].nunique(),
        base_rate=float(malignant.mean()),
        confusion=((tn, fp), (fn, tp)),
        figures=estimate_figures(
            rows, threshold=threshold, n_resamples=n_resamples, seed=seed, names=GROUP_FIGURES
        ),
    )
