"""Report downloads: documents, data files and the model card."""

from collections.abc import Callable

import streamlit as st

from bc_model.evaluation import EvaluationReport, predictions_to_csv, report_json
from bc_model.inference import Bundle


def draw_take_away(report: EvaluationReport, bundle: Bundle) -> None:
    """Draw a button for each file; a file is created when its button is clicked."""
    draw_report_files(report, bundle, bundle.label)
    _offer(
        "Model card, Markdown",
        "Intended use, training data, metrics and limits of the model.",
        lambda: _card(bundle),
        f"{bundle.label}-model-card.md",
        "text/markdown",
    )


def draw_report_files(report: EvaluationReport, bundle: Bundle, stem: str) -> None:
    """Draw the buttons for the report files.

    Parameters
    ----------
    report : Report
    bundle : Bundle
    stem : str
        Prefix of the file names.
    """
    _offer(
        "Report, PDF",
        "Metrics, curves, calibration and confident errors, for printing.",
        lambda: _pdf(report, bundle),
        f"{stem}-report.pdf",
        "application/pdf",
    )
    _offer(
        "Report, HTML",
        "The same content in one file for any browser.",
        lambda: _html(report, bundle),
        f"{stem}-report.html",
        "text/html",
    )
    if (predictions := report.predictions) is not None:
        _offer(
            "Predictions, CSV",
            "One row per image: path, case, true class, estimated probability of malignancy.",
            lambda: predictions_to_csv(predictions).encode(),
            f"{stem}-predictions.csv",
            "text/csv",
        )
    _offer(
        "Metrics, JSON",
        "All metrics with intervals and curve points, for programs.",
        lambda: report_json(report).encode(),
        f"{stem}-report.json",
        "application/json",
    )


def _offer(label: str, words: str, make: Callable[[], bytes], name: str, mime: str) -> None:
    with st.container(border=True):
        text, button = st.columns([3, 1], vertical_alignment="center")
        text.markdown(f"**{label}**  \n{words}")
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


def _pdf(report: EvaluationReport, bundle: Bundle) -> bytes:
    from bc_model.reporting import report_to_pdf

    return report_to_pdf(report, bundle.card)


def _html(report: EvaluationReport, bundle: Bundle) -> bytes:
    from bc_model.reporting import report_to_html

    return report_to_html(report, bundle.card)


def _card(bundle: Bundle) -> bytes:
    from bc_model.reporting import card_to_markdown

    return card_to_markdown(bundle.card).encode("utf-8")
