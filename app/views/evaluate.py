"""The page Evaluate: the metrics of a finished run, or of the bundled model."""

from pathlib import Path

import streamlit as st

from app.components.checks import show_checks
from app.components.evaluate.calibration import draw_calibration
from app.components.evaluate.error_gallery import draw_errors
from app.components.evaluate.external_dataset import show_external_dataset
from app.components.evaluate.threshold import draw_bench
from app.components.layout import escape, listed, show_error
from app.components.metric_table import draw_summary, show_metrics
from app.components.model_picker import cross_validated_models, report_of_cross_validation
from app.components.report_downloads import draw_take_away
from bc_model.checks import Severity
from bc_model.errors import BcModelError
from bc_model.evaluation import EvaluationReport, read_report
from bc_model.inference import Bundle, open_bundle
from bc_model.training import Run, find_run, list_runs, runs_dir

METRICS, THRESHOLD, CALIBRATION = "Metrics", "Calibration and threshold", "Calibration"
ERRORS, EXTERNAL, EXPORT = "Errors", "External dataset", "Export"
RUN_SECTIONS = (METRICS, THRESHOLD, ERRORS, EXTERNAL, EXPORT)
CROSS_VALIDATED_SECTIONS = (METRICS, CALIBRATION, EXTERNAL, EXPORT)

st.title("Evaluate", anchor=False)
st.markdown("Performance on images that were not used for training. Research use only.")


def draw_section(section: str, report: EvaluationReport, bundle: Bundle, run: Run | None) -> None:
    if section == EXTERNAL:  # the warnings below describe the model's own images
        show_external_dataset(bundle)
        return
    # The notes of a cross-validation describe its method; they have their own place below.
    show_checks(
        check for check in report.checks if run is not None or check.severity != Severity.INFO
    )
    if section == METRICS:
        draw_summary(report, name_source(run))
        if run is None:
            draw_method(report)
        show_metrics(report)
    elif section in (CALIBRATION, THRESHOLD):
        st.header("Calibration", anchor=False)
        draw_calibration(report, bundle)
    elif section == EXPORT:
        draw_take_away(report, bundle)
    if run and section == THRESHOLD:
        st.header("Decision threshold", anchor=False)
        draw_bench(run, report, bundle)
    elif run and section == ERRORS:
        draw_errors(run, report, bundle)


def name_source(run: Run | None) -> str:
    if run is None:
        return "Cross-validation of the bundled model"
    return f"Test subset of {Path(run.read_config()['config']['data']).name}"


def draw_method(report: EvaluationReport) -> None:
    st.caption("Each image is predicted by a model that was trained without its case.")
    notes = [check.message for check in report.checks if check.severity == Severity.INFO]
    if notes:
        with st.expander("Details", icon=":material/info:"):
            st.markdown(listed(notes))


finished = [run.name for run in list_runs(runs_dir()) if run.has_report]
cross_validated = cross_validated_models()
if not finished and not cross_validated:
    with st.container(border=True):
        st.header("No finished run", anchor=False)
        st.markdown(
            "Each run is evaluated on its test subset when it finishes. Train a model first."
        )
        st.page_link("views/train.py", label="Go to Train", icon=":material/model_training:")
    st.stop()

target = st.query_params.get("evaluated")
if target and target not in (*finished, *cross_validated):
    st.warning(f"No evaluation of '{escape(target)}' was found. Another run is selected.")
elif not target and (left := st.query_params.get("run")) in finished:
    # The back button of the browser returns from Classify with the parameters of that page.
    st.session_state["evaluated"] = left
    st.session_state["section"] = ERRORS
name = st.selectbox(
    "Run or model",
    [*finished, *cross_validated],
    key="evaluated",
    bind="query-params",
    help="Finished runs, newest first, and the bundled model.",
)
if not finished:
    st.caption(
        "No run has finished yet. Each run is evaluated on its test subset when it finishes."
    )
section = st.segmented_control(
    "Section",
    CROSS_VALIDATED_SECTIONS if name in cross_validated else RUN_SECTIONS,
    default=METRICS,
    required=True,
    key="section",
    bind="query-params",
)
try:
    if name in cross_validated:
        bundle = cross_validated[name]
        draw_section(section or METRICS, report_of_cross_validation(bundle), bundle, None)
    elif name in finished:
        chosen = find_run(runs_dir(), name)
        report = read_report(chosen.evaluation_dir)
        draw_section(section or METRICS, report, open_bundle(chosen.path), chosen)
except BcModelError as error:
    show_error(error, title="Report not available")
