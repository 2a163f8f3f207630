"""Write a report for people: HTML and PDF, whole or not at all."""

from pathlib import Path

from bc_model.errors import RunError, SettingsError
from bc_model.evaluation.result import Report
from bc_model.export.report_document import report_document
from bc_model.files import write_bytes_atomic
from bc_model.serving.passport import ModelCard

HTML_FILE, PDF_FILE = "report.html", "report.pdf"


def report_html(report: Report, card: ModelCard) -> bytes:
    """Return a report as one HTML file, UTF-8.

    Parameters
    ----------
    report : Report
        With its predictions, as `read_report` returns it.
    card : ModelCard
        Of the model that was evaluated.
    """
    from bc_model.export.html import to_html

    return to_html(report_document(report, card)).encode("utf-8")


def report_pdf(report: Report, card: ModelCard) -> bytes:
    """Return a report as a PDF; parameters as for `report_html`."""
    from bc_model.export.pdf import to_pdf  # fonts and their tools take a moment to load

    return to_pdf(report_document(report, card))


def save_report(report: Report, card: ModelCard, path: Path) -> None:
    """Write a report to a file whose suffix says the format.

    Raises
    ------
    SettingsError
        The suffix is neither ``.html`` nor ``.pdf``.
    RunError
        The file cannot be written.
    """
    writers = {".html": report_html, ".pdf": report_pdf}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise SettingsError(
            f"A report is written as .html or .pdf; asked for '{path.name}'. Give it such a name."
        )
    data = writer(report, card)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, data)
    except OSError as error:
        raise RunError(
            f"The report should be written to '{path}', but that failed "
            f"({error.strerror or error}): choose a place that can be written."
        ) from error
