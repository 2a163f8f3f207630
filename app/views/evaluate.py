"""Page Evaluate: the metrics of a finished run, or of the bundled model."""

from pathlib import Path

import streamlit as st

from app.components.checks import show_checks
from app.components.evaluate.calibration import show_calibration
from app.components.evaluate.error_gallery import show_errors
from app.components.evaluate.external_dataset import show_external_dataset
from app.components.evaluate.threshold import show_threshold
from app.components.layout import escape_markdown, format_list, show_action_error, show_error
from app.components.metric_table import show_metrics, show_summary
from app.components.model_picker import list_cross_validated, report_cross_validation
from app.components.report_downloads import show_export
from app.components.run_widgets import show_delete
from app.components.selective import show_selective_report
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


def show_section(section: str, report: EvaluationReport, bundle: Bundle, run: Run | None) -> None:
    """Show one section of the page; `run` is None for the bundled model."""
    if section == EXTERNAL:  # The checks below describe the images of the model itself.
        show_external_dataset(bundle)
        return
    # The info checks of a cross-validation describe its method; they are shown below the metrics.
    checks = [check for check in report.checks if run or check.severity != Severity.INFO]
    if section == METRICS:
        show_summary(report, name_source(run))
        show_checks(checks)
        if run is None:
            show_method(report)
        show_metrics(report)
        return
    show_checks(checks)
    if section in (CALIBRATION, THRESHOLD):
        st.header("Calibration", anchor=False)
        show_calibration(report, bundle)
        st.header("Uncertain predictions", anchor=False)
        show_selective_report(report, bundle)
    elif section == EXPORT:
        show_export(report, bundle)
    if run and section == THRESHOLD:
        st.header("Decision threshold", anchor=False)
        show_threshold(run, report, bundle)
    elif run and section == ERRORS:
        show_errors(run, report, bundle)


def name_source(run: Run | None) -> str:
    """Return the evaluated subset and its dataset."""
    if run is None:
        return "cross-validation of the bundled model"
    return f"test subset of {Path(run.read_training_config().data).name}"


def show_method(report: EvaluationReport) -> None:
    """Show the method of a cross-validation in one line, with details on demand."""
    st.caption("Each image is predicted by a model that was trained without its case.")
    details = [check.message for check in report.checks if check.severity == Severity.INFO]
    if details:
        with st.expander("Method", icon=":material/info:"):
            st.markdown(format_list(details))


show_action_error()
finished = [run.name for run in list_runs(runs_dir()) if run.has_report]
cross_validated = list_cross_validated()
if not finished and not cross_validated:
    with st.container(border=True):
        st.header("No finished run", anchor=False)
        st.markdown("A run is evaluated on its test subset when it finishes.")
        st.page_link("views/train.py", label="Open Train", icon=":material/model_training:")
    st.stop()

target = st.query_params.get("evaluated")
if target and target not in (*finished, *cross_validated):
    st.warning(f"No evaluation of '{escape_markdown(target)}' was found. Another run is selected.")
elif not target and (previous := st.query_params.get("run")) in finished:
    # The back button of the browser returns from Classify with the parameters of that page.
    st.session_state["evaluated"] = previous
    st.session_state["section"] = ERRORS
name = st.selectbox(
    "Run or model",
    [*finished, *cross_validated],
    key="evaluated",
    bind="query-params",
    help="Finished runs, newest first, and the bundled model.",
)
if not finished:
    st.caption("No run has finished yet; the bundled model is shown.")
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
        show_section(section or METRICS, report_cross_validation(bundle), bundle, None)
    elif name in finished:
        chosen = find_run(runs_dir(), name)
        report = read_report(chosen.evaluation_dir)
        show_section(section or METRICS, report, open_bundle(chosen.path), chosen)
except BcModelError as error:
    show_error(error, title="Report not available")
    if name in finished:
        show_delete(Run(runs_dir() / name))
