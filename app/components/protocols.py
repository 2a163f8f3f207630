"""A report of several protocols: alarm, chart, table, what the leak is worth, files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app.components.frame import escape, listed
from app.components.protocol_chart import lowest, protocol_chart
from bc_model.data.protocols import LEAKY_PROTOCOLS
from bc_model.evaluation.alarms import TOO_GOOD
from bc_model.evaluation.literature import PUBLISHED
from bc_model.evaluation.protocol_files import (
    figure_cell,
    protocols_csv,
    protocols_json,
    protocols_markdown,
    shared_cell,
)
from bc_model.evaluation.protocol_gap import CAUTION
from bc_model.evaluation.protocol_report import ProtocolReport, summarise_protocols
from bc_model.evaluation.protocol_row import FIGURES, PROTOCOL_WORDS, ProtocolRow
from bc_model.training.study_file import read_study

CHARTS = {"balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy", "roc_auc": "ROC AUC"}


@st.cache_data(max_entries=16, show_spinner="Computing the figures")
def report_of(runs: str, name: str, stamp: tuple) -> ProtocolReport:
    """Compute a report; `stamp` is what changes when it does."""
    found = summarise_protocols(read_study(Path(runs), name), Path(runs))
    # The predictions are for the library's own comparisons, and heavy.
    rows = [dataclasses.replace(row, reports={}) for row in found.rows]
    return dataclasses.replace(found, rows=rows)


def draw_report(report: ProtocolReport) -> None:
    """Draw a report, partial or whole."""
    for sentence in report.warnings:
        if sentence.startswith("Alarm"):
            st.error(escape(sentence), title="Too good to be true")
        else:
            st.warning(escape(sentence))
    left_out = [
        f"{row.words.capitalize()}: {sentence}" for row in report.rows for sentence in row.left_out
    ]
    if left_out:
        st.info(listed(left_out), title="Left out")
    low = lowest(report.rows, CHARTS)
    for name, title in CHARTS.items():
        chart = protocol_chart(report.rows, report.bands, name, title, low=low)
        st.altair_chart(chart, alt=_in_words(report, name))
    st.caption(
        "Diamonds leak, circles do not; bars are 95 % intervals over cases. Dashed: alarm above "
        f"{TOO_GOOD}. Grey tick: always answering malignant. Shaded: published on BreakHis, "
        f"{_published(report)}; none is known for a split by case."
    )
    _draw_table(report)
    if report.gaps:
        st.header("What the leak is worth", anchor=False)
        st.markdown(listed(gap.sentence for gap in report.gaps))
        st.caption(CAUTION)
    _draw_notes(report)
    _draw_files(report)


def _draw_table(report: ProtocolReport) -> None:
    figures = {words[:1].upper() + words[1:]: name for name, words in FIGURES.items()}
    averaged = any(row.spread for row in report.rows)
    width = 290 if averaged else 160
    lines = []
    for row in report.rows:
        base = "-" if row.base_rate is None else f"{row.base_rate:.3f}"
        lines.append(
            {
                "Split": row.words.capitalize(),
                "Rests on": row.rests_on,
                "Runs": f"{row.n_done} of {len(row.runs)}",
                "Pictures": str(row.n or "-"),
                "Cases": _cases(row),
                **{head: figure_cell(row, name) for head, name in figures.items()},
                "Always malignant": base,
                "Case in training": shared_cell(row),
            }
        )
    st.dataframe(
        lines,
        hide_index=True,
        column_config={
            "Split": st.column_config.TextColumn(pinned=True),
            **dict.fromkeys(figures, st.column_config.TextColumn(width=width)),
            "Case in training": st.column_config.TextColumn(
                help="Share of the test pictures whose case has pictures in training."
            ),
            "Recognition rate": st.column_config.TextColumn(
                width=width, help="Mean over cases of the share of their pictures called right."
            ),
        },
        alt="Figures of each protocol with intervals, pictures and cases",
    )
    if averaged:
        st.caption(
            "The official files overlap: their figures are averaged, the lowest and the highest "
            "file stand behind, and the interval draws the same cases in all files."
        )


def _cases(row: ProtocolRow) -> str:
    if not row.n_cases:
        return "unknown" if row.figures else "-"
    return f"{row.n_cases} ({row.n_benign_cases} benign)"


def _draw_notes(report: ProtocolReport) -> None:
    notes: dict[str, list[str]] = {}
    for row in report.rows:
        for sentence in row.warnings:
            notes.setdefault(sentence, []).append(row.words)
    if notes:
        with st.expander(f"Before you believe these figures ({len(notes)})", expanded=True):
            st.markdown(
                listed(
                    f"{', '.join(words).capitalize()}: {sentence}"
                    for sentence, words in notes.items()
                )
            )
    with st.expander("Published results, and the recipe"):
        st.markdown(listed(one.in_words() for one in PUBLISHED))
        shown = {key.replace("_", " "): str(value) for key, value in report.recipe.items()}
        st.dataframe(
            [{"Setting": key, "Value": value} for key, value in shown.items()],
            hide_index=True,
            alt="Settings that all runs share",
        )


def _draw_files(report: ProtocolReport) -> None:
    def picture(kind: str) -> Callable[[], bytes]:
        def draw() -> bytes:
            from bc_model.evaluation import protocol_plot  # matplotlib takes a while to load

            return getattr(protocol_plot, f"protocols_{kind}")(report)

        return draw

    st.header("Take it with you", anchor=False)
    files: dict[str, Callable[[], bytes]] = {
        "protocols.png": picture("png"),
        "protocols.svg": picture("svg"),
        "figures.csv": lambda: protocols_csv(report).encode(),
        "report.md": lambda: protocols_markdown(report).encode(),
        "report.json": lambda: protocols_json(report).encode(),
    }
    for column, (name, make) in zip(st.columns(len(files)), files.items(), strict=True):
        column.download_button(
            name,
            make,
            file_name=f"{report.study}-{name}",
            key=f"save-{name}",
            icon=":material/download:",
            width="stretch",
        )


def _in_words(report: ProtocolReport, name: str) -> str:
    told = [
        f"{row.words} {row.figures[name].text(3)}" for row in report.rows if name in row.figures
    ]
    return f"{CHARTS[name]} by split: {'; '.join(told) or 'no run is in yet'}"


def _published(report: ProtocolReport) -> str:
    told: dict[str, list[str]] = {}
    for band in report.bands:
        leaky = " (leaky)" if band.protocol in LEAKY_PROTOCOLS else ""
        told.setdefault(FIGURES[band.figure], []).append(
            f"{PROTOCOL_WORDS[band.protocol]}{leaky} {band.low:.3f} to {band.high:.3f}"
        )
    return "; ".join(f"{figure} {', '.join(ranges)}" for figure, ranges in told.items())
