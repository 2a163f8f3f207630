from .evaluation_report import HTML_FILE, PDF_FILE, report_html, report_pdf, save_report
from .labels import (
    CASE_WORDS,
    GROUP_WORDS,
    METRIC_LABELS,
    notes_of,
    subgroup_metrics,
    support_words,
)
from .model_card import card_markdown
from .plots import figure_to_png, figure_to_svg, plot_protocols, write_plots
from .protocol_report import (
    metric_cell,
    protocols_csv,
    protocols_json,
    protocols_markdown,
    shared_cell,
    write_protocols,
)

__all__ = [
    "CASE_WORDS",
    "GROUP_WORDS",
    "HTML_FILE",
    "METRIC_LABELS",
    "PDF_FILE",
    "card_markdown",
    "figure_to_png",
    "figure_to_svg",
    "metric_cell",
    "notes_of",
    "plot_protocols",
    "protocols_csv",
    "protocols_json",
    "protocols_markdown",
    "report_html",
    "report_pdf",
    "save_report",
    "shared_cell",
    "subgroup_metrics",
    "support_words",
    "write_plots",
    "write_protocols",
]
