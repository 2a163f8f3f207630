"""Threshold selection on validation data, with its effect on test data."""

import pandas as pd
import streamlit as st

from app.components.charts import confusion_chart, confusion_in_words
from app.components.layout import RESEARCH_USE, escape, show_error
from app.components.metric_table import draw_table, stamp_of
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
UNIT_WORDS = {"image": "Image", "case": "Case"}
PREVALENCE_WORDS = {
    "positive": (
        "Positive predictive value",
        "proportion of malignant among predicted malignant",
    ),
    "negative": ("Negative predictive value", "proportion of benign among predicted benign"),
}


def draw_bench(run: Run, report: EvaluationReport, bundle: Bundle) -> None:
    """Draw the selection, or a message if there are no validation predictions."""
    message = st.session_state.pop("threshold-message", None)
    if message:
        st.success(escape(message), icon=":material/lock:")
    threshold = bundle.card.threshold
    reason = f" Reason: {threshold.reason}" if threshold.reason else ""
    st.markdown(
        f"Current threshold: **{bundle.threshold:.3f}**, {escape(threshold.method)}."
        f"{escape(reason)}"
    )
    try:
        validation = read_validation_predictions(run.evaluation_dir)
    except RunError:
        st.info(
            "This run has no validation predictions. Train the model again to select a threshold.",
            icon=":material/info:",
        )
        return
    _draw_choice(run, report, bundle, validation)


@st.fragment
def _draw_choice(
    run: Run, report: EvaluationReport, bundle: Bundle, validation: pd.DataFrame
) -> None:
    criterion_column, wish_column, unit_column = st.columns([4, 4, 3], gap="medium")
    criterion = criterion_column.selectbox(
        "Criterion", list(CRITERION_LABELS), format_func=CRITERION_LABELS.__getitem__, key="goal"
    )
    target = wish_column.slider(
        "Target sensitivity",
        0.50,
        1.0,
        0.95,
        0.01,
        key="wanted",
        disabled=criterion != "sensitivity",
        help="The highest threshold that reaches it on validation data is selected.",
    )
    unit = unit_column.segmented_control(
        "Unit",
        list(UNIT_WORDS),
        default="image",
        format_func=UNIT_WORDS.__getitem__,
        required=True,
        key="unit",
        help="Classify single images, or cases by the mean probability of their images.",
    )
    try:
        threshold_choice = choose_threshold(
            validation, criterion=criterion, target=target, unit=unit or "image"
        )
        trial = _trial(
            str(run.path),
            stamp_of(run),
            threshold_choice.value,
            threshold_choice.unit,
            report.predictions,
        )
    except BcModelError as error:
        show_error(error, title="No threshold found")
        return
    st.markdown(
        f"Selected threshold: **{threshold_choice.value:.3f}**. {escape(_sentence(threshold_choice.method))}"
    )
    _draw_trial(trial)
    _draw_prevalence(trial)
    _draw_lock(bundle, threshold_choice)


def _draw_trial(trial: ThresholdResult) -> None:
    st.subheader("Test results", anchor=False)
    matrix, table = st.columns([2, 3], gap="large")
    with matrix:
        st.altair_chart(confusion_chart(trial.confusion), alt=confusion_in_words(trial.confusion))
        st.caption("Number of cases." if trial.unit == "case" else "Number of images.")
    with table:
        words = CASE_METRIC_LABELS if trial.unit == "case" else METRIC_LABELS
        (tn, fp), (fn, tp) = trial.confusion
        malignant_proportion = (fn + tp) / (tn + fp + fn + tp)
        draw_table(trial.metrics, words, malignant_proportion, meanings=False)
        st.caption("The test subset was not used for the selection.")


def _draw_prevalence(trial: ThresholdResult) -> None:
    st.subheader("Predictive values", anchor=False)
    percent = st.slider(
        "Prevalence of malignancy, %",
        1,
        99,
        30,
        key="prevalence",
        help="Proportion of malignant cases in the intended setting; lower than in most test data.",
    )
    values = predictive_values(
        trial.metrics["sensitivity"], trial.metrics["specificity"], percent / 100
    )
    draw_table(values, PREVALENCE_WORDS)
    st.caption(
        f"Computed from test sensitivity and specificity with Bayes' theorem. {RESEARCH_USE}"
    )


def _draw_lock(bundle: Bundle, threshold_choice: ThresholdChoice) -> None:
    st.subheader("Set the threshold", anchor=False)
    st.markdown(
        "The page Classify then uses this threshold, and the report is recomputed. Do not select a "
        "threshold by its test metrics, because they would overestimate performance."
    )
    if threshold_choice.unit == "case":
        st.caption("It was selected for cases, but the page Classify applies it to single images.")
    with st.form("lock", border=False):
        reason = st.text_input(
            "Reason",
            key="reason",
            max_chars=300,
            placeholder="At least 95 % of malignant images must be detected",
            help="Stored in the model card with the threshold.",
        )
        wants = st.form_submit_button(
            "Set threshold", key="lock-cutoff", type="primary", icon=":material/lock:"
        )
    if not wants:
        return
    try:
        set_threshold(bundle, threshold_choice.value, reason, threshold_choice=threshold_choice)
        if (folder := find_evaluation_dir(bundle)) is not None:
            from bc_model.reporting import write_plots

            write_plots(read_report(folder), folder)
    except BcModelError as error:
        show_error(error, title="Threshold not set")
        return
    st.session_state["threshold-message"] = (
        f"Threshold {threshold_choice.value:.3f} is stored in the model card of {bundle.label} and used "
        "on the page Classify."
    )
    st.rerun()


@st.cache_data(max_entries=200, show_spinner="Evaluating on test data")
def _trial(
    path: str, stamp: tuple[int, ...], value: float, unit: str, _predictions: pd.DataFrame | None
) -> ThresholdResult:
    assert _predictions is not None, "read_report reads the predictions or fails"
    return evaluate_threshold(_predictions, value, unit=unit)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
