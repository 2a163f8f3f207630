from .evaluation_report import HTML_FILE, PDF_FILE, report_html, report_pdf, save_report
from .labels import CASE_WORDS, FIGURE_WORDS, GROUP_WORDS, group_figures, notes_of, support_words
from .model_card import card_markdown
from .plots import figure_to_png, figure_to_svg, plot_protocols, write_plots
from .protocol_report import (
    figure_cell,
    protocols_csv,
    protocols_json,
    protocols_markdown,
    shared_cell,
    write_protocols,
)

__all__ = [
    "CASE_WORDS",
    "FIGURE_WORDS",
    "GROUP_WORDS",
    "HTML_FILE",
    "PDF_FILE",
    "card_markdown",
    "figure_cell",
    "figure_to_png",
    "figure_to_svg",
    "group_figures",
    "notes_of",
    "plot_protocols",
    "protocols_csv",
    "protocols_json",
    "protocols_markdown",
    "report_html",
    "report_pdf",
    "save_report",
    "shared_cell",
    "support_words",
    "write_plots",
    "write_protocols",
]
