"""The metrics of a report: by image, by case, and of subgroups, each with its interval."""

from typing import Any

import pandas as pd
import streamlit as st

from app.components.charts import (
    confusion_chart,
    confusion_in_words,
    group_chart,
    majority_baseline,
    pr_chart,
    roc_chart,
)
from app.components.layout import escape, listed
from bc_model.evaluation import EvaluationReport, Subgroup, case_table
from bc_model.reporting import (
    CASE_METRIC_LABELS,
    METRIC_LABELS,
    SUBGROUP_LABELS,
    metric_notes,
    subgroup_metrics,
)
from bc_model.training import Run
from bc_model.utils import Metric, many

TILES = ("balanced_accuracy", "roc_auc", "sensitivity", "specificity")
METRIC_COLUMNS = {
    "Value": st.column_config.NumberColumn(format="%.2f"),
    "CI low": st.column_config.NumberColumn(format="%.2f", help="Lower end of the 95 % interval."),
    "CI high": st.column_config.NumberColumn(format="%.2f", help="Upper end of the 95 % interval."),
    "Images": st.column_config.NumberColumn(format="localized"),
    "Cases": st.column_config.NumberColumn(help="A case: all images with one slide number."),
    "Meaning": st.column_config.TextColumn(width="large"),
}
SPLIT_WORDS = {
    "case": "case-level split",
    "folder": "section-level split",
    "image": "image-level split",
    "folds": "official folds",
    "folds-clean": "official folds without leakage",
}
ONE_CLASS = "Not defined: all images belong to one class."


def draw_summary(report: EvaluationReport, source: str) -> None:
    """Draw four metrics as tiles, and one sentence about the images behind them.

    Parameters
    ----------
    report : Report
    source : str
        The dataset and its subset, such as 'Test subset of BreakHis'.
    """
    with st.grid(len(TILES), min_column_width=170):
        for name in TILES:
            metric = report.metrics[name]
            has_interval = metric.ci_low is not None and metric.ci_high is not None
            st.metric(
                METRIC_LABELS[name][0],
                "Not defined" if metric.value is None else f"{metric.value:.2f}",
                f"95 % CI [{metric.ci_low:.2f}, {metric.ci_high:.2f}]"
                if has_interval
                else "No interval",
                delta_color="off",
                delta_arrow="off",
                help=f"{METRIC_LABELS[name][1].capitalize()}.",
                border=True,
            )
    baseline, accuracy = majority_baseline(report.malignant_proportion)
    cases = many(report.n_cases, "case") if report.n_cases else "unknown cases"
    split = SPLIT_WORDS.get(report.protocol)
    st.markdown(
        f"{escape(source)}: {many(report.n_images, 'image')} of {cases}"
        + (f", {split}" if split else "")
        + f". Majority baseline (always {baseline}): accuracy {accuracy:.2f}."
    )


def show_metrics(report: EvaluationReport) -> None:
    """Draw the charts and the metric tables of a report."""
    by_image, by_case = st.columns(2, gap="large")
    with by_image:
        st.header("Confusion by image", anchor=False)
        st.altair_chart(confusion_chart(report.confusion), alt=confusion_in_words(report.confusion))
        st.caption(
            f"Predicted classes of {many(report.n_images, 'image')} at threshold {report.threshold:.2f}."
        )
    with by_case:
        st.header("Confusion by case", anchor=False)
        if report.case_metrics is None:
            st.info(_why_no_case(report), icon=":material/info:")
        else:
            confusion = report.case_metrics.confusion
            st.altair_chart(confusion_chart(confusion), alt=confusion_in_words(confusion))
            st.caption(
                f"{many(sum(map(sum, confusion)), 'case')}, each classified by the mean "
                "probability of its images."
            )
    _draw_curves(report)
    st.header("Metrics by image", anchor=False)
    draw_table(report.metrics, METRIC_LABELS, report.malignant_proportion)
    st.caption(
        "95 % bootstrap intervals that resample cases."
        if report.n_cases
        else "95 % bootstrap intervals that resample images. They are too narrow: no case is known."
    )
    if report.case_metrics is not None:
        st.header("Metrics by case", anchor=False)
        (tn, fp), (fn, tp) = report.case_metrics.confusion
        draw_table(report.case_metrics.metrics, CASE_METRIC_LABELS, (fn + tp) / (tn + fp + fn + tp))
        _draw_every_case(report)
    for kind, (title, head) in SUBGROUP_LABELS.items():
        groups = [group for group in report.subgroups if group.kind == kind]
        if groups:
            st.header(title, anchor=False)
            _draw_groups(groups, kind, head)


def metric_row(title: str, metric: Metric) -> dict[str, Any]:
    """Return a metric as a table row of numbers; what is not defined or not known is None."""
    return {
        "Metric": title,
        "Value": metric.value,
        "CI low": metric.ci_low,
        "CI high": metric.ci_high,
        "Images": metric.n_images,
        "Cases": metric.n_cases or None,
    }


