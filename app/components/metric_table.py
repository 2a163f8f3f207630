"""The metrics of a report: by image, by case, and of subgroups, each with its interval."""

from typing import Any

import pandas as pd
import streamlit as st

from app.components.charts import (
    chart_confusion,
    chart_groups,
    chart_precision_recall,
    chart_roc,
    describe_confusion,
)
from app.components.layout import escape_markdown, format_list
from bc_model.evaluation import EvaluationReport, Subgroup, case_table, majority_baseline
from bc_model.reporting import (
    CASE_METRIC_LABELS,
    METRIC_LABELS,
    SUBGROUP_LABELS,
    metric_notes,
    subgroup_metrics,
)
from bc_model.training import Run
from bc_model.utils import FileStamp, Metric, file_stamp, format_count

SUMMARY_METRICS = ("balanced_accuracy", "roc_auc", "sensitivity", "specificity")
METRIC_COLUMNS = {
    "Value": st.column_config.NumberColumn(format="%.2f"),
    "CI low": st.column_config.NumberColumn(format="%.2f", help="Lower end of the 95 % interval."),
    "CI high": st.column_config.NumberColumn(format="%.2f", help="Upper end of the 95 % interval."),
    "Images": st.column_config.NumberColumn(format="localized"),
    "Cases": st.column_config.NumberColumn(help="A case: all images with one slide number."),
    "Meaning": st.column_config.TextColumn(width="large"),
}
EvaluationStamp = tuple[FileStamp | None, ...]
_EVALUATION_FILES = (
    "config.json", "split.csv", "model/model_card.json", "evaluation/report.json",
    "evaluation/predictions.csv", "evaluation/validation_predictions.csv",
)  # fmt: skip
SPLIT_LABELS = {
    "case": "case-level split",
    "folder": "section-level split",
    "image": "image-level split",
    "folds": "official folds, with leakage",
    "folds-clean": "official folds, leakage-free",
}
ONE_CLASS = "Not defined: all images belong to one class."


def show_summary(report: EvaluationReport, source: str) -> None:
    """Show four metrics as tiles, and one sentence about the images of the test.

    Parameters
    ----------
    report : EvaluationReport
        The report.
    source : str
        The dataset and its subset, such as 'test subset of BreakHis'.
    """
    with st.grid(len(SUMMARY_METRICS), min_column_width=170):
        for name in SUMMARY_METRICS:
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
    if report.has_leakage:
        st.badge("With leakage", color="orange", icon=":material/warning:")
    baseline, accuracy = majority_baseline(report.malignant_proportion)
    cases = format_count(report.n_cases, "case") if report.n_cases else "unknown cases"
    split = SPLIT_LABELS.get(report.protocol)
    st.markdown(
        f"{format_count(report.n_images, 'image')} of {cases}, {escape_markdown(source)}"
        + (f", {split}" if split else "")
        + f"; always predicting {baseline} has an accuracy of {accuracy:.2f}."
    )


def show_metrics(report: EvaluationReport) -> None:
    """Show the charts and the metric tables of a report."""
    by_image, by_case = st.columns(2, gap="large")
    with by_image:
        st.header("Confusion by image", anchor=False)
        st.altair_chart(chart_confusion(report.confusion), alt=describe_confusion(report.confusion))
        st.caption(
            f"Predicted classes of {format_count(report.n_images, 'image')} at threshold "
            f"{report.threshold:.2f}."
        )
    with by_case:
        st.header("Confusion by case", anchor=False)
        if report.case_metrics is None:
            st.info(_explain_missing_cases(report), icon=":material/info:")
        else:
            confusion = report.case_metrics.confusion
            st.altair_chart(chart_confusion(confusion), alt=describe_confusion(confusion))
            st.caption(
                f"{format_count(sum(map(sum, confusion)), 'case')}, each classified by the mean "
                "probability of its images."
            )
    _show_curves(report)
    st.header("Metrics by image", anchor=False)
    show_metric_table(report.metrics, METRIC_LABELS, report.malignant_proportion)
    st.caption(
        "95 % bootstrap intervals that resample cases."
        if report.n_cases
        else "95 % bootstrap intervals that resample images; they are too narrow without cases."
    )
    if report.case_metrics is not None:
        st.header("Metrics by case", anchor=False)
        (tn, fp), (fn, tp) = report.case_metrics.confusion
        show_metric_table(
            report.case_metrics.metrics, CASE_METRIC_LABELS, (fn + tp) / (tn + fp + fn + tp)
        )
        _show_cases(report)
    for kind, (title, column) in SUBGROUP_LABELS.items():
        groups = [group for group in report.subgroups if group.kind == kind]
        if groups:
            st.header(title, anchor=False)
            _show_groups(groups, kind, column)


