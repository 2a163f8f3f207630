"""The monitor of an experiment: its runs, and its metrics so far."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app.components.charts import majority_baseline
from app.components.experiments.protocol_report import draw_report, report_of
from app.components.labeled_checks import show_labeled_checks
from app.components.layout import escape, show_error
from app.components.metric_table import METRIC_COLUMNS, make_frame
from app.components.train.run_monitor import STATE_WORDS, Color
from bc_model.errors import BcModelError, RunError
from bc_model.evaluation import EvaluationReport
from bc_model.experiments import (
    MISSING,
    Experiment,
    GroupMetrics,
    check_selection,
    is_protocol_comparison,
    read_comparison_spec,
    read_experiment,
    run_states,
    start_experiment,
    summarize_experiment,
)
from bc_model.jobs import ENDED_STATES, cancel_job
from bc_model.training import Run, advance_queue, runs_dir
from bc_model.utils import format_duration

PER_PAGE = 10

_WORDS: dict[str, tuple[str, Color, str]] = {
    **STATE_WORDS,
    MISSING: ("Deleted", "gray", "folder_off"),
}


def draw_runs(experiment: Experiment, statuses: dict[str, dict[str, Any]]) -> None:
    """Draw a line for each run, ten per page, and the buttons for unfinished runs.

    Parameters
    ----------
    study : Study
    statuses : dict of str to dict
        The result of `run_states`.
    """
    members = experiment.runs
    n_done = sum(statuses[member.name]["state"] == "done" for member in members)
    st.progress(n_done / len(members), f"{n_done} of {len(members)} runs finished")
    pages = -(-len(members) // PER_PAGE)
    page = st.pagination(pages, key=f"runs-page-{experiment.name}") if pages > 1 else 1
    for member in members[(page - 1) * PER_PAGE : page * PER_PAGE]:
        status = statuses[member.name]
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            words, color, icon = _WORDS[status["state"]]
            st.badge(words, color=color, icon=f":material/{icon}:")
            if status["state"] == MISSING:
                st.markdown(escape(member.label))
            else:
                st.page_link(
                    "views/train.py", label=member.label, query_params={"run": member.name}
                )
            if detail := _describe(status):
                st.caption(escape(detail))
    _draw_buttons(experiment, {str(status["state"]) for status in statuses.values()})


def _describe(status: dict[str, Any]) -> str:
    if status["state"] in ENDED_STATES - {"done"}:
        return str(status.get("message", ""))
    if status["state"] == "running" and status.get("epochs"):
        left = status.get("seconds_left")
        epochs = f"epoch {status['epoch']} of {status['epochs']}"
        return epochs + (f", about {format_duration(left)} left" if left else "")
    return ""


def _draw_buttons(experiment: Experiment, states: set[str]) -> None:
    with st.container(horizontal=True):
        if states & (ENDED_STATES | {MISSING}) - {"done"}:
            _button(experiment, "Resume runs", "play_arrow",
                    "Queues the runs that ended before they finished.", _resume)  # fmt: skip
        if states - ENDED_STATES - {MISSING}:
            _button(experiment, "Cancel runs", "close",
                    "Ends unfinished runs without a model; they can be resumed.",
                    _cancel)  # fmt: skip


def _button(
    experiment: Experiment, label: str, icon: str, words: str, action: Callable[[Experiment], None]
) -> None:
    def act() -> None:
        try:
            action(experiment)
        except (BcModelError, OSError) as error:
            st.session_state["study-error"] = str(error)

    st.button(
        label, key=f"{icon}-{experiment.name}", icon=f":material/{icon}:", help=words, on_click=act
    )


def _resume(experiment: Experiment) -> None:
    plan = [(member.label, member.config) for member in experiment.runs]
    start_experiment(experiment.name, plan, runs_dir())


def _cancel(experiment: Experiment) -> None:
    refused = []
    for member in experiment.runs:
        run = Run(runs_dir() / member.name)
        if run.path.is_dir() and run.read_status()["state"] not in ENDED_STATES:
            try:
                cancel_job(run)
            except RunError as error:
                # This run is exporting its model; the others are canceled nevertheless.
                refused.append(str(error))
    if refused:
        raise RunError(" ".join(refused))


SHOWN = {
    "balanced_accuracy": "Balanced accuracy",
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_BASELINE = "Majority baseline"
_NUMBERS = (
    *(f"{words}{end}" for words in SHOWN.values() for end in ("", " CI low", " CI high")),
    _BASELINE,
)


@st.cache_data(max_entries=16, show_spinner="Computing metrics")
def groups_of(runs: str, name: str, stamp: tuple) -> list[GroupMetrics]:
    """Compute the metrics of each group; `stamp` changes whenever they change."""
    return summarize_experiment(read_experiment(Path(runs), name), Path(runs))


def draw_groups(name: str, groups: list[GroupMetrics]) -> None:
    """Draw a table row for each configuration, and its notes.

    Parameters
    ----------
    name : str
        Name of the experiment, for a group without its own name.
    groups : list of SubgroupMetrics
    """
    checks = {one.group or name: one.checks for one in groups}
    if selection := check_selection(read_experiment(runs_dir(), name)):
        checks = {"all settings": selection} | checks
    show_labeled_checks(checks)
    st.dataframe(
        make_frame(
            [
                {
                    "Configuration": one.group or name,
                    "Runs": one.n_runs,
                    "Finished": len(one.folds),
                    "Failed": one.n_failed,
                }
                | _metric_cells(one.report)
                for one in groups
            ]
        ),
        hide_index=True,
        placeholder="-",
        column_config={
            "Configuration": st.column_config.TextColumn(pinned=True),
            **{name: METRIC_COLUMNS[name] for name in ("Images", "Cases")},
            **dict.fromkeys(_NUMBERS, st.column_config.NumberColumn(format="%.3f")),
        },
        alt="Pooled metrics of each configuration with intervals, images and cases",
    )
    st.caption(
        "Metrics of the pooled out-of-fold predictions, with 95 % bootstrap intervals that "
        "resample cases."
    )


def _metric_cells(report: EvaluationReport | None) -> dict[str, float | None]:
    if report is None:
        return dict.fromkeys((*_NUMBERS, "Images", "Cases"))
    cells: dict[str, float | None] = {}
    for key, words in SHOWN.items():
        metric = report.metrics[key]
        cells |= {
            words: metric.value,
            f"{words} CI low": metric.ci_low,
            f"{words} CI high": metric.ci_high,
        }
    _, baseline = majority_baseline(report.malignant_proportion)
    return cells | {_BASELINE: baseline, "Images": report.n_images, "Cases": report.n_cases or None}


Statuses = dict[str, dict[str, Any]]


def watch_experiment(name: str) -> None:
    """Draw an experiment, and refresh it every two seconds while it is running."""
    try:
        experiment = read_experiment(runs_dir(), name)
        over = _is_over(run_states(experiment, runs_dir()))
    except RunError as error:
        show_error(error, title="Experiment not available")
        return
    started = experiment.created[:16].replace("T", " ")
    st.caption(f"{len(experiment.runs)} runs, started {escape(started)} UTC.")
    # The period belongs to the decorator, so it is applied in each run of the page.
    st.fragment(_draw, run_every=None if over else "2s")(experiment, over)


def _draw(experiment: Experiment, was_over: bool) -> None:
    folder = runs_dir()
    try:
        advance_queue(folder)
        statuses = run_states(experiment, folder)
        if was_over != _is_over(statuses):
            st.rerun()
        with st.expander("Runs", expanded=not was_over, icon=":material/list:"):
            draw_runs(experiment, statuses)
        stamp = _stamp(experiment, statuses)
        # Cached, because most refreshes find no change.
        if _is_report(experiment):
            draw_report(report_of(str(folder), experiment.name, stamp))
        else:
            draw_groups(experiment.name, groups_of(str(folder), experiment.name, stamp))
    except (BcModelError, OSError) as error:
        show_error(error, title="Experiment not available")


def _is_over(statuses: Statuses) -> bool:
    return {str(one["state"]) for one in statuses.values()} <= ENDED_STATES | {MISSING}


def _is_report(experiment: Experiment) -> bool:
    if not is_protocol_comparison(experiment):
        return False
    protocols = {member.config.protocol for member in experiment.runs}
    return len(protocols) > 1 or read_comparison_spec(runs_dir(), experiment.name) is not None


def _stamp(experiment: Experiment, statuses: Statuses) -> tuple[str, ...]:
    """Return a value that changes with the metrics: states and evaluation times of the runs."""
    stamp = [experiment.created]
    for run, status in statuses.items():
        state = str(status["state"])
        file = Run(runs_dir() / run).evaluation_dir / "report.json"
        evaluated = file.stat().st_mtime_ns if file.exists() else ""
        stamp.append(f"{run} {state if state in ENDED_STATES | {MISSING} else ''} {evaluated}")
    return tuple(stamp)
