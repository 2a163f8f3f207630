"""Evaluate: the figures of a finished run, each with its interval and its cases."""

import streamlit as st

from app.components.charts import confusion_chart, roc_chart
from app.components.frame import escape, show_error
from app.places import runs_folder
from bc_model.errors import RunError
from bc_model.evaluation.report import Report, read_report
from bc_model.training.run_folder import RunFolder, find_run, list_runs

FIGURE_WORDS = {
    "balanced_accuracy": ("Balanced accuracy", "Mean of sensitivity and specificity."),
    "sensitivity": ("Sensitivity", "Share of malignant pictures called malignant."),
    "specificity": ("Specificity", "Share of benign pictures called benign."),
    "roc_auc": ("ROC AUC", "Chance that a malignant picture ranks above a benign one."),
    "accuracy": ("Accuracy", "Share of pictures called right; compare it with the base rate."),
    "log_loss": ("Loss", "Cross-entropy of the estimated probabilities; lower is better."),
}

st.title("Evaluate", anchor=False)
st.markdown(
    "How a model did on the test part of its split: pictures that it never saw. Intervals are "
    "95 % by bootstrap over cases."
)


def draw_figures(report: Report) -> None:
    rows = []
    for name, (title, meaning) in FIGURE_WORDS.items():
        figure = report.figures[name]
        interval = "-" if figure.low is None else f"{figure.low:.2f} to {figure.high:.2f}"
        rows.append(
            {
                "Figure": title,
                "Value": "not defined" if figure.value is None else f"{figure.value:.2f}",
                "95 % interval": interval,
                "Pictures": figure.n,
                "Cases": str(figure.n_cases or "unknown"),
                "Meaning": meaning,
            }
        )
    st.dataframe(rows, hide_index=True, alt="Figures with interval, pictures and cases")
    for name, (title, _) in FIGURE_WORDS.items():
        figure = report.figures[name]
        if figure.note:
            # A figure may have an interval and still something to be said of it.
            missing = "no interval, " if figure.value is not None and figure.low is None else ""
            st.caption(f"{title}: {missing}{escape(figure.note)}.")
    st.caption(
        f"Calling all {report.n} pictures malignant would be right for "
        f"{report.always_malignant_accuracy:.0%} of them. Cut-off {report.threshold:.2f}."
    )


def draw_report(run: RunFolder, report: Report) -> None:
    sentences = "\n".join(f"- {escape(sentence)}" for sentence in report.warnings)
    if report.leaky:
        st.error(sentences, title=f"Leaky protocol: {escape(report.protocol)}")
    elif sentences:
        st.warning(sentences)
    draw_figures(report)
    matrix, curve = st.columns(2, gap="large")
    with matrix:
        st.subheader("Confusion matrix", anchor=False)
        (tn, fp), (fn, tp) = report.confusion
        st.altair_chart(
            confusion_chart(report),
            alt=f"Benign: {tn} called benign, {fp} malignant. Malignant: {fn} called benign, "
            f"{tp} malignant.",
        )
    with curve:
        st.subheader("ROC curve", anchor=False)
        if report.roc is None:
            st.info("Not defined: the test part holds one class only.", icon=":material/info:")
        else:
            st.altair_chart(roc_chart(report), alt="Sensitivity against 1 - specificity")
            st.caption("The dot is the cut-off in use; the dashed line is chance.")
    st.subheader("Take it with you", anchor=False)
    names = ("report.json", "predictions.csv", "confusion.png", "roc.png")
    for column, name in zip(st.columns(4), names, strict=True):
        column.download_button(
            name,
            (run.evaluation_folder / name).read_bytes,
            file_name=f"{run.name}-{name}",
            key=f"save-{name}",
            icon=":material/download:",
            width="stretch",
        )


finished = [run.name for run in list_runs(runs_folder()) if run.has_report]
if not finished:
    with st.container(border=True):
        st.subheader("No finished run yet", anchor=False)
        st.markdown("A run evaluates itself on its test part when it ends.")
        st.page_link("views/train.py", label="Go to Train", icon=":material/model_training:")
    st.stop()

name = st.selectbox("Run", finished, key="evaluated", bind="query-params")
if name in finished:
    try:
        chosen = find_run(runs_folder(), name)
        draw_report(chosen, read_report(chosen.evaluation_folder))
    except RunError as error:
        show_error(error, title="This report cannot be shown")
