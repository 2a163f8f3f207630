"""Evaluate: the figures of a finished run, or of the model that came with the program."""

import streamlit as st

from app.components.calibration import draw_calibration
from app.components.cutoff_bench import draw_bench
from app.components.error_cards import draw_errors
from app.components.figures import draw_figures, draw_warnings
from app.components.frame import escape, show_error
from app.components.models import crossed_models, report_of_crossed
from app.components.other_set import draw_other_set
from app.components.take_away import draw_take_away
from app.places import runs_folder
from bc_model.errors import BcModelError
from bc_model.evaluation.report import Report, read_report
from bc_model.serving.bundle import Bundle, open_bundle
from bc_model.training.run_folder import RunFolder, find_run, list_runs

FIGURES, BENCH, CALIBRATION, ERRORS = "Figures", "Calibration and cut-off", "Calibration", "Errors"
OTHER_SET, TAKE_AWAY = "Another data set", "Take it with you"
OF_RUN = (FIGURES, BENCH, ERRORS, OTHER_SET, TAKE_AWAY)
OF_CROSSED = (FIGURES, CALIBRATION, OTHER_SET, TAKE_AWAY)

st.title("Evaluate", anchor=False)
st.markdown(
    "How a model did on pictures that it never saw: a run on the test part of its split, the model "
    "that came with the program in cross-validation. Research use only."
)


def draw_section(section: str, report: Report, bundle: Bundle, run: RunFolder | None) -> None:
    if section == OTHER_SET:  # the warnings below are about the model's own pictures
        draw_other_set(bundle)
        return
    draw_warnings(report)
    if section == FIGURES:
        draw_figures(report)
    elif section in (CALIBRATION, BENCH):
        st.header("Calibration", anchor=False)
        draw_calibration(report, bundle)
    elif section == TAKE_AWAY:
        draw_take_away(report, bundle)
    if run and section == BENCH:
        st.header("Cut-off", anchor=False)
        draw_bench(run, report, bundle)
    elif run and section == ERRORS:
        draw_errors(run, report, bundle)


finished = [run.name for run in list_runs(runs_folder()) if run.has_report]
crossed = crossed_models()
if not finished and not crossed:
    with st.container(border=True):
        st.header("No finished run yet", anchor=False)
        st.markdown("A run evaluates itself on its test part when it ends.")
        st.page_link("views/train.py", label="Go to Train", icon=":material/model_training:")
    st.stop()

wanted = st.query_params.get("evaluated")
if wanted and wanted not in (*finished, *crossed):
    st.warning(
        f"{escape(wanted)}, named in the address, has no evaluation here; another one is chosen."
    )
elif not wanted and (left := st.query_params.get("run")) in finished:
    # A browser's step back from Diagnose comes with that page's parameters.
    st.session_state["evaluated"] = left
    st.session_state["section"] = ERRORS
name = st.selectbox(
    "Run or model",
    [*finished, *crossed],
    key="evaluated",
    bind="query-params",
    help="Finished runs, newest first, and the model that came with the program.",
)
if not finished:
    st.caption(
        "No run of yours is finished yet; a run evaluates itself on its test part when it ends."
    )
section = st.segmented_control(
    "Section",
    OF_CROSSED if name in crossed else OF_RUN,
    default=FIGURES,
    required=True,
    key="section",
    bind="query-params",
)
try:
    if name in crossed:
        bundle = crossed[name]
        draw_section(section or FIGURES, report_of_crossed(bundle), bundle, None)
    elif name in finished:
        chosen = find_run(runs_folder(), name)
        report = read_report(chosen.evaluation_folder)
        draw_section(section or FIGURES, report, open_bundle(chosen.path), chosen)
except BcModelError as error:
    show_error(error, title="This report cannot be shown")
