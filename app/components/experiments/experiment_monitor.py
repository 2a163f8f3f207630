"""The monitor of an experiment: its runs, and its metrics so far."""

from pathlib import Path

import streamlit as st

from app.components.action_log import show_confirmed_button
from app.components.checks import show_labeled_checks
from app.components.experiments.protocol_report import compute_protocol_report, show_protocol_report
from app.components.layout import (
    escape_markdown,
    make_fragment,
    show_action_button,
    show_action_error,
    show_error,
)
from app.components.metric_table import METRIC_COLUMNS, make_frame, read_evaluation_stamp
from app.components.queue_limit import limit_runs
from app.components.run_widgets import STATE_LABELS, Color
from bc_model.errors import BcModelError, RunError
from bc_model.evaluation import EvaluationReport, majority_baseline
from bc_model.experiments import (
    MISSING,
    Experiment,
    GroupMetrics,
    check_selection,
    delete_experiment,
    is_protocol_comparison,
    read_comparison_spec,
    read_experiment,
    run_states,
    start_experiment,
    summarize_experiment,
)
from bc_model.jobs import ENDED_STATES, JobStatus, cancel_job
from bc_model.training import Run, advance_queue, runs_dir
from bc_model.utils import format_duration

RUNS_PER_PAGE = 10

_STATE_LABELS: dict[str, tuple[str, Color, str]] = {
    **STATE_LABELS,
    MISSING: ("Deleted", "gray", "folder_off"),
}


