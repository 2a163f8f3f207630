"""A protocol report on disk: JSON for programs, CSV for spreadsheets, Markdown and a picture.

Files: ``report.json``, ``figures.csv``, ``report.md``, ``protocols.png``, ``protocols.svg``.
"""

import csv
import io
from pathlib import Path

from bc_model.errors import RunError
from bc_model.evaluation.alarms import TOO_GOOD
from bc_model.evaluation.literature import PUBLISHED
from bc_model.evaluation.protocol_gap import CAUTION
from bc_model.evaluation.protocol_report import ProtocolReport
from bc_model.evaluation.protocol_row import FIGURES, ProtocolRow
from bc_model.files import write_bytes_atomic, write_text_atomic
from bc_model.utils.serialization import dumps

_COLUMNS = (
    "protocol", "leaky", "rests_on", "runs_in", "runs", "figure", "value", "low", "high",
    "lowest_file", "highest_file", "n_pictures", "n_cases", "base_rate", "alarm", "method", "note",
)  # fmt: skip


def write_protocols(report: ProtocolReport, folder: str | Path) -> None:
    """Write a report, each file whole; ``report.json`` comes last.

    Parameters
    ----------
    report : ProtocolReport
        May be partial; its files then say so.
    folder : str or Path
        Made when missing.

    Raises
    ------
    RunError
        The folder cannot be written.
    """
    # Matplotlib takes a while to load, and whoever only reads a report does not need it.
    from bc_model.evaluation.protocol_plot import protocols_png, protocols_svg

    target = Path(folder)
    pictures = {"protocols.png": protocols_png(report), "protocols.svg": protocols_svg(report)}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in pictures.items():
            write_bytes_atomic(target / name, data)
        write_text_atomic(target / "figures.csv", protocols_csv(report))
        write_text_atomic(target / "report.md", protocols_markdown(report))
        write_text_atomic(target / "report.json", protocols_json(report))
    except OSError as error:
        raise RunError(
            f"The report should be written to '{target}', but that failed "
            f"({error.strerror or error}): choose a folder that can be written."
        ) from error


def protocols_json(report: ProtocolReport) -> str:
    """Return a report as JSON text."""
    return dumps(report)


def protocols_csv(report: ProtocolReport) -> str:
    """Return a report as CSV text: a line for each protocol and figure, empty where undefined."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for row in report.rows:
        common = [row.protocol, str(row.leaky).lower(), row.rests_on, row.n_done, len(row.runs)]
        if not row.figures:
            blank = [""] * (len(_COLUMNS) - len(common) - 1)
            lines.writerow([*common, *blank, " ".join((*row.left_out, *row.warnings))])
        for name, figure in row.figures.items():
            spread = row.spread.get(name)
            ends = [spread.low, spread.high] if spread else ["", ""]
            lines.writerow(
                [
                    *common, name, figure.value, figure.low, figure.high, *ends, figure.n,
                    figure.n_cases or "", row.base_rate, str(name in row.alarms).lower(),
                    figure.method, figure.note,
                ]
            )  # fmt: skip
    return stream.getvalue()


def protocols_markdown(report: ProtocolReport) -> str:
    """Return a report as a short Markdown text that stands on its own beside its picture."""
    shown = {key: value for key, value in report.recipe.items() if key != "data"}
    recipe = ", ".join(f"{key} {_plain(value)}" for key, value in shown.items())
    lines = [
        f"# One recipe under {len(report.rows)} split protocols: {report.study}",
        "",
        "Research use only, not a diagnosis.",
        "",
        *(f"- **{sentence}**" for sentence in report.warnings),
        *([""] if report.warnings else []),
        "![Figures by protocol, with published ranges](protocols.png)",
        "",
        *_table(report),
        "",
        _legend(report),
        "",
    ]
    if report.gaps:
        lines += ["## What the leak is worth", ""]
        lines += [*(f"- {gap.sentence}" for gap in report.gaps), "", CAUTION, ""]
    notes = [
        f"- {row.words}: {sentence}"
        for row in report.rows
        for sentence in (*row.left_out, *row.warnings)
    ]
    if notes:
        lines += ["## To be read with the figures", "", *notes, ""]
    lines += ["## Published on BreakHis", ""]
    lines += [f"- {one.in_words()}" for one in PUBLISHED]
    lines += ["", "## Recipe", "", f"Data: `{report.recipe['data']}`. {recipe}.", ""]
    return "\n".join(lines)


def figure_cell(row: ProtocolRow, name: str) -> str:
    """Return one figure of a protocol as it stands in a table; '-' while there is none."""
    figure = row.figures.get(name)
    if figure is None:
        return "-"
    told = figure.brief()
    if figure.value is not None and (spread := row.spread.get(name)):
        told += f", files {spread.low:.3f} to {spread.high:.3f}"
    return told + (" ALARM" if name in row.alarms else "")


def shared_cell(row: ProtocolRow) -> str:
    """Return how many test pictures have their case in training, as it stands in a table."""
    if row.shared is None:
        return "-"
    if row.shared.share is None:
        return "unknown"
    return f"{row.shared.share:.0%}"


def support_cell(row: ProtocolRow) -> str:
    """Return the pictures and cases of a protocol, as they stand in a table."""
    if not row.figures:
        return "-"
    if not row.n_cases:
        return f"{row.n:,} pictures, cases unknown"
    return (
        f"{row.n:,} pictures, {row.n_cases} cases ({row.n_benign_cases} benign, "
        f"{row.n_malignant_cases} malignant)"
    )


def _table(report: ProtocolReport) -> list[str]:
    heads = ["protocol", "rests on", "runs", *FIGURES.values(), "always malignant",
             "test pictures", "their case is in training"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in report.rows:
        base = "-" if row.base_rate is None else f"{row.base_rate:.3f}"
        cells = [
            row.words, row.rests_on, f"{row.n_done} of {len(row.runs)}",
            *(figure_cell(row, name) for name in FIGURES), base, support_cell(row),
            shared_cell(row),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _legend(report: ProtocolReport) -> str:
    told = "In brackets: 95 % intervals over cases. "
    if any(row.spread for row in report.rows):
        told += (
            "A mean over official files has the lowest and the highest of them behind it; its "
            "interval draws the same cases in all of them. "
        )
    return told + (
        f"Alarm: above {TOO_GOOD}. Recognition rate: mean over cases of the share of their "
        "pictures called right."
    )


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return "default" if value is None else str(value)