def metric_row(title: str, metric: Metric) -> dict[str, Any]:
    """Return a metric as a table row of numbers; undefined and unknown values are None."""
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


def show_metric_table(
    metrics: dict[str, Metric],
    labels: dict[str, tuple[str, str]],
    malignant_proportion: float | None = None,
    *,
    has_meanings: bool = True,
) -> None:
    """Show metrics as a table, with the reasons for missing values and intervals below it.

    Parameters
    ----------
    metrics : dict of str to Metric
        The metrics by name.
    labels : dict of str to (title, meaning)
        The metrics to show, in this order.
    malignant_proportion : float, optional
        Proportion of malignant images or cases; adds the majority baseline below the accuracy.
    has_meanings : bool, default=True
        Add a column that defines each metric.
    """
    rows = []
    for name, (title, meaning) in labels.items():
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
    columns = [name for name in ("Metric", *METRIC_COLUMNS) if has_meanings or name != "Meaning"]
    st.dataframe(
        make_frame(rows),
        hide_index=True,
        placeholder="-",
        height="content",
        column_order=columns,
        column_config=METRIC_COLUMNS,
        alt="Metrics with interval, images and cases",
    )
    for sentence in metric_notes(metrics, labels):
        st.caption(escape_markdown(sentence))


def _show_cases(report: EvaluationReport) -> None:
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


def _show_curves(report: EvaluationReport) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.header("ROC curve", anchor=False)
        if report.roc is None:
            st.info(ONE_CLASS, icon=":material/info:")
        else:
            area = report.metrics["roc_auc"]
            st.altair_chart(chart_roc(report), alt=f"Sensitivity against 1 - specificity, {area}")
            st.caption(f"AUC {area.value:.2f}; dot: decision threshold; dashed line: chance.")
    with right:
        st.header("Precision-recall curve", anchor=False)
        if report.pr is None:
            st.info(ONE_CLASS, icon=":material/info:")
        else:
            area = report.metrics["average_precision"]
            st.altair_chart(
                chart_precision_recall(report), alt=f"Precision against sensitivity, {area}"
            )
            st.caption(
                f"Average precision {area.value:.2f}; dot: decision threshold; dashed line: chance."
            )


def _show_groups(groups: list[Subgroup], kind: str, column: str) -> None:
    alt = ". ".join(f"{group.name}: {describe_confusion(group.confusion)}" for group in groups)
    st.altair_chart(chart_groups(groups), alt=alt)
    names = subgroup_metrics(kind)
    rows = [
        {column: group.name}
        | metric_row(METRIC_LABELS[name][0], group.metrics[name])
        | {"Malignant": group.malignant_proportion}
        for name in names
        for group in groups
    ]
    proportion = st.column_config.NumberColumn(
        format="%.2f", help="Proportion of malignant images."
    )
    st.dataframe(
        make_frame(rows),
        hide_index=True,
        placeholder="-",
        height="content",
        column_config=METRIC_COLUMNS | {"Malignant": proportion},
        alt=f"Metrics by {column.lower()}, with 95 % intervals",
    )
    reasons = {
        f"{group.name}: {sentence}"
        for group in groups
        for sentence in metric_notes(group.metrics, {name: METRIC_LABELS[name] for name in names})
    }
    if reasons:
        with st.expander("Missing values", icon=":material/info:"):
            st.markdown(format_list(sorted(reasons)))


def _explain_missing_cases(report: EvaluationReport) -> str:
    reason = "no case is known" if report.n_cases == 0 else "every case contains both classes"
    return f"Metrics by case are not available: {reason}."


def read_evaluation_stamp(run: Run) -> EvaluationStamp:
    """Return a value that changes with the evaluation of a run, for use as a cache key."""
    return tuple(file_stamp(run.path / name) for name in _EVALUATION_FILES)