def make_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table in which a column without any value is numeric."""
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(frame.columns[frame.isna().all()], float))


def draw_table(
    metrics: dict[str, Metric],
    words: dict[str, tuple[str, str]],
    malignant_proportion: float | None = None,
    *,
    meanings: bool = True,
) -> None:
    """Draw metrics as a table, with the reasons for missing values and intervals below it.

    Parameters
    ----------
    figures : dict of str to Figure
    words : dict of str to (title, meaning)
        The metrics to show, in this order.
    malignant_proportion : float, optional
        Proportion of malignant images or cases; adds the majority baseline below the accuracy.
    meanings : bool, default=True
        Add a column that defines each metric.
    """
    rows = []
    for name, (title, meaning) in words.items():
        if name not in metrics:
            continue
        rows.append(metric_row(title, metrics[name]) | {"Meaning": meaning})
        if name == "accuracy" and malignant_proportion is not None:
            majority, accuracy = majority_baseline(malignant_proportion)
            rows.append(
                rows[-1]
                | {"Metric": "Majority baseline", "Value": accuracy, "CI low": None}
                | {"CI high": None, "Meaning": f"accuracy of always predicting {majority}"}
            )
    columns = [name for name in ("Metric", *METRIC_COLUMNS) if meanings or name != "Meaning"]
    st.dataframe(
        make_frame(rows),
        hide_index=True,
        placeholder="-",
        height="content",
        column_order=columns,
        column_config=METRIC_COLUMNS,
        alt="Metrics with interval, images and cases",
    )
    for sentence in metric_notes(metrics, words):
        st.caption(escape(sentence))


def _draw_every_case(report: EvaluationReport) -> None:
    if report.predictions is None:
        return
    table = case_table(report.predictions, report.threshold)
    with st.expander("All cases", icon=":material/table:"):
        st.dataframe(
            table.rename(
                columns={
                    "case": "Case",
                    "class": "True class",
                    "n_images": "Images",
                    "n_correct": "Correct images",
                    "patient_score": "Patient score",
                    "mean_prob": "Mean probability",
                    "predicted_class": "Predicted class",
                }
            ),
            hide_index=True,
            placeholder="-",
            column_config={
                "Patient score": st.column_config.NumberColumn(
                    format="%.2f",
                    help="Proportion of correctly classified images of the case (Spanhol 2016).",
                ),
                "Mean probability": st.column_config.NumberColumn(
                    format="%.2f", help="Mean estimated probability of malignancy."
                ),
            },
            alt="True class, images, patient score and predicted class of every case",
        )
        st.caption("The recognition rate is the mean patient score over all cases (Spanhol 2016).")


def _draw_curves(report: EvaluationReport) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.header("ROC curve", anchor=False)
        if report.roc is None:
            st.info(ONE_CLASS, icon=":material/info:")
        else:
            area = report.metrics["roc_auc"]
            st.altair_chart(roc_chart(report), alt=f"Sensitivity against 1 - specificity, {area}")
            st.caption(f"AUC {area.value:.2f}. Dot: decision threshold. Dashed line: chance.")
    with right:
        st.header("Precision-recall curve", anchor=False)
        if report.pr is None:
            st.info(ONE_CLASS, icon=":material/info:")
        else:
            area = report.metrics["average_precision"]
            st.altair_chart(pr_chart(report), alt=f"Precision against sensitivity, {area}")
            st.caption(
                f"Average precision {area.value:.2f}. Dot: decision threshold. Dashed line: chance."
            )


def _draw_groups(groups: list[Subgroup], kind: str, head: str) -> None:
    alt = ". ".join(f"{one.name}: {confusion_in_words(one.confusion)}" for one in groups)
    st.altair_chart(group_chart(groups), alt=alt)
    names = subgroup_metrics(kind)
    rows = [
        {head: group.name}
        | metric_row(METRIC_LABELS[name][0], group.metrics[name])
        | {"Malignant": group.malignant_proportion}
        for name in names
        for group in groups
    ]
    proportion = st.column_config.NumberColumn(
        format="percent", help="Proportion of malignant images."
    )
    st.dataframe(
        make_frame(rows),
        hide_index=True,
        placeholder="-",
        height="content",
        column_config=METRIC_COLUMNS | {"Malignant": proportion},
        alt=f"Metrics by {head.lower()}, with 95 % intervals",
    )
    reasons = {
        f"{group.name}: {sentence}"
        for group in groups
        for sentence in metric_notes(group.metrics, {name: METRIC_LABELS[name] for name in names})
    }
    if reasons:
        with st.expander("Missing values and intervals", icon=":material/info:"):
            st.markdown(listed(sorted(reasons)))


def _why_no_case(report: EvaluationReport) -> str:
    why = "no case is known" if report.n_cases == 0 else "every case contains both classes"
    return f"Metrics by case are not available: {why}."


_FILES = ("report.json", "predictions.csv", "validation_predictions.csv")


def stamp_of(run: Run) -> tuple[int, ...]:
    """Return a value that changes when a run is evaluated again, for use as a cache key."""
    files = [run.evaluation_dir / name for name in _FILES]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
