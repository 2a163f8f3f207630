"""The report of a run as the pages show it, and what changes when it is written anew."""

import streamlit as st

from bc_model.evaluation.report import Report, evaluate_predictions, read_report
from bc_model.training.run_folder import RunFolder

_FILES = ("report.json", "predictions.csv", "validation_predictions.csv")


def stamp_of(run: RunFolder) -> tuple[int, ...]:
    """Return what changes when a run is evaluated again, so that no old answer is shown."""
    files = [run.evaluation_folder / name for name in _FILES]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)


def report_of(run: RunFolder) -> Report:
    """Read the report of a run; one of an earlier version is completed from its predictions.

    Raises
    ------
    RunError
        It is missing or damaged.
    """
    report = read_report(run.evaluation_folder)
    return report if report.calibration else _complete(str(run.path), stamp_of(run), report)


@st.cache_data(max_entries=8, show_spinner="Adding what this older report lacks")
def _complete(path: str, stamp: tuple[int, ...], _report: Report) -> Report:
    assert _report.predictions is not None, "read_report reads the predictions or fails"
    return evaluate_predictions(
        _report.predictions,
        threshold=_report.threshold,
        protocol=_report.protocol,
        leaky=_report.leaky,
        notes=_report.notes,
    )
