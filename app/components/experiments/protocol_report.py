"""A protocol comparison: checks, charts, tables, leakage effect and downloads."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app.components.charts import chart_protocols, find_axis_minimum
from app.components.checks import show_labeled_checks
from app.components.layout import format_list
from app.components.metric_table import METRIC_COLUMNS, make_frame, metric_row
from bc_model.data import PROTOCOLS_WITH_LEAKAGE
from bc_model.evaluation import MAX_PLAUSIBLE, PUBLISHED_RESULTS, majority_baseline
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
def compute_protocol_report(runs: str, name: str, stamp: tuple) -> ProtocolComparison:
    """Compute a protocol comparison; `stamp` changes whenever it changes."""
    report = compare_protocols(read_experiment(Path(runs), name), Path(runs))
    # The page does not need the predictions, which are large.
    rows = [dataclasses.replace(row, reports={}) for row in report.rows]
    return dataclasses.replace(report, rows=rows)


def show_protocol_report(report: ProtocolComparison) -> None:
    """Show a protocol comparison, complete or not."""
    show_labeled_checks(
        {"all protocols": report.checks} | {row.label: row.checks for row in report.rows}
    )
    axis_minimum = find_axis_minimum(report.rows, CHARTS)
    for name, title in CHARTS.items():
        chart = chart_protocols(
            report.rows, report.published_ranges, name, title, axis_minimum=axis_minimum
        )
        st.altair_chart(chart, alt=_describe_chart(report, name))
    st.caption(
        "Diamond: with leakage; circle: leakage-free; bar: 95 % interval over cases; dashed line: "
        f"warning above {MAX_PLAUSIBLE}; gray tick: majority baseline; shaded: published BreakHis "
        "ranges."
    )
    _show_table(report)
    if report.leakage_effects:
        st.header("Leakage effect", anchor=False)
        st.markdown(format_list(effect.check.message for effect in report.leakage_effects))
    _show_config(report)
    _show_files(report)


def _show_table(report: ProtocolComparison) -> None:
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
                format="%.2f", help="Proportion of test images with their case in training."
            ),
        },
        alt="Runs, images and cases of each protocol",
    )
    is_averaged = any(row.spread for row in report.rows)
    lines = []
    for name, title in REPORTED_METRICS.items():
        for row in report.rows:
            if (metric := row.metrics.get(name)) is None:
                continue
            line = metric_row(title[:1].upper() + title[1:], metric)
            line = {"Split": row.label.capitalize()} | line
            if is_averaged:
                spread = row.spread.get(name)
                line |= {
                    "Lowest file": spread.minimum if spread else None,
                    "Highest file": spread.maximum if spread else None,
                }
            lines.append(line | {"Implausible": name in row.implausible})
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
                "Implausible": st.column_config.CheckboxColumn(
                    help="Better than published leakage-free results."
                ),
            },
            alt="Metrics of each protocol with intervals, images and cases",
        )
        st.caption("The recognition rate is the mean patient score over all cases (Spanhol 2016).")
    if is_averaged:
        st.caption(
            "The official files overlap, so their metrics are averaged and share resampled cases."
        )


def _show_config(report: ProtocolComparison) -> None:
    with st.expander("References and options", icon=":material/info:"):
        st.caption(f"Published ranges: {_format_ranges(report)}.")
        st.markdown(format_list(result.describe() for result in PUBLISHED_RESULTS))
        shown = {key.replace("_", " "): str(value) for key, value in report.config.items()}
        st.dataframe(
            [{"Option": key, "Value": value} for key, value in shown.items()],
            hide_index=True,
            placeholder="-",
            alt="Configuration that all runs share",
        )


def _show_files(report: ProtocolComparison) -> None:
    def make_chart(kind: str) -> Callable[[], bytes]:
        def make() -> bytes:
            # matplotlib takes a second to load.
            from bc_model.reporting import figure_to_png, figure_to_svg, plot_protocols

            render = figure_to_png if kind == "png" else figure_to_svg
            return render(plot_protocols(report))

        return make

    st.header("Export", anchor=False)
    files: dict[str, Callable[[], bytes]] = {
        "protocols.png": make_chart("png"),
        "protocols.svg": make_chart("svg"),
        "metrics.csv": lambda: protocols_to_csv(report).encode(),
        "report.md": lambda: protocols_to_markdown(report).encode(),
        "report.json": lambda: protocols_to_json(report).encode(),
    }
    for column, (name, content) in zip(st.columns(len(files)), files.items(), strict=True):
        column.download_button(
            f"Save {name}",
            content,
            file_name=f"{report.experiment}-{name}",
            key=f"save-{name}",
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )


def _describe_chart(report: ProtocolComparison, name: str) -> str:
    values = [
        f"{row.label} {row.metrics[name].text(3)}" for row in report.rows if name in row.metrics
    ]
    return f"{CHARTS[name]} by split: {'; '.join(values) or 'no run is finished yet'}"


def _format_ranges(report: ProtocolComparison) -> str:
    ranges_by_metric: dict[str, list[str]] = {}
    for published_range in report.published_ranges:
        protocol = PROTOCOL_LABELS[published_range.protocol]
        leakage = " (with leakage)" if published_range.protocol in PROTOCOLS_WITH_LEAKAGE else ""
        ranges_by_metric.setdefault(REPORTED_METRICS[published_range.metric], []).append(
            f"{protocol}{leakage} {published_range.lowest:.3f} to {published_range.highest:.3f}"
        )
    return "; ".join(f"{metric} {', '.join(ranges)}" for metric, ranges in ranges_by_metric.items())
