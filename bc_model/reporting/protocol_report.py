"""The files of a protocol comparison.

They are ``report.json``, ``metrics.csv``, ``report.md``, ``protocols.png`` and ``protocols.svg``.
"""

from pathlib import Path

import pandas as pd

from bc_model.errors import RunError
from bc_model.evaluation.checks import MAX_PLAUSIBLE
from bc_model.evaluation.metrics import majority_baseline
from bc_model.evaluation.published_results import PUBLISHED_RESULTS
from bc_model.experiments.protocols import REPORTED_METRICS, ProtocolComparison, ProtocolRow
from bc_model.reporting.html import render
from bc_model.utils.csv_table import table_to_csv
from bc_model.utils.io import write_bytes_atomic
from bc_model.utils.serialization import dumps

_COLUMNS = (
    "protocol", "has_leakage", "test_data", "runs_done", "runs", "metric", "value", "ci_low",
    "ci_high", "lowest_file", "highest_file", "n_images", "n_cases", "malignant_proportion",
    "is_implausible", "method", "note",
)  # fmt: skip


def write_protocols(report: ProtocolComparison, folder: str | Path) -> None:
    """Write each file of a protocol comparison atomically, ``report.json`` last.

    Parameters
    ----------
    report : ProtocolComparison
        The comparison. It can be partial; its files then state this.
    folder : str or Path
        The folder for the files, created if it is missing.

    Raises
    ------
    RunError
        The files cannot be written.
    """
    # Matplotlib takes a while to load, and the other functions do not need it.
    from bc_model.reporting.plots import figure_to_png, figure_to_svg, plot_protocols

    target = Path(folder)
    figure = plot_protocols(report)
    files = {
        "protocols.png": figure_to_png(figure),
        "protocols.svg": figure_to_svg(figure),
        "metrics.csv": protocols_to_csv(report).encode(),
        "report.md": protocols_to_markdown(report).encode(),
        "report.json": protocols_to_json(report).encode(),
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_bytes_atomic(target / name, data)
    except OSError as error:
        raise RunError(
            f"The report cannot be written. Expected a writable folder, got '{target}' "
            f"({error.strerror or error}). Choose another folder."
        ) from error


def protocols_to_json(report: ProtocolComparison) -> str:
    """Return a protocol comparison as JSON text."""
    return dumps(report)


def protocols_to_csv(report: ProtocolComparison) -> str:
    """Return a protocol comparison as CSV text with one line per protocol and metric."""
    lines = []
    for row in report.rows:
        common = {
            "protocol": row.protocol, "has_leakage": str(row.has_leakage).lower(),
            "test_data": row.test_data, "runs_done": row.n_done, "runs": len(row.runs),
        }  # fmt: skip
        if not row.metrics:
            lines.append({**common, "note": " ".join(check.message for check in row.checks)})
        for name, metric in row.metrics.items():
            spread = row.spread.get(name)
            lines.append(
                {
                    **common, "metric": name, "value": metric.value, "ci_low": metric.ci_low,
                    "ci_high": metric.ci_high, "lowest_file": spread.minimum if spread else "",
                    "highest_file": spread.maximum if spread else "",
                    "n_images": metric.n_images, "n_cases": metric.n_cases or "",
                    "malignant_proportion": row.malignant_proportion,
                    "is_implausible": str(name in row.implausible).lower(),
                    "method": metric.method, "note": metric.note,
                }
            )  # fmt: skip
    # As objects, integers stay integers in columns with missing values.
    return table_to_csv(pd.DataFrame(lines, columns=list(_COLUMNS), dtype=object))


def protocols_to_markdown(report: ProtocolComparison) -> str:
    """Return a protocol comparison as Markdown that shows ``protocols.png``."""
    config = ", ".join(
        f"{key} {_format_setting(value)}" for key, value in report.config.items() if key != "data"
    )
    return render(
        "protocols.md.j2", report=report, config=config, metrics=REPORTED_METRICS,
        max_plausible=MAX_PLAUSIBLE, published=PUBLISHED_RESULTS, metric_cell=format_metric_cell,
        support_cell=_format_support_cell, leakage_cell=format_leakage_cell,
        baseline_cell=format_baseline_cell,
    )  # fmt: skip


def format_metric_cell(row: ProtocolRow, name: str) -> str:
    """Return the table cell of one metric of a protocol; '-' while it is missing."""
    metric = row.metrics.get(name)
    if metric is None:
        return "-"
    text = metric.brief()
    if metric.value is not None and (spread := row.spread.get(name)):
        text += f", files {spread.minimum:.3f} to {spread.maximum:.3f}"
    return text + (" WARNING" if name in row.implausible else "")


def format_baseline_cell(row: ProtocolRow) -> str:
    """Return the table cell of the accuracy of always predicting the majority class."""
    if row.malignant_proportion is None:
        return "-"
    return f"{majority_baseline(row.malignant_proportion)[1]:.3f}"


def format_leakage_cell(row: ProtocolRow) -> str:
    """Return the table cell of the proportion of test images with their case in training."""
    if row.case_overlap is None:
        return "-"
    proportion = row.case_overlap.proportion
    return "unknown" if proportion is None else f"{proportion:.0%}"


def _format_support_cell(row: ProtocolRow) -> str:
    if not row.metrics:
        return "-"
    if not row.n_cases:
        return f"{row.n_images:,} images, cases unknown"
    classes = f"{row.n_benign_cases} benign, {row.n_malignant_cases} malignant"
    return f"{row.n_images:,} images, {row.n_cases} cases ({classes})"


def _format_setting(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return "default" if value is None else str(value)
