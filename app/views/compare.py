"""The page Compare: two to four runs side by side, with tests of their differences."""

import streamlit as st

from app.components.charts import overlaid_curves
from app.components.checks import show_checks
from app.components.compare.comparison import draw_differences, show_config_form, show_metrics
from app.components.layout import escape, show_error, tell_again
from bc_model.checks import make_check
from bc_model.errors import RunError
from bc_model.evaluation import EvaluationReport, read_report
from bc_model.experiments import compare_configs
from bc_model.training import Run, find_run, list_runs, runs_dir

LETTERS = ("A", "B", "C", "D")

st.title("Compare", anchor=False)
st.markdown(
    "Settings, metrics and learning curves of two to four runs, with paired tests of their "
    "differences."
)


def draw_curves(histories: dict[str, list[dict]], letters: list[str]) -> None:
    if not any(histories.values()):
        st.caption("No epoch is finished yet.")
        return
    loss, accuracy = st.columns(2, gap="large")
    for column, metric, title in (
        (loss, "val_loss", "Validation loss"),
        (accuracy, "val_accuracy", "Validation accuracy"),
    ):
        column.altair_chart(
            overlaid_curves(histories, metric, title, letters),
            alt=f"{title} of {len(histories)} runs over the epochs",
        )
    st.caption(
        "Validation curves are not a test: each run selected its best epoch on its own validation "
        "subset."
    )


def read_reports(runs: dict[str, Run]) -> dict[str, EvaluationReport]:
    reports = {}
    for letter, run in runs.items():
        if not run.has_report:
            continue
        try:
            reports[letter] = read_report(run.evaluation_dir)
        except RunError as error:
            show_error(error, title=f"Report of run {letter} not available")
    return reports


every_run = list_runs(runs_dir())
finished = [run.name for run in every_run if run.has_report]
if len(every_run) < 2:
    with st.container(border=True):
        st.header("Fewer than two runs", anchor=False)
        st.markdown("Train a second run with a changed setting to compare the two.")
        st.page_link("views/train.py", label="Go to Train", icon=":material/model_training:")
    st.stop()

options = [run.name for run in every_run]
if "compared" not in st.query_params:
    newest = (finished if len(finished) > 1 else options)[:2]
    # The default of the widget would not be written to the URL, and would select other runs as
    # soon as newer ones exist.
    st.session_state.setdefault("compared", newest[::-1])
tell_again("compared", options)
names = st.multiselect(
    "Runs",
    options,
    key="compared",
    bind="query-params",
    max_selections=len(LETTERS),
    placeholder="Select two to four runs",
    help="The first run is the reference for all differences.",
)
if len(names) < 2:
    st.info("Select at least two runs.", icon=":material/info:")
    st.stop()

letters = list(LETTERS[: len(names)])
try:
    runs = {letter: find_run(runs_dir(), name) for letter, name in zip(letters, names, strict=True)}
    histories = {run.name: run.read_history() for run in runs.values()}
    config = compare_configs(list(runs.values()))
except RunError as error:
    show_error(error, title="Run not available")
    st.stop()
headings = {letter: f"{letter}: {run.name}" for letter, run in runs.items()}
st.caption("  \n".join(f"**{letter}** {escape(run.name)}" for letter, run in runs.items()))
unfinished = [letter for letter, run in runs.items() if not run.has_report]
if unfinished:
    st.info(
        f"Without an evaluation: {', '.join(unfinished)}. Only settings and curves are compared.",
        icon=":material/info:",
    )

reports = read_reports(runs)
if len(reports) > 1:
    st.header("Differences", anchor=False)
    draw_differences({letter: runs[letter] for letter in reports})
if reports:
    st.header("Test metrics", anchor=False)
    if len(reports) == 1:  # The checks of several runs are shown with their differences.
        show_checks(
            make_check("BC221", run=one) for one, found in reports.items() if found.has_leakage
        )
    show_metrics(reports)

st.header("Validation curves", anchor=False)
draw_curves(histories, letters)

title, toggle = st.columns([3, 1], vertical_alignment="center")
title.header("Settings", anchor=False)
show_all = toggle.toggle(
    "Show all", key="all_settings", help="Also show the settings that are equal."
)
show_config_form(config, list(headings.values()), show_all=show_all)
