from .evaluation_report import HTML_FILE, PDF_FILE, report_to_html, report_to_pdf, save_report
from .labels import (
    CASE_METRIC_LABELS,
    METRIC_LABELS,
    SUBGROUP_LABELS,
    format_support,
    metric_notes,
    subgroup_metrics,
)
from .model_card import card_to_markdown
from .plots import figure_to_png, figure_to_svg, plot_protocols, write_plots
from .protocol_report import (
    format_baseline_cell,
    format_leakage_cell,
    format_metric_cell,
    protocols_to_csv,
    protocols_to_json,
    protocols_to_markdown,
    write_protocols,
)

__all__ = [
    "CASE_METRIC_LABELS",
    "HTML_FILE",
    "METRIC_LABELS",
    "PDF_FILE",
    "SUBGROUP_LABELS",
    "card_to_markdown",
    "figure_to_png",
    "figure_to_svg",
    "format_baseline_cell",
    "format_leakage_cell",
    "format_metric_cell",
    "format_support",
    "metric_notes",
    "plot_protocols",
    "protocols_to_csv",
    "protocols_to_json",
    "protocols_to_markdown",
    "report_to_html",
    "report_to_pdf",
    "save_report",
    "subgroup_metrics",
    "write_plots",
    "write_protocols",
]
