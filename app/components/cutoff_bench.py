"""The cut-off bench: choose on validation data, see it on test data, lock it into the passport."""

import pandas as pd
import streamlit as st

from app.components.figures import draw_table
from app.components.frame import RESEARCH_USE, escape, show_error
from app.components.report_charts import confusion_chart, confusion_in_words
from app.components.reports import stamp_of
from bc_model.errors import BcModelError, RunError
from bc_model.evaluation.combined import predictive_values
from bc_model.evaluation.cutoff import Cutoff, Trial, choose_cutoff, try_cutoff
from bc_model.evaluation.lock import lock_threshold
from bc_model.evaluation.report import Report
from bc_model.evaluation.validation import read_validation
from bc_model.export.words import CASE_WORDS, FIGURE_WORDS
from bc_model.serving.bundle import Bundle
from bc_model.training.run_folder import RunFolder

GOAL_WORDS = {
    "sensitivity": "A wanted sensitivity",
    "youden": "Largest sum of both (Youden)",
    "balanced": "Sensitivity equal to specificity",
}
UNIT_WORDS = {"picture": "Picture", "case": "Case"}
PREVALENCE_WORDS = {
    "positive": (
        "Positive predictive value",
        "of those called malignant, the share that is malignant",
    ),
    "negative": ("Negative predictive value", "of those called benign, the share that is benign"),
}


def draw_bench(run: RunFolder, report: Report, bundle: Bundle) -> None:
    """Draw the bench; without validation predictions, say how to get them."""
    said = st.session_state.pop("lock-said", None)
    if said:
        st.success(escape(said), icon=":material/lock:")
    threshold = bundle.passport["threshold"]
    reason = f" Reason: {threshold['reason']}" if threshold.get("reason") else ""
    st.markdown(
        f"In force: **{bundle.threshold:.3f}**, {escape(threshold['chosen'])}.{escape(reason)}"
    )
    try:
        validation = read_validation(run.evaluation_folder)
    except RunError as error:
        st.info(escape(str(error)), icon=":material/info:")
        return
    _draw_choice(run, report, bundle, validation)


@st.fragment
def _draw_choice(run: RunFolder, report: Report, bundle: Bundle, validation: pd.DataFrame) -> None:
    goal_column, wish_column, unit_column = st.columns([4, 4, 3], gap="medium")
    goal = goal_column.selectbox(
        "Goal", list(GOAL_WORDS), format_func=GOAL_WORDS.__getitem__, key="goal"
    )
    wanted = wish_column.slider(
        "Wanted sensitivity",
        0.50,
        1.0,
        0.95,
        0.01,
        key="wanted",
        disabled=goal != "sensitivity",
        help="The highest cut-off that reaches it on validation data is taken.",
    )
    unit = unit_column.segmented_control(
        "Unit",
        list(UNIT_WORDS),
        default="picture",
        format_func=UNIT_WORDS.__getitem__,
        required=True,
        key="unit",
        help="What is called malignant: a picture, or a case by the mean of its pictures.",
    )
    try:
        cutoff = choose_cutoff(validation, goal=goal, wanted=wanted, unit=unit or "picture")
        trial = _trial(str(run.path), stamp_of(run), cutoff.value, cutoff.unit, report.predictions)
    except BcModelError as error:
        show_error(error, title="No cut-off can be chosen")
        return
    st.markdown(f"Chosen: **{cutoff.value:.3f}**. {escape(_sentence(cutoff.chosen))}")
    _draw_trial(trial)
    _draw_prevalence(trial)
    _draw_lock(bundle, cutoff)


def _draw_trial(trial: Trial) -> None:
    st.header("What it does on test data", anchor=False)
    matrix, table = st.columns([2, 3], gap="large")
    with matrix:
        st.altair_chart(confusion_chart(trial.confusion), alt=confusion_in_words(trial.confusion))
        st.caption("Cases." if trial.unit == "case" else "Pictures.")
    with table:
        words = CASE_WORDS if trial.unit == "case" else FIGURE_WORDS
        (tn, fp), (fn, tp) = trial.confusion
        base_rate = (fn + tp) / (tn + fp + fn + tp)
        draw_table(trial.figures, words, base_rate, meanings=False)
        st.caption("The test part had no say in the choice.")


def _draw_prevalence(trial: Trial) -> None:
    st.header("What a verdict would be worth", anchor=False)
    percent = st.slider(
        "Share of malignant ones where it would be used, %",
        1,
        99,
        30,
        key="prevalence",
        help="Test data hold far more malignant pictures than most places do.",
    )
    values = predictive_values(
        trial.figures["sensitivity"], trial.figures["specificity"], percent / 100
    )
    draw_table(values, PREVALENCE_WORDS)
    st.caption(f"By Bayes, from sensitivity and specificity on test data. {RESEARCH_USE}")


def _draw_lock(bundle: Bundle, cutoff: Cutoff) -> None:
    st.header("Lock it", anchor=False)
    st.markdown(
        "Diagnose then calls by this cut-off, and the report is computed anew with it. Choose by "
        "the goal, not by the test figures above: a cut-off picked by those flatters them."
    )
    if cutoff.unit == "case":
        st.caption("It was chosen for the mean of a case; Diagnose applies it to single pictures.")
    with st.form("lock", border=False):
        reason = st.text_input(
            "Reason",
            key="reason",
            max_chars=300,
            placeholder="No more than one in twenty malignant pictures may be missed",
            help="It is kept in the model's passport beside the cut-off.",
        )
        wants = st.form_submit_button(
            "Lock this cut-off", key="lock-cutoff", type="primary", icon=":material/lock:"
        )
    if not wants:
        return
    try:
        lock_threshold(bundle, cutoff.value, reason, cutoff=cutoff)
    except BcModelError as error:
        show_error(error, title="The cut-off was not locked")
        return
    st.session_state["lock-said"] = (
        f"The cut-off {cutoff.value:.3f} is locked into the passport of {bundle.label}. Diagnose "
        "uses it from now on."
    )
    st.rerun()


@st.cache_data(max_entries=200, show_spinner="Trying it on test data")
def _trial(
    path: str, stamp: tuple[int, ...], value: float, unit: str, _predictions: pd.DataFrame | None
) -> Trial:
    assert _predictions is not None, "read_report reads the predictions or fails"
    return try_cutoff(_predictions, value, unit=unit)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
