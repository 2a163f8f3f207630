"""The folder of a report on disk: written whole, read back with its predictions.

Files: ``report.json``, ``predictions.csv``.
"""

from dataclasses import replace
from pathlib import Path

from bc_model.errors import RunError
from bc_model.evaluation.metrics import confusion_counts
from bc_model.evaluation.predictions import predictions_to_csv, read_predictions
from bc_model.evaluation.result import Report
from bc_model.files import write_together
from bc_model.utils.serialization import dumps, read_record


def write_report(report: Report, folder: str | Path) -> None:
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


def report_files(report: Report, folder: Path) -> dict[Path, bytes]:
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


def report_json(report: Report) -> str:
    """Return every figure with interval and curve points as JSON text."""
    return dumps(report)


def read_report(folder: str | Path) -> Report:
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
        report = read_record(path, Report)
        predictions = read_predictions(path.with_name("predictions.csv"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"An evaluation folder holds report.json and predictions.csv, but '{error.filename}' "
            f"is missing: {make_anew(folder)}."
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"'{folder}' should hold an evaluation report, but it cannot be read ({error}): "
            f"{make_anew(folder)}."
        ) from error
    counts = confusion_counts(
        predictions["class"] == "malignant",
        predictions["prob_malignant"],
        threshold=report.threshold,
    )
    if counts.astype(int).tolist() != [list(row) for row in report.confusion]:
        raise RunError(
            f"report.json and predictions.csv in '{folder}' should come from one evaluation, but "
            f"their counts differ: {make_anew(folder)}."
        )
    return replace(report, predictions=predictions)


def make_anew(folder: str | Path) -> str:
    """Return what to do about a lost evaluation: nothing looks for it elsewhere."""
    return f"make it anew with `evaluate RUN DATA --out {folder}`"
