"""The files of a protocol report: JSON, CSV, Markdown and a chart.

Files: ``report.json``, ``metrics.csv``, ``report.md``, ``protocols.png``, ``protocols.svg``.
"""

import csv
import io
from pathlib import Path

from bc_model.errors import RunError
from bc_model.evaluation.checks import TOO_GOOD
from bc_model.evaluation.published_results import PUBLISHED
from bc_model.experiments.protocols import REPORTED_METRICS, ProtocolComparison, ProtocolRow
from bc_model.utils.io import write_bytes_atomic, write_text_atomic
from bc_model.utils.serialization import dumps

_COLUMNS = (
    "protocol", "has_leakage", "rests_on", "runs_in", "runs", "figure", "value", "low", "high",
    "lowest_file", "highest_file", "n_images", "n_cases", "base_rate", "alarm", "method", "note",
)  # fmt: skip


def write_protocols(report: ProtocolComparison, folder: str | Path) -> None:
    """Write each file of a report atomically, ``report.json`` last.

    Parameters
    ----------
    report : ProtocolReport
        The report, which can be partial. Its files then state this.
    folder : str or Path
        The folder to write to, created if it is missing.

    Raises
    ------
    RunError
        The folder cannot be written.
    """
    # Matplotlib takes a while to load, and the texts below do not need it.
    from bc_model.reporting.plots import figure_to_png, figure_to_svg, plot_protocols

    target = Path(folder)
    metric = plot_protocols(report)
    images = {"protocols.png": figure_to_png(metric), "protocols.svg": figure_to_svg(metric)}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in images.items():
            write_bytes_atomic(target / name, data)
        write_text_atomic(target / "figures.csv", protocols_csv(report))
        write_text_atomic(target / "report.md", protocols_markdown(report))
        write_text_atomic(target / "report.json", protocols_json(report))
    except OSError as error:
        raise RunError(
            f"The report should be written to '{target}', but that failed "
            f"({error.strerror or error}): choose a folder that can be written."
        ) from error


def protocols_json(report: ProtocolComparison) -> str:
    """Return a report as JSON text."""
    return dumps(report)


def protocols_csv(report: ProtocolComparison) -> str:
    """Return a report as CSV text, with one line for each protocol and metric."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for row in report.rows:
        common = [
            row.protocol,
            str(row.has_leakage).lower(),
            row.test_data,
            row.n_done,
            len(row.runs),
        ]
        if not row.metrics:
            blank = [""] * (len(_COLUMNS) - len(common) - 1)
            lines.writerow([*common, *blank, " ".join(check.message for check in row.checks)])
        for name, metric in row.metrics.items():
            spread = row.spread.get(name)
            ends = [spread.low, spread.high] if spread else ["", ""]
            lines.writerow(
                [
                    *common, name, metric.value, metric.low, metric.high, *ends, metric.n,
                    metric.n_cases or "", row.malignant_proportion, str(name in row.implausible).lower(),
                    metric.method, metric.note,
                ]
            )  # fmt: skip
    return stream.getvalue()


def protocols_markdown(report: ProtocolComparison) -> str:
    """Return a report as a short Markdown text that shows its chart."""
    shown = {key: value for key, value in report.config.items() if key != "data"}
    config = ", ".join(f"{key} {_plain(value)}" for key, value in shown.items())
    lines = [
        f"# One configuration under {len(report.rows)} split protocols: {report.experiment}",
        "",
        "Research use only, not a diagnosis.",
        "",
        *(f"- **{check.message}**" for check in report.checks),
        *([""] if report.checks else []),
        "![Metrics by protocol, with published ranges](protocols.png)",
        "",
        *_table(report),
        "",
        _legend(report),
        "",
    ]
    if report.leakage_effects:
        lines += ["## Leakage effect", ""]
        lines += [*(f"- {gap.check.message}" for gap in report.leakage_effects), ""]
    notes = [f"- {row.label}: {check.message}" for row in report.rows for check in row.checks]
    if notes:
        lines += ["## Notes", "", *notes, ""]
    lines += ["## Published on BreakHis", ""]
    lines += [f"- {one.in_words()}" for one in PUBLISHED]
    lines += ["", "## Configuration", "", f"Data: `{report.config['data']}`. {config}.", ""]
    return "\n".join(lines)


def metric_cell(row: ProtocolRow, name: str) -> str:
    """Return the table cell of one metric of a protocol; '-' while it is missing."""
    metric = row.metrics.get(name)
    if metric is None:
        return "-"
    text = metric.brief()
    if metric.value is not None and (spread := row.spread.get(name)):
        text += f", files {spread.low:.3f} to {spread.high:.3f}"
    return text + (" WARNING" if name in row.implausible else "")


def shared_cell(row: ProtocolRow) -> str:
    """Return the table cell of the proportion of test images with their case in training."""
    if row.case_overlap is None:
        return "-"
    if row.case_overlap.proportion is None:
        return "unknown"
    return f"{row.case_overlap.proportion:.0%}"


def support_cell(row: ProtocolRow) -> str:
    """Return the table cell of the images and cases of a protocol."""
    if not row.metrics:
        return "-"
    if not row.n_cases:
        return f"{row.n_images:,} pictures, cases unknown"
    return (
        f"{row.n_images:,} pictures, {row.n_cases} cases ({row.n_benign_cases} benign, "
        f"{row.n_malignant_cases} malignant)"
    )


def _table(report: ProtocolComparison) -> list[str]:
    heads = ["protocol", "rests on", "runs", *REPORTED_METRICS.values(), "majority baseline",
             "test images", "share their case with training"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in report.rows:
        base = "-" if row.malignant_proportion is None else f"{row.malignant_proportion:.3f}"
        cells = [
            row.label, row.test_data, f"{row.n_done} of {len(row.runs)}",
            *(metric_cell(row, name) for name in REPORTED_METRICS), base, support_cell(row),
            shared_cell(row),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _legend(report: ProtocolComparison) -> str:
    text = "In brackets: 95 % CI over cases. "
    if any(row.spread for row in report.rows):
        text += (
            "The lowest and the highest value of the official files follow their mean. Its "
            "interval resamples the same cases in all files. "
        )
    return text + (
        f"Warning: above {TOO_GOOD}. Recognition rate: mean over cases of the proportion of "
        "correct images."
    )


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return "default" if value is None else str(value)
