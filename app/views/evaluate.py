"""Evaluate: the figures of a finished run, each with its interval and its cases."""

import streamlit as st

from app.components.calibration import draw_calibration
from app.components.cutoff_bench import draw_bench
from app.components.error_cards import draw_errors
from app.components.figures import draw_figures, draw_warnings
from app.components.frame import escape, show_error
from app.components.other_set import draw_other_set
from app.components.take_away import draw_take_away
from app.places import runs_folder
from bc_model.errors import BcModelError
from bc_model.evaluation.report import Report, read_report
from bc_model.serving.bundle import Bundle, open_bundle
from bc_model.training.run_folder import RunFolder, find_run, list_runs

FIGURES, BENCH, ERRORS = "Figures", "Calibration and cut-off", "Errors"
OTHER_SET, TAKE_AWAY = "Another data set", "Take it with you"
SECTIONS = (FIGURES, BENCH, ERRORS, OTHER_SET, TAKE_AWAY)

st.title("Evaluate", anchor=False)
st.markdown(
    "How a model did on the test part of its split: pictures that it never saw. Research use only."
)


def draw_section(section: str, run: RunFolder, report: Report, bundle: Bundle) -> None:
    if section == OTHER_SET:  # the warnings below are about the model's own test part
        draw_other_set(bundle)
        return
    draw_warnings(report)
    if section == FIGURES:
        draw_figures(report)
    elif section == BENCH:
        st.subheader("Calibration", anchor=False)
        draw_calibration(report, bundle)
        st.subheader("Cut-off", anchor=False)
        draw_bench(run, report, bundle)
    elif section == ERRORS:
        draw_errors(run, report, bundle)
    else:
        draw_take_away(run, report, bundle)


finished = [run.name for run in list_runs(runs_folder()) if run.has_report]
if not finished:
    with st.container(border=True):
        st.subheader("No finished run yet", anchor=False)
        st.markdown("A run evaluates itself on its test part when it ends.")
        st.page_link("views/train.py", label="Go to Train", icon=":material/model_training:")
    st.stop()

wanted = st.query_params.get("evaluated")
if wanted and wanted not in finished:
    st.warning(
        f"The run {escape(wanted)} named in the address has no evaluation here; another one is "
        "chosen."
    )
elif not wanted and (left := st.query_params.get("run")) in finished:
    # A browser's step back from Diagnose comes with that page's parameters.
    st.session_state["evaluated"] = left
    st.session_state["section"] = ERRORS
name = st.selectbox("Run", finished, key="evaluated", bind="query-params")
section = st.segmented_control(
    "Section", SECTIONS, default=FIGURES, required=True, key="section", bind="query-params"
)
if name in finished:
    try:
        chosen = find_run(runs_folder(), name)
        report = read_report(chosen.evaluation_folder)
        draw_section(section or FIGURES, chosen, report, open_bundle(chosen.path))
    except BcModelError as error:
        show_error(error, title="This report cannot be shown")
