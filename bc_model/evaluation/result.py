"""What one evaluation found, as data: it goes to a dictionary and back without loss.

Computing it is the work of `report`, keeping it on disk that of `store`.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bc_model.checks import Check
from bc_model.errors import DataError
from bc_model.evaluation.by_case import ByCase, Confusion
from bc_model.evaluation.by_group import Group
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.metrics import METRICS
from bc_model.evaluation.reliability import Reliability
from bc_model.evaluation.shift import Shift

_FORMAT = "bc_model evaluation report, version 3"
_CURVES = ("roc", "pr", "calibration")


@dataclass(frozen=True)
class RocCurve:
    """Corners of a ROC curve from (0, 0) to (1, 1); the first threshold is infinite."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    threshold: tuple[float, ...]

    def as_dict(self) -> dict[str, list[float | None]]:
        """Return plain lists; JSON has no infinity, so an infinite threshold is None."""
        return {
            "fpr": list(self.fpr),
            "tpr": list(self.tpr),
            "threshold": [t if math.isfinite(t) else None for t in self.threshold],
        }

    @classmethod
    def from_dict(cls, data: dict[str, list[float | None]]) -> "RocCurve":
        """Undo `as_dict`."""
        fpr, tpr = ([float(v) for v in data[k] if v is not None] for k in ("fpr", "tpr"))
        threshold = [math.inf if t is None else float(t) for t in data["threshold"]]
        if not len(fpr) == len(tpr) == len(threshold) >= 2:
            raise ValueError("the three lists of the ROC curve differ in length")
        return cls(tuple(fpr), tuple(tpr), tuple(threshold))


@dataclass(frozen=True)
class PrCurve:
    """Points of a precision-recall curve, from the highest cut-off to the lowest."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]
    threshold: tuple[float, ...]

    def as_dict(self) -> dict[str, list[float]]:
        """Return plain lists."""
        return {name: list(axis) for name, axis in vars(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, list[float]]) -> "PrCurve":
        """Undo `as_dict`."""
        axes = [tuple(map(float, data[k])) for k in ("recall", "precision", "threshold")]
        if len(set(map(len, axes))) != 1:
            raise ValueError("the three lists of the precision-recall curve differ in length")
        return cls(*axes)


@dataclass(frozen=True)
class Report:
    """What one evaluation found.

    Parameters
    ----------
    protocol : str
        How the test pictures were chosen, such as 'case' or 'image'.
    leaky : bool
        Whether that protocol lets pictures of one case stand in training and test.
    threshold : float
        A picture is called malignant at this probability or above.
    n : int
        Pictures.
    n_cases, n_benign_cases, n_malignant_cases : int
        Known cases; a case with pictures of both classes counts in both.
    base_rate : float
        Share of malignant pictures, which is the accuracy of always answering 'malignant'.
    confusion : tuple of two pairs of int
        Rows are the truth, columns the verdict, each in the order benign, malignant.
    figures : dict of str to Figure
        Keys as in `metrics.METRICS`.
    roc : RocCurve or None
        None when only one class is present.
    checks : tuple of Check
        Checks of the metrics, then of the origin of the images; the most serious first.
    calibration : Reliability
    pr : PrCurve or None
        None when only one class is present.
    by_case : ByCase or None
        None when no case is known, or all have pictures of both classes.
    groups : tuple of Group
        See `by_group`.
    shift : Shift or None
        How far they are from what the model knows; only of another set.
    predictions : pandas.DataFrame or None
        The checked table; None in a report made by `from_dict`.
    """

    protocol: str
    leaky: bool
    threshold: float
    n: int
    n_cases: int
    n_benign_cases: int
    n_malignant_cases: int
    base_rate: float
    confusion: Confusion
    figures: dict[str, Figure]
    roc: RocCurve | None
    checks: tuple[Check, ...]
    calibration: Reliability
    pr: PrCurve | None = None
    by_case: ByCase | None = None
    groups: tuple[Group, ...] = ()
    shift: Shift | None = None
    predictions: pd.DataFrame | None = field(default=None, compare=False, repr=False)

    @property
    def always_malignant_accuracy(self) -> float:
        """Accuracy of calling every picture malignant, in [0, 1]: show it beside accuracy."""
        return self.base_rate

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the predictions as plain values that JSON can hold."""
        shown = {name: value for name, value in vars(self).items() if name != "predictions"}
        return {
            "format": _FORMAT,
            **shown,
            "always_malignant_accuracy": self.always_malignant_accuracy,
            "confusion": [list(row) for row in self.confusion],
            "figures": _dicts(self.figures),
            "roc": None if self.roc is None else self.roc.as_dict(),
            "checks": [check.as_dict() for check in self.checks],
            "pr": None if self.pr is None else self.pr.as_dict(),
            "by_case": None if self.by_case is None else self.by_case.as_dict(),
            "groups": [group.as_dict() for group in self.groups],
            "calibration": self.calibration.as_dict(),
            "shift": None if self.shift is None else self.shift.as_dict(),
        }

    def summary(self) -> dict[str, Any]:
        """Return `as_dict` without the curves: what a passport keeps."""
        return {name: value for name, value in self.as_dict().items() if name not in _CURVES}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Report":
        """Undo `as_dict`; the predictions are not in it.

        Raises
        ------
        DataError
            The dictionary is no such report: a part is missing, or two parts contradict.
        """
        try:
            return _report_from_dict(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"An evaluation report should be a dictionary made by as_dict, but this one does "
                f"not fit ({type(error).__name__}: {error}): evaluate again."
            ) from error

    def write(self, folder: str | Path) -> None:
        """Write ``predictions.csv`` and, last, ``report.json``.

        All or none: they are replaced once every one is on the disk. `report.json` comes last, so
        a folder that has a new one has everything that belongs to it.

        Parameters
        ----------
        folder : str or Path
            Made when missing.

        Raises
        ------
        RunError
            The report has no predictions, or the folder cannot be written.
        """
        # The store imports this module.
        from bc_model.evaluation.store import write_report

        write_report(self, folder)


