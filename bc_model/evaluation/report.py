"""The evaluation report: the result of one evaluation, and its files.

`bc_model.evaluation.evaluate` computes it; `bc_model.reporting` renders it.
"""

import math
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import pandas as pd

from bc_model.checks import Check
from bc_model.errors import ConfigError, RunError
from bc_model.evaluation.calibration import CalibrationResult
from bc_model.evaluation.domain_shift import DomainShift
from bc_model.evaluation.metrics import METRICS, confusion_counts
from bc_model.evaluation.predictions import predictions_to_csv, read_predictions
from bc_model.evaluation.subgroups import CaseMetrics, Confusion, Subgroup
from bc_model.inference.model_card import EvaluationSummary, SubgroupResult
from bc_model.utils.io import write_files_atomic
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import dumps, read_record

REPORT_FILE, PREDICTIONS_FILE = "report.json", "predictions.csv"
EVALUATE_AGAIN = "Evaluate the model again"


@dataclass(frozen=True)
class RocCurve:
    """Corners of a ROC curve from (0, 0) to (1, 1); the first threshold is infinite."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    # JSON has no infinity.
    threshold: tuple[float, ...] = field(metadata={"null_means": math.inf})

    def __post_init__(self) -> None:
        if not len(self.fpr) == len(self.tpr) == len(self.threshold) >= 2:
            raise ValueError("roc: expected three lists of one length, at least 2")


@dataclass(frozen=True)
class PrCurve:
    """Points of a precision-recall curve, from the highest threshold to the lowest."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]
    threshold: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.recall) == len(self.precision) == len(self.threshold):
            raise ValueError("pr: expected three lists of one length")


@dataclass(frozen=True)
class ExcludedImage:
    """An image that the input checks blocked, with the codes of all its failed checks."""

    path: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationReport:
    """The result of one evaluation.

    Attributes
    ----------
    protocol : str
        Split protocol of the images, such as 'case' or 'image'.
    has_leakage : bool
        Whether images of one case can be in the training and in the evaluated images.
    threshold : float
        Lowest probability at which an image is predicted malignant.
    n_images : int
        Number of images.
    n_cases, n_benign_cases, n_malignant_cases : int
        Numbers of known cases. A case with images of both classes counts in both classes.
    malignant_proportion : float
        Proportion of malignant images: the accuracy of always predicting malignant.
    confusion : tuple of two pairs of int
        Rows: true class; columns: predicted class; order: benign, malignant.
    metrics : dict of str to Metric
        Metrics by image. Keys: `bc_model.evaluation.metrics.METRICS`.
    roc : RocCurve or None
        None if a class is missing.
    checks : tuple of Check
        Checks of the metrics, then of the origin of the images, each in order of severity.
    calibration : CalibrationResult
        Calibration of the probabilities.
    pr : PrCurve or None
        None if a class is missing.
    case_metrics : CaseMetrics or None
        Metrics by case. None if no case is known and of one class.
    subgroups : tuple of Subgroup
        Metrics of parts of the images, see `evaluate_subgroups`.
    excluded : tuple of ExcludedImage
        Images that the input checks blocked. They are not part of the metrics.
    domain_shift : DomainShift or None
        Difference from the training data; only for an external dataset.
    predictions : pandas.DataFrame or None
        Result of `check_predictions`. None in a report without its CSV file.
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
    excluded: tuple[ExcludedImage, ...] = ()
    predictions: pd.DataFrame | None = field(
        default=None, compare=False, repr=False, metadata={"json": False}
    )

    def __post_init__(self) -> None:
        if tuple(self.metrics) != METRICS:
            raise ValueError(f"metrics: expected the keys {METRICS}, got {tuple(self.metrics)}")
        if (total := sum(map(sum, self.confusion))) != self.n_images:
            raise ValueError(f"confusion: expected a sum of {self.n_images} images, got {total}")
        self.summary()  # A report whose summary no model card can contain is damaged.

    def summary(self) -> EvaluationSummary:
        """Return the metrics without the curves, for a model card."""
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

    def save(self, directory: str | Path) -> None:
        """Write ``predictions.csv`` and ``report.json`` together.

        The directory is created if it is missing. The files are replaced when both are complete,
        ``report.json`` last, so that a new one always has its predictions.

        Raises
        ------
        RunError
            The report has no predictions, or the directory cannot be written.
        """
        directory = Path(directory)
        files = report_files(self, directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_files_atomic(files)
        except OSError as error:
            raise RunError(
                f"Cannot write the report. Expected a writable directory, got '{directory}' "
                f"({error.strerror or error}). Choose another directory."
            ) from error

    def to_html(self, path: str | Path) -> None:
        """Write the report as an HTML file; the file name must end with ``.html``."""
        self._render(Path(path), ".html")

    def to_pdf(self, path: str | Path) -> None:
        """Write the report as a PDF file; the file name must end with ``.pdf``."""
        self._render(Path(path), ".pdf")

    def _render(self, path: Path, suffix: str) -> None:
        if path.suffix.lower() != suffix:
            raise ConfigError(
                f"Invalid file name. Expected the suffix {suffix}, got '{path.name}'. Rename it."
            )
        # The reporting package is a layer above, so only the public facade is used, at call time.
        import_module("bc_model").save_report(self, path)


def report_files(report: EvaluationReport, directory: Path) -> dict[Path, bytes]:
    """Return the content of each file of a report, in the order of writing."""
    return {
        directory / PREDICTIONS_FILE: predictions_to_csv(require_predictions(report)).encode(),
        directory / REPORT_FILE: report_json(report).encode(),
    }


def require_predictions(report: EvaluationReport) -> pd.DataFrame:
    """Return the predictions of a report."""
    if report.predictions is None:
        raise RunError(
            "The report has no predictions. Expected a report from an evaluation or from "
            f"read_report. {EVALUATE_AGAIN}."
        )
    return report.predictions


def report_json(report: EvaluationReport) -> str:
    """Return a report as JSON text, without its predictions."""
    return dumps(report)


def read_report(directory: str | Path) -> EvaluationReport:
    """Return the report in a directory, with its predictions.

    Parameters
    ----------
    directory : str or Path
        Directory of `EvaluationReport.save`.

    Raises
    ------
    RunError
        A file is missing or damaged, or the files are from different evaluations.
    """
    path = Path(directory) / REPORT_FILE
    try:
        report = read_record(path, EvaluationReport)
        predictions = read_predictions(path.with_name(PREDICTIONS_FILE))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"Missing file '{error.filename}'. Expected {REPORT_FILE} and {PREDICTIONS_FILE} in "
            f"'{directory}'. {EVALUATE_AGAIN}."
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"Cannot read the evaluation report in '{directory}': {error}. {EVALUATE_AGAIN}."
        ) from error
    counts = confusion_counts(
        predictions["class"] == "malignant",
        predictions["prob_malignant"],
        threshold=report.threshold,
    )
    if counts.astype(int).tolist() != [list(row) for row in report.confusion]:
        raise RunError(
            f"Inconsistent files in '{directory}'. Expected {REPORT_FILE} and {PREDICTIONS_FILE} "
            f"of one evaluation, got different counts. {EVALUATE_AGAIN}."
        )
    return replace(report, predictions=predictions)
