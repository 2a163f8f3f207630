"""Page Compare: two to four runs side by side, with tests of their differences."""

import streamlit as st

from app.components.charts import chart_runs
from app.components.checks import show_checks
from app.components.compare.comparison import show_config, show_differences, show_metrics
from app.components.layout import (
    escape_markdown,
    keep_selection,
    show_action_error,
    show_error,
)
from app.components.run_widgets import show_delete
from bc_model.checks import make_check
from bc_model.errors import RunError
from bc_model.evaluation import EvaluationReport, read_report
from bc_model.experiments import compare_configs
from bc_model.training import Run, find_run, list_runs, runs_dir

LETTERS = ("A", "B", "C", "D")

st.title("Compare", anchor=False)
st.markdown(
    "Configuration, metrics and learning curves of two to four runs, with paired differences."
)


def show_curves(histories: dict[str, list[dict]], letters: list[str]) -> None:
    """Show the validation curves of the runs side by side."""
    if not any(histories.values()):
        st.caption("No epoch is finished yet.")
        return
    loss, accuracy = st.columns(2, gap="large")
    for column, metric, title in (
        (loss, "val_loss", "Validation loss"),
        (accuracy, "val_accuracy", "Validation accuracy"),
    ):
        column.altair_chart(
            chart_runs(histories, metric, title, letters),
            alt=f"{title} of {len(histories)} runs over the epochs",
        )
    st.caption("Each run selected its best epoch on its own validation subset.")


def read_reports(runs: dict[str, Run]) -> dict[str, EvaluationReport]:
    """Return the readable reports by run letter, and show an error for the others."""
    reports = {}
    for letter, run in runs.items():
        if not run.has_report:
            continue
        try:
            reports[letter] = read_report(run.evaluation_dir)
        except RunError as error:
            show_error(error, title=f"Report of run {letter} not available")
    return reports


show_action_error()
all_runs = list_runs(runs_dir())
if len(all_runs) < 2:
    with st.container(border=True):
        st.header("Fewer than two runs", anchor=False)
        st.markdown("Train a second run with another configuration.")
        st.page_link("views/train.py", label="Open Train", icon=":material/model_training:")
    st.stop()

options = [run.name for run in all_runs]
if "compared" not in st.query_params:
    finished = [run.name for run in all_runs if run.has_report]
    newest = (finished if len(finished) > 1 else options)[:2]
    # The default of the widget would not be written to the URL, and would select other runs as
    # soon as newer ones exist.
    st.session_state.setdefault("compared", newest[::-1])
keep_selection("compared", options)
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

histories = {}
for name in names:
    try:
        run = find_run(runs_dir(), name)
        run.read_config()  # A damaged run is left out of the comparison.
    except RunError as error:
        show_error(error, title=f"Run {name} not available")
        show_delete(Run(runs_dir() / name))
        continue
    try:
        histories[name] = run.read_history()
    except RunError as error:
        show_error(error, title=f"Curves of run {name} not available")
        show_delete(run)
        histories[name] = []
if len(histories) < 2:
    st.info("Select at least two readable runs.", icon=":material/info:")
    st.stop()
letters = list(LETTERS[: len(histories)])
runs = {letter: Run(runs_dir() / name) for letter, name in zip(letters, histories, strict=True)}
config = compare_configs(list(runs.values()))
headings = {letter: f"{letter}: {run.name}" for letter, run in runs.items()}
st.caption("  \n".join(f"**{letter}** {escape_markdown(run.name)}" for letter, run in runs.items()))
unfinished = [letter for letter, run in runs.items() if not run.has_report]
if unfinished:
    st.info(
        f"Without an evaluation: {', '.join(unfinished)}. Only options and curves are compared.",
        icon=":material/info:",
    )

reports = read_reports(runs)
if len(reports) > 1:
    st.header("Differences", anchor=False)
    show_differences({letter: runs[letter] for letter in reports})
if reports:
    st.header("Test metrics", anchor=False)
    if len(reports) == 1:  # The checks of several runs are shown with their differences.
        show_checks(
            make_check("BC221", run=letter)
            for letter, report in reports.items()
            if report.has_leakage
        )
    show_metrics(reports)

st.header("Validation curves", anchor=False)
show_curves(histories, letters)

title, toggle = st.columns([3, 1], vertical_alignment="center")
title.header("Configuration", anchor=False)
show_all = toggle.toggle("Show all", key="all_options", help="Also show options with equal values.")
show_config(config, list(headings.values()), show_all=show_all)