def _dicts(figures: dict[str, Figure]) -> dict[str, dict[str, Any]]:
    return {name: figure.as_dict() for name, figure in figures.items()}


def _figures(data: dict[str, Any]) -> dict[str, Figure]:
    return {name: Figure(**figure) for name, figure in data.items()}


def _report_from_dict(data: dict[str, Any]) -> Report:
    if data["format"] != _FORMAT:
        raise ValueError(f"its format is {data['format']!r}, not {_FORMAT!r}")
    if not isinstance(data["leaky"], bool):
        raise ValueError("leaky is not true or false")
    if tuple(data["figures"]) != METRICS:
        raise ValueError(f"the figures are {list(data['figures'])}, not {list(METRICS)}")
    (tn, fp), (fn, tp) = data["confusion"]
    report = Report(
        protocol=str(data["protocol"]),
        leaky=data["leaky"],
        threshold=float(data["threshold"]),
        n=int(data["n"]),
        n_cases=int(data["n_cases"]),
        n_benign_cases=int(data["n_benign_cases"]),
        n_malignant_cases=int(data["n_malignant_cases"]),
        base_rate=float(data["base_rate"]),
        confusion=((int(tn), int(fp)), (int(fn), int(tp))),
        figures=_figures(data["figures"]),
        roc=None if data["roc"] is None else RocCurve.from_dict(data["roc"]),
        checks=tuple(map(Check.from_dict, data["checks"])),
        calibration=Reliability.from_dict(data["calibration"]),
        pr=None if data["pr"] is None else PrCurve.from_dict(data["pr"]),
        by_case=None if data["by_case"] is None else ByCase.from_dict(data["by_case"]),
        groups=tuple(Group.from_dict(group) for group in data["groups"]),
        shift=None if data["shift"] is None else Shift.from_dict(data["shift"]),
    )
    if sum(map(sum, report.confusion)) != report.n:
        raise ValueError("the confusion counts do not add up to n")
    return report
