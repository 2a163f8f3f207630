"""Compare: two to four runs side by side, and whether what differs is more than chance."""

import streamlit as st

from app.components.comparison import draw_differences, draw_figures, draw_settings
from app.components.frame import escape, show_error, tell_again
from app.components.overlaid import overlaid_curves
from app.places import runs_folder
from bc_model.errors import RunError
from bc_model.evaluation.compare_runs import setting_rows
from bc_model.evaluation.report import Report, read_report
from bc_model.training.run_folder import RunFolder, find_run, list_runs

LETTERS = ("A", "B", "C", "D")

st.title("Compare", anchor=False)
st.markdown(
    "What two to four runs did differently, and whether their figures differ by more than chance."
)


def draw_curves(histories: dict[str, list[dict]], letters: list[str]) -> None:
    if not any(histories.values()):
        st.caption("No epoch has ended yet.")
        return
    loss, accuracy = st.columns(2, gap="large")
    for place, figure, title in (
        (loss, "val_loss", "Validation loss"),
        (accuracy, "val_accuracy", "Validation accuracy"),
    ):
        place.altair_chart(
            overlaid_curves(histories, figure, title, letters),
            alt=f"{title} of {len(histories)} runs over the epochs",
        )
    st.caption(
        "Curves of runs with other splits rest on other validation pictures. They are no test: "
        "each run chose its best epoch by them."
    )


def read_reports(runs: dict[str, RunFolder]) -> dict[str, Report]:
    reports = {}
    for letter, run in runs.items():
        if not run.has_report:
            continue
        try:
            reports[letter] = read_report(run.evaluation_folder)
        except RunError as error:
            show_error(error, title=f"The report of {letter} cannot be shown")
    return reports


every_run = list_runs(runs_folder())
finished = [run.name for run in every_run if run.has_report]
if len(every_run) < 2:
    with st.container(border=True):
        st.header("Fewer than two runs", anchor=False)
        st.markdown("Train a second run with one setting changed, and see here what it changed.")
        st.page_link("views/train.py", label="Go to Train", icon=":material/model_training:")
    st.stop()

options = [run.name for run in every_run]
if "compared" not in st.query_params:
    newest = (finished if len(finished) > 1 else options)[:2]
    # Not the widget's own default: a choice equal to that is left out of the URL, and would mean
    # other runs once there are newer ones.
    st.session_state.setdefault("compared", newest[::-1])
tell_again("compared", options)
names = st.multiselect(
    "Runs",
    options,
    key="compared",
    bind="query-params",
    max_selections=len(LETTERS),
    placeholder="Choose two to four runs",
    help="Differences are told against the first one chosen.",
)
if len(names) < 2:
    st.info("Choose at least two runs.", icon=":material/info:")
    st.stop()

letters = list(LETTERS[: len(names)])
try:
    runs = {
        letter: find_run(runs_folder(), name) for letter, name in zip(letters, names, strict=True)
    }
    histories = {run.name: run.read_history() for run in runs.values()}
    settings = setting_rows(list(runs.values()))
except RunError as error:
    show_error(error, title="One of these runs cannot be shown")
    st.stop()
headings = {letter: f"{letter}: {run.name}" for letter, run in runs.items()}
st.caption("  \n".join(f"**{letter}** {escape(run.name)}" for letter, run in runs.items()))
unfinished = [letter for letter, run in runs.items() if not run.has_report]
if unfinished:
    st.info(
        f"{', '.join(unfinished)} not evaluated yet: compared by settings and curves only.",
        icon=":material/info:",
    )

reports = read_reports(runs)
if len(reports) > 1:
    st.header("Is there a difference?", anchor=False)
    draw_differences({letter: runs[letter] for letter in reports})
if reports:
    st.header("Figures on the test part", anchor=False)
    for letter, report in reports.items():
        if report.leaky:
            st.error(
                f"{letter} knows cases that it was tested on, by its split or by the weights it "
                "began with: its figures flatter.",
                title=f"Leaky: {escape(report.protocol)}",
            )
    draw_figures({headings[letter]: report for letter, report in reports.items()})

st.header("Validation curves", anchor=False)
draw_curves(histories, letters)

title, toggle = st.columns([3, 1], vertical_alignment="center")
title.header("Settings", anchor=False)
show_all = toggle.toggle("Show all", key="all_settings", help="Otherwise those that differ.")
draw_settings(settings, list(headings.values()), show_all=show_all)
