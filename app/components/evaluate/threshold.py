"""Threshold selection on validation data, with its effect on test data."""

import pandas as pd
import streamlit as st

from app.components.action_log import perform_logged
from app.components.charts import chart_confusion, describe_confusion
from app.components.layout import RESEARCH_USE, escape_markdown, make_fragment, show_error
from app.components.metric_table import (
    EvaluationStamp,
    read_evaluation_stamp,
    show_metric_table,
)
from bc_model.errors import BcModelError, RunError
from bc_model.evaluation import (
    EvaluationReport,
    ThresholdChoice,
    ThresholdResult,
    choose_threshold,
    evaluate_threshold,
    find_evaluation_dir,
    predictive_values,
    read_report,
    read_validation_predictions,
    set_threshold,
)
from bc_model.inference import Bundle
from bc_model.reporting import CASE_METRIC_LABELS, METRIC_LABELS
from bc_model.training import Run

CRITERION_LABELS = {
    "sensitivity": "Target sensitivity",
    "youden": "Youden index",
    "balanced": "Equal error rates",
}
UNIT_LABELS = {"image": "Image", "case": "Case"}
PREDICTIVE_VALUE_LABELS = {
    "positive": (
        "Positive predictive value",
        "proportion of malignant among predicted malignant",
    ),
    "negative": ("Negative predictive value", "proportion of benign among predicted benign"),
}


def show_threshold(run: Run, report: EvaluationReport, bundle: Bundle) -> None:
    """Show the selection, or a message if there are no validation predictions."""
    message = st.session_state.pop("threshold-message", None)
    if message:
        st.success(escape_markdown(message), icon=":material/lock:")
    threshold = bundle.card.threshold
    reason = f" Reason: {threshold.reason}" if threshold.reason else ""
    st.markdown(
        f"Current threshold: **{bundle.threshold:.3f}**, {escape_markdown(threshold.method)}."
        f"{escape_markdown(reason)}"
    )
    try:
        validation = read_validation_predictions(run.evaluation_dir)
    except RunError:
        st.info(
            "This run has no validation predictions. Train it again to select a threshold.",
            icon=":material/info:",
        )
        return
    _show_choice(run, report, bundle, validation)


@make_fragment
def _show_choice(
    run: Run, report: EvaluationReport, bundle: Bundle, validation: pd.DataFrame
) -> None:
    criterion_column, target_column, unit_column = st.columns([4, 4, 3], gap="medium")
    criterion = criterion_column.selectbox(
        "Criterion",
        list(CRITERION_LABELS),
        format_func=CRITERION_LABELS.__getitem__,
        key="criterion",
    )
    target = target_column.slider(
        "Target sensitivity",
        0.50,
        1.0,
        0.95,
        0.01,
        key="target",
        disabled=criterion != "sensitivity",
        help="The highest threshold that reaches this sensitivity on validation data is selected.",
    )
    unit = unit_column.segmented_control(
        "Unit",
        list(UNIT_LABELS),
        default="image",
        format_func=UNIT_LABELS.__getitem__,
        required=True,
        key="unit",
        help="Single images, or cases by the mean probability of their images.",
    )
    try:
        choice = choose_threshold(
            validation, criterion=criterion, target=target, unit=unit or "image"
        )
        trial = _trial(
            str(run.path),
            read_evaluation_stamp(run),
            choice.value,
            choice.unit,
            report.predictions,
        )
    except BcModelError as error:
        show_error(error, title="No threshold found")
        return
    st.markdown(
        f"Selected threshold: **{choice.value:.3f}**. "
        f"{escape_markdown(_capitalize(choice.method))}."
    )
    _show_trial(trial)
    _show_prevalence(trial)
    _show_set_threshold(bundle, choice)


def _show_trial(trial: ThresholdResult) -> None:
    st.subheader("Test results", anchor=False)
    matrix, table = st.columns([2, 3], gap="large")
    with matrix:
        st.altair_chart(chart_confusion(trial.confusion), alt=describe_confusion(trial.confusion))
        st.caption("Number of cases." if trial.unit == "case" else "Number of images.")
    with table:
        labels = CASE_METRIC_LABELS if trial.unit == "case" else METRIC_LABELS
        (tn, fp), (fn, tp) = trial.confusion
        malignant_proportion = (fn + tp) / (tn + fp + fn + tp)
        show_metric_table(trial.metrics, labels, malignant_proportion, has_meanings=False)
        st.caption("The test subset was not used for the selection.")


def _show_prevalence(trial: ThresholdResult) -> None:
    st.subheader("Predictive values", anchor=False)
    percent = st.slider(
        "Prevalence, %",
        1,
        99,
        30,
        key="prevalence",
        help="Proportion of malignant cases in the intended setting.",
    )
    values = predictive_values(
        trial.metrics["sensitivity"], trial.metrics["specificity"], percent / 100
    )
    show_metric_table(values, PREDICTIVE_VALUE_LABELS)
    st.caption(
        f"Computed from test sensitivity and specificity with Bayes' theorem. {RESEARCH_USE}"
    )


def _show_set_threshold(bundle: Bundle, choice: ThresholdChoice) -> None:
    st.subheader("Set the threshold", anchor=False)
    st.markdown(
        "The page Classify then uses this threshold, and the report is recomputed. A threshold "
        "that is selected by its test metrics overestimates performance."
    )
    if choice.unit == "case":
        st.caption("It is selected for cases, but the page Classify applies it to single images.")
    with st.form("threshold", border=False):
        reason = st.text_input(
            "Reason",
            key="reason",
            max_chars=300,
            placeholder="At least 95 % of malignant images must be detected",
            help="Stored in the model card with the threshold.",
        )
        is_submitted = st.form_submit_button(
            "Set threshold", key="set-threshold", type="primary", icon=":material/lock:"
        )
    if not is_submitted:
        return
    try:
        perform_logged(
            "Set threshold",
            bundle.label,
            lambda: set_threshold(bundle, choice.value, reason, threshold_choice=choice),
            value=f"{choice.value:.6g}",
        )
        if (folder := find_evaluation_dir(bundle)) is not None:
            from bc_model.reporting import write_plots

            write_plots(read_report(folder), folder)
    except BcModelError as error:
        show_error(error, title="Threshold not set")
        return
    st.session_state["threshold-message"] = (
        f"Threshold {choice.value:.3f} is stored in the model card of {bundle.label} and used on "
        "the page Classify."
    )
    st.rerun()


@st.cache_data(max_entries=200, show_spinner="Evaluating on test data")
def _trial(
    path: str,
    stamp: EvaluationStamp,
    value: float,
    unit: str,
    _predictions: pd.DataFrame | None,
) -> ThresholdResult:
    assert _predictions is not None, "read_report reads the predictions or fails"
    return evaluate_threshold(_predictions, value, unit=unit)


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