METRIC_LABELS = {
    "balanced_accuracy": "Balanced accuracy",
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_BASELINE = "Majority baseline"
_NUMBERS = (
    *(f"{label}{end}" for label in METRIC_LABELS.values() for end in ("", " CI low", " CI high")),
    _BASELINE,
)
Statuses = dict[str, JobStatus]


def show_runs(experiment: Experiment, statuses: Statuses) -> None:
    """Show a line for each run, ten per page, and the buttons for unfinished runs.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    statuses : dict of str to dict
        The result of `run_states`.
    """
    runs = experiment.runs
    n_done = sum(statuses[run.name]["state"] == "done" for run in runs)
    st.progress(n_done / len(runs), f"{n_done} of {len(runs)} runs finished")
    n_pages = -(-len(runs) // RUNS_PER_PAGE)
    page = st.pagination(n_pages, key=f"runs-page-{experiment.name}") if n_pages > 1 else 1
    for run in runs[(page - 1) * RUNS_PER_PAGE : page * RUNS_PER_PAGE]:
        status = statuses[run.name]
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            label, color, icon = _STATE_LABELS[status["state"]]
            st.badge(label, color=color, icon=f":material/{icon}:")
            if status["state"] == MISSING:
                st.markdown(escape_markdown(run.label))
            else:
                st.page_link("views/train.py", label=run.label, query_params={"run": run.name})
            if detail := _describe_status(status):
                st.caption(escape_markdown(detail))
    _show_buttons(experiment, {str(status["state"]) for status in statuses.values()})


def _describe_status(status: JobStatus) -> str:
    if status["state"] in ENDED_STATES - {"done"}:
        return str(status.get("message", ""))
    if status["state"] == "running" and status.get("epochs"):
        left = status.get("seconds_left")
        epochs = f"epoch {status.get('epoch', 0)} of {status['epochs']}"
        return epochs + (f", about {format_duration(left)} left" if left else "")
    return ""


def _show_buttons(experiment: Experiment, states: set[str]) -> None:
    with st.container(horizontal=True):
        if states & (ENDED_STATES | {MISSING}) - {"done"}:
            show_action_button(
                "Resume runs",
                "play_arrow",
                lambda: _resume(experiment),
                key=f"resume-{experiment.name}",
                help="Queues the runs that ended before they finished.",
            )
        if states - ENDED_STATES - {MISSING}:
            show_confirmed_button(
                "Cancel runs",
                f"This ends the unfinished runs of {escape_markdown(experiment.name)} without a "
                "model. Their current epochs are lost; the runs can be resumed.",
                "Cancel all runs",
                lambda: _cancel(experiment),
                target=experiment.name,
                key="cancel-experiment",
                icon="close",
            )
        else:
            _show_delete(experiment.name)


def _show_delete(name: str) -> None:
    def delete() -> None:
        delete_experiment(runs_dir(), name)
        st.session_state.pop("experiment", None)

    show_confirmed_button(
        "Delete",
        f"This deletes the plan of {escape_markdown(name)} and its pooled metrics permanently. Its "
        "runs stay on the page Train.",
        "Delete experiment",
        delete,
        target=name,
        key="delete-experiment",
    )


def _resume(experiment: Experiment) -> None:
    plan = [(run.label, run.config) for run in experiment.runs]
    resumable = (ENDED_STATES | {MISSING}) - {"done"}
    states = run_states(experiment, runs_dir()).values()
    with limit_runs(sum(status["state"] in resumable for status in states)):
        start_experiment(experiment.name, plan, runs_dir())


def _cancel(experiment: Experiment) -> None:
    messages = []
    for name, status in run_states(experiment, runs_dir()).items():
        if status["state"] not in ENDED_STATES | {MISSING}:
            try:
                cancel_job(Run(runs_dir() / name))
            except RunError as error:
                # This run is exporting its model; the others are canceled nevertheless.
                messages.append(str(error))
    if messages:
        raise RunError(" ".join(messages))


@st.cache_data(max_entries=16, show_spinner="Computing metrics")
def compute_groups(runs: str, name: str, stamp: tuple) -> list[GroupMetrics]:
    """Compute the metrics of each group; `stamp` changes whenever they change."""
    return summarize_experiment(read_experiment(Path(runs), name), Path(runs))


def show_groups(name: str, groups: list[GroupMetrics]) -> None:
    """Show the checks, and a table row for each configuration.

    Parameters
    ----------
    name : str
        Name of the experiment, for a group without its own name.
    groups : list of GroupMetrics
        One for each configuration.
    """
    checks = {group.group or name: group.checks for group in groups}
    if selection := check_selection(read_experiment(runs_dir(), name)):
        checks = {"all configurations": selection} | checks
    show_labeled_checks(checks)
    st.dataframe(
        make_frame(
            [
                {
                    "Configuration": group.group or name,
                    "Runs": group.n_runs,
                    "Finished": len(group.folds),
                    "Failed": group.n_failed,
                }
                | _list_cells(group.report)
                for group in groups
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


def _list_cells(report: EvaluationReport | None) -> dict[str, float | None]:
    if report is None:
        return dict.fromkeys((*_NUMBERS, "Images", "Cases"))
    cells: dict[str, float | None] = {}
    for key, label in METRIC_LABELS.items():
        metric = report.metrics[key]
        cells |= {
            label: metric.value,
            f"{label} CI low": metric.ci_low,
            f"{label} CI high": metric.ci_high,
        }
    _, baseline = majority_baseline(report.malignant_proportion)
    return cells | {_BASELINE: baseline, "Images": report.n_images, "Cases": report.n_cases or None}


def watch_experiment(name: str) -> None:
    """Show an experiment, and refresh it every two seconds while it is running."""
    try:
        experiment = read_experiment(runs_dir(), name)
        is_finished = _is_finished(run_states(experiment, runs_dir()))
    except RunError as error:
        show_error(error, title="Experiment not available")
        _show_delete(name)
        return
    started = experiment.created[:16].replace("T", " ")
    st.caption(f"{len(experiment.runs)} runs, started {escape_markdown(started)} UTC.")
    make_fragment(_show_experiment, None if is_finished else "2s")(experiment, is_finished)


def _show_experiment(experiment: Experiment, was_finished: bool) -> None:
    show_action_error()
    folder = runs_dir()
    try:
        advance_queue(folder)
    except (BcModelError, OSError) as error:
        show_error(error, title="Queue not available")
    try:
        statuses = run_states(experiment, folder)
        if was_finished != _is_finished(statuses):
            st.rerun()
        with st.expander("Runs", expanded=not was_finished, icon=":material/list:"):
            show_runs(experiment, statuses)
        stamp = _make_stamp(experiment, statuses)
        # Cached, because most refreshes find no change.
        if _is_protocol_comparison(experiment):
            show_protocol_report(compute_protocol_report(str(folder), experiment.name, stamp))
        else:
            show_groups(experiment.name, compute_groups(str(folder), experiment.name, stamp))
    except (BcModelError, OSError) as error:
        show_error(error, title="Experiment not available")


def _is_finished(statuses: Statuses) -> bool:
    return {str(status["state"]) for status in statuses.values()} <= ENDED_STATES | {MISSING}


def _is_protocol_comparison(experiment: Experiment) -> bool:
    if not is_protocol_comparison(experiment):
        return False
    protocols = {run.config.protocol for run in experiment.runs}
    return len(protocols) > 1 or read_comparison_spec(runs_dir(), experiment.name) is not None


def _make_stamp(experiment: Experiment, statuses: Statuses) -> tuple[object, ...]:
    """Return a value that changes with the metrics: plan, states and evaluations of the runs."""
    stamp: list[object] = [repr(experiment)]
    stamp.append(repr(read_comparison_spec(runs_dir(), experiment.name)))
    for name, status in statuses.items():
        is_ended = status["state"] in ENDED_STATES | {MISSING}
        stamp += [name, status["state"] if is_ended else ""]
        stamp.append(read_evaluation_stamp(Run(runs_dir() / name)))
    return tuple(stamp)
