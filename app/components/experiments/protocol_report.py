"""A protocol comparison: checks, charts, tables, leakage effect and downloads."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app.components.charts import lowest, majority_baseline, protocol_chart
from app.components.labeled_checks import show_labeled_checks
from app.components.layout import listed
from app.components.metric_table import METRIC_COLUMNS, make_frame, metric_row
from bc_model.data import PROTOCOLS_WITH_LEAKAGE
from bc_model.evaluation import MAX_PLAUSIBLE, PUBLISHED_RESULTS
from bc_model.experiments import (
    PROTOCOL_LABELS,
    REPORTED_METRICS,
    ProtocolComparison,
    compare_protocols,
    read_experiment,
)
from bc_model.reporting import protocols_to_csv, protocols_to_json, protocols_to_markdown

CHARTS = {"balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy", "roc_auc": "ROC AUC"}


@st.cache_data(max_entries=16, show_spinner="Computing metrics")
def report_of(runs: str, name: str, stamp: tuple) -> ProtocolComparison:
    """Compute a protocol comparison; `stamp` changes whenever it changes."""
    found = compare_protocols(read_experiment(Path(runs), name), Path(runs))
    # The page does not need the predictions, which are large.
    rows = [dataclasses.replace(row, reports={}) for row in found.rows]
    return dataclasses.replace(found, rows=rows)


def draw_report(report: ProtocolComparison) -> None:
    """Draw a protocol comparison, complete or not."""
    show_labeled_checks(
        {"all protocols": report.checks} | {row.label: row.checks for row in report.rows}
    )
    low = lowest(report.rows, CHARTS)
    for name, title in CHARTS.items():
        chart = protocol_chart(report.rows, report.published_ranges, name, title, low=low)
        st.altair_chart(chart, alt=_in_words(report, name))
    st.caption(
        "Diamond: with leakage. Circle: leakage-free. Bar: 95 % interval over cases. Dashed line: "
        f"alarm above {MAX_PLAUSIBLE}. Gray tick: majority baseline. Shaded: published BreakHis ranges "
        f"({_published(report)})."
    )
    _draw_table(report)
    if report.leakage_effects:
        st.header("Leakage effect", anchor=False)
        st.markdown(listed(gap.check.message for gap in report.leakage_effects))
    _draw_recipe(report)
    _draw_files(report)


def _draw_table(report: ProtocolComparison) -> None:
    st.dataframe(
        make_frame(
            [
                {
                    "Split": row.label.capitalize(),
                    "Test data": row.test_data,
                    "Runs": len(row.runs),
                    "Finished": row.n_done,
                    "Images": row.n_images or None,
                    "Cases": row.n_cases or None,
                    "Benign cases": row.n_benign_cases or None,
                    "Majority baseline": None
                    if row.malignant_proportion is None
                    else majority_baseline(row.malignant_proportion)[1],
                    "Case in training": row.case_overlap.proportion if row.case_overlap else None,
                }
                for row in report.rows
            ]
        ),
        hide_index=True,
        placeholder="-",
        column_config={
            "Split": st.column_config.TextColumn(pinned=True),
            "Images": METRIC_COLUMNS["Images"],
            "Cases": METRIC_COLUMNS["Cases"],
            "Majority baseline": st.column_config.NumberColumn(
                format="%.3f", help="Accuracy of always predicting the majority class."
            ),
            "Case in training": st.column_config.NumberColumn(
                format="percent", help="Test images whose case has images in training."
            ),
        },
        alt="Runs, images and cases of each protocol",
    )
    averaged = any(row.spread for row in report.rows)
    lines = []
    for name, words in REPORTED_METRICS.items():
        for row in report.rows:
            if (metric := row.metrics.get(name)) is None:
                continue
            line = metric_row(words[:1].upper() + words[1:], metric)
            line = {"Split": row.label.capitalize()} | line
            if averaged:
                spread = row.spread.get(name)
                line |= {
                    "Lowest file": spread.minimum if spread else None,
                    "Highest file": spread.maximum if spread else None,
                }
            lines.append(line | {"Too good": name in row.implausible})
    if lines:
        numbers = ("Value", "CI low", "CI high", "Lowest file", "Highest file")
        st.dataframe(
            make_frame(lines),
            hide_index=True,
            placeholder="-",
            height="content",
            column_config=METRIC_COLUMNS
            | dict.fromkeys(numbers, st.column_config.NumberColumn(format="%.3f"))
            | {
                "Split": st.column_config.TextColumn(pinned=True),
                "Too good": st.column_config.CheckboxColumn(
                    help="Better than leakage-free results on such images."
                ),
            },
            alt="Metrics of each protocol with intervals, images and cases",
        )
        st.caption("The recognition rate is the mean patient score over all cases (Spanhol 2016).")
    if averaged:
        st.caption(
            "The official files overlap, so their metrics are averaged and the same cases are "
            "resampled in all files."
        )


def _draw_recipe(report: ProtocolComparison) -> None:
    with st.expander("Published results and configuration"):
        st.markdown(listed(one.describe() for one in PUBLISHED_RESULTS))
        shown = {key.replace("_", " "): str(value) for key, value in report.config.items()}
        st.dataframe(
            [{"Setting": key, "Value": value} for key, value in shown.items()],
            hide_index=True,
            placeholder="-",
            alt="Settings that all runs share",
        )


def _draw_files(report: ProtocolComparison) -> None:
    def image(kind: str) -> Callable[[], bytes]:
        def draw() -> bytes:
            # matplotlib takes a second to load.
            from bc_model.reporting import figure_to_png, figure_to_svg, plot_protocols

            render = figure_to_png if kind == "png" else figure_to_svg
            return render(plot_protocols(report))

        return draw

    st.header("Export", anchor=False)
    files: dict[str, Callable[[], bytes]] = {
        "protocols.png": image("png"),
        "protocols.svg": image("svg"),
        "metrics.csv": lambda: protocols_to_csv(report).encode(),
        "report.md": lambda: protocols_to_markdown(report).encode(),
        "report.json": lambda: protocols_to_json(report).encode(),
    }
    for column, (name, make) in zip(st.columns(len(files)), files.items(), strict=True):
        column.download_button(
            f"Save {name}",
            make,
            file_name=f"{report.experiment}-{name}",
            key=f"save-{name}",
            icon=":material/download:",
            width="stretch",
        )


def _in_words(report: ProtocolComparison, name: str) -> str:
    values = [
        f"{row.label} {row.metrics[name].text(3)}" for row in report.rows if name in row.metrics
    ]
    return f"{CHARTS[name]} by split: {'; '.join(values) or 'no run is finished yet'}"


def _published(report: ProtocolComparison) -> str:
    ranges_by_metric: dict[str, list[str]] = {}
    for published_range in report.published_ranges:
        leakage = " (with leakage)" if published_range.protocol in PROTOCOLS_WITH_LEAKAGE else ""
        ranges_by_metric.setdefault(REPORTED_METRICS[published_range.metric], []).append(
            f"{PROTOCOL_LABELS[published_range.protocol]}{leakage} {published_range.lowest:.3f} to {published_range.highest:.3f}"
        )
    return "; ".join(f"{metric} {', '.join(ranges)}" for metric, ranges in ranges_by_metric.items())
