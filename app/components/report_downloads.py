"""Report downloads: documents, data files and the model card."""

from collections.abc import Callable

import streamlit as st

from bc_model.evaluation import EvaluationReport, predictions_to_csv, report_json
from bc_model.inference import Bundle


def show_export(report: EvaluationReport, bundle: Bundle) -> None:
    """Show a button for each file; a file is created when its button is clicked."""
    show_report_files(report, bundle, bundle.label)
    _show_file(
        "Model card, Markdown",
        "Intended use, training data, metrics and limits of the model.",
        lambda: _make_card(bundle),
        f"{bundle.label}-model-card.md",
        "text/markdown",
    )


def show_report_files(report: EvaluationReport, bundle: Bundle, stem: str) -> None:
    """Show the buttons for the report files.

    Parameters
    ----------
    report : EvaluationReport
        The report to save.
    bundle : Bundle
        The evaluated model.
    stem : str
        Prefix of the file names.
    """
    _show_file(
        "Report, PDF",
        "Metrics, curves, calibration and confident errors, for printing.",
        lambda: _make_pdf(report, bundle),
        f"{stem}-report.pdf",
        "application/pdf",
    )
    _show_file(
        "Report, HTML",
        "The same content in one file for any browser.",
        lambda: _make_html(report, bundle),
        f"{stem}-report.html",
        "text/html",
    )
    if (predictions := report.predictions) is not None:
        _show_file(
            "Predictions, CSV",
            "One row per image: path, case, true class, estimated probability.",
            lambda: predictions_to_csv(predictions).encode(),
            f"{stem}-predictions.csv",
            "text/csv",
        )
    _show_file(
        "Metrics, JSON",
        "All metrics with intervals and curve points, for programs.",
        lambda: report_json(report).encode(),
        f"{stem}-report.json",
        "application/json",
    )


def _show_file(
    label: str, description: str, make: Callable[[], bytes], name: str, mime: str
) -> None:
    with st.container(border=True):
        text, button = st.columns([3, 1], vertical_alignment="center")
        text.markdown(f"**{label}**  \n{description}")
        button.download_button(
            f"Save {name.rpartition('.')[2].upper()}",
            make,
            file_name=name,
            mime=mime,
            key=f"save-{name}",
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )


def _make_pdf(report: EvaluationReport, bundle: Bundle) -> bytes:
    from bc_model.reporting import report_to_pdf

    return report_to_pdf(report, bundle.card)


def _make_html(report: EvaluationReport, bundle: Bundle) -> bytes:
    from bc_model.reporting import report_to_html

    return report_to_html(report, bundle.card)


def _make_card(bundle: Bundle) -> bytes:
    from bc_model.reporting import card_to_markdown

    return card_to_markdown(bundle.card).encode("utf-8")
