"""The result of one evaluation, as a record.

Computing it is the work of `report`, keeping it on disk that of `store`.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from bc_model.checks import Check
from bc_model.errors import RunError
from bc_model.evaluation.calibration import CalibrationResult
from bc_model.evaluation.domain_shift import DomainShift
from bc_model.evaluation.metrics import METRICS, confusion_counts
from bc_model.evaluation.predictions import predictions_to_csv, read_predictions
from bc_model.evaluation.subgroups import CaseMetrics, Confusion, Subgroup
from bc_model.inference.model_card import EvaluationSummary, SubgroupResult
from bc_model.utils.io import write_together
from bc_model.utils.metric import Metric
from bc_model.utils.serialization import dumps, read_record


@dataclass(frozen=True)
class RocCurve:
    """Corners of a ROC curve from (0, 0) to (1, 1); the first threshold is infinite."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    # JSON has no infinity.
    threshold: tuple[float, ...] = field(metadata={"null_means": math.inf})

    def __post_init__(self) -> None:
        if not len(self.fpr) == len(self.tpr) == len(self.threshold) >= 2:
            raise ValueError("the three lists of the ROC curve differ in length")


@dataclass(frozen=True)
class PrCurve:
    """Points of a precision-recall curve, from the highest cut-off to the lowest."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]
    threshold: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.recall) == len(self.precision) == len(self.threshold):
            raise ValueError("the three lists of the precision-recall curve differ in length")


@dataclass(frozen=True)
class EvaluationReport:
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
    malignant_proportion : float
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
    by_case : CaseMetrics or None
        None when no case is known, or all have pictures of both classes.
    groups : tuple of Group
        See `by_group`.
    shift : Shift or None
        How far they are from what the model knows; only of another set.
    predictions : pandas.DataFrame or None
        The checked table; None in a report that was read from JSON.
    """

    SCHEMA_VERSION: ClassVar[int] = 3

    protocol: str
    has_leakage: bool
    threshold: float
    n_images: int
    n_cases: int
    n_benign_cases: int
    n_malignant_cases: int
    malignant_proportion: float
    confusion: Confusion
    metrics: dict[str, Metric]
    roc: RocCurve | None
    checks: tuple[Check, ...]
    calibration: CalibrationResult
    pr: PrCurve | None = None
    case_metrics: CaseMetrics | None = None
    subgroups: tuple[Subgroup, ...] = ()
    domain_shift: DomainShift | None = None
    predictions: pd.DataFrame | None = field(
        default=None, compare=False, repr=False, metadata={"json": False}
    )

    def __post_init__(self) -> None:
        if tuple(self.metrics) != METRICS:
            raise ValueError(f"the figures are {list(self.metrics)}, not {list(METRICS)}")
        if sum(map(sum, self.confusion)) != self.n_images:
            raise ValueError("the confusion counts do not add up to n")

    @property
    def always_malignant_accuracy(self) -> float:
        """Accuracy of calling every picture malignant, in [0, 1]: show it beside accuracy."""
        return self.malignant_proportion

    def summary(self) -> EvaluationSummary:
        """Return the metrics without the curves, as a model card contains them."""
        return EvaluationSummary(
            protocol=self.protocol,
            has_leakage=self.has_leakage,
            threshold=self.threshold,
            n_images=self.n_images,
            n_cases=self.n_cases,
            malignant_proportion=self.malignant_proportion,
            metrics=self.metrics,
            case_metrics=self.case_metrics.metrics if self.case_metrics else {},
            subgroups=tuple(
                SubgroupResult(group.kind, group.name, group.metrics) for group in self.subgroups
            ),
            checks=self.checks,
        )

    def save(self, folder: str | Path) -> None:
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

        write_report(self, folder)


def write_report(report: EvaluationReport, folder: str | Path) -> None:
    """Write a report; `Report.write` is the same and says what comes in which order.

    Raises
    ------
    RunError
        The report has no predictions, or the folder cannot be written.
    """
    target = Path(folder)
    files = report_files(report, target)
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_together(files)
    except OSError as error:
        raise RunError(
            f"The report should be written to '{target}', but that failed "
            f"({error.strerror or error}): choose a folder that can be written."
        ) from error


def report_files(report: EvaluationReport, folder: Path) -> dict[Path, bytes]:
    """Return what `write_report` writes, by place and in its order.

    Raises
    ------
    RunError
        The report has no predictions.
    """
    if report.predictions is None:
        raise RunError(
            "Writing a report needs its predictions, but this one was made from a summary "
            "without them: evaluate again or use read_report."
        )
    return {
        folder / "predictions.csv": predictions_to_csv(report.predictions).encode(),
        folder / "report.json": report_json(report).encode(),
    }


def report_json(report: EvaluationReport) -> str:
    """Return every figure with interval and curve points as JSON text."""
    return dumps(report)


def read_report(folder: str | Path) -> EvaluationReport:
    """Read back what `Report.write` wrote, with its predictions.

    Parameters
    ----------
    folder : str or Path
        Where the report was written.

    Returns
    -------
    Report

    Raises
    ------
    RunError
        A file is missing or damaged, or the predictions are not those of the report, as after a
        write that was cut short.
    """
    path = Path(folder) / "report.json"
    try:
        report = read_record(path, EvaluationReport)
        predictions = read_predictions(path.with_name("predictions.csv"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"An evaluation folder holds report.json and predictions.csv, but '{error.filename}' "
            f"is missing: {_recompute_hint(folder)}."
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"'{folder}' should hold an evaluation report, but it cannot be read ({error}): "
            f"{_recompute_hint(folder)}."
        ) from error
    counts = confusion_counts(
        predictions["class"] == "malignant",
        predictions["prob_malignant"],
        threshold=report.threshold,
    )
    if counts.astype(int).tolist() != [list(row) for row in report.confusion]:
        raise RunError(
            f"report.json and predictions.csv in '{folder}' should come from one evaluation, but "
            f"their counts differ: {_recompute_hint(folder)}."
        )
    return replace(report, predictions=predictions)


def _recompute_hint(folder: str | Path) -> str:
    """Return what to do about a lost evaluation: nothing looks for it elsewhere."""
    return f"make it anew with `evaluate RUN DATA --out {folder}`"
