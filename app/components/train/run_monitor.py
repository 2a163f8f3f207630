"""The monitor of a run: state, control buttons, learning curves and log."""

from collections.abc import Callable
from datetime import datetime

import pandas as pd
import streamlit as st

from app.components.action_log import show_confirmed_button
from app.components.charts import chart_learning_curve, chart_learning_rate
from app.components.layout import (
    escape_markdown,
    make_fragment,
    show_action_button,
    show_action_error,
    show_error,
)
from app.components.queue_limit import limit_runs
from app.components.run_widgets import STATE_LABELS, show_delete
from bc_model.errors import BcModelError, RunError
from bc_model.jobs import (
    ENDED_STATES,
    JobStatus,
    cancel_job,
    continue_job,
    pause_job,
    stop_job,
)
from bc_model.training import (
    Run,
    advance_queue,
    find_run,
    resume_run,
    runs_dir,
)
from bc_model.utils import format_duration

PHASE_LABELS = {
    "head": "head training",
    "finetune": "fine-tuning",
    "export": "exporting the model",
    "evaluation": "evaluating",
}
_EPOCH_COLUMNS = {
    "epoch": "Epoch",
    "phase": "Phase",
    "loss": "Loss",
    "accuracy": "Accuracy",
    "val_loss": "Validation loss",
    "val_accuracy": "Validation accuracy",
    "learning_rate": "Learning rate",
    "seconds": "Duration, s",
    "time": "Time",
}
MAX_LOG_LINES = 18
"""Longer logs are shown in a box that scrolls."""
_REQUESTED_STATES = {"stop": "stopping", "pause": "pausing", "cancel": "canceling"}


def watch_run(run_id: str, *, is_narrow: bool = False) -> None:
    """Show a run, and refresh it every second while it is running.

    Parameters
    ----------
    run_id : str
        Name of the run.
    is_narrow : bool
        Stack the curves, for a column next to another run.
    """
    try:
        run = find_run(runs_dir(), run_id)
    except RunError as error:
        show_error(error, title="Run not available")
        return
    try:
        is_active = run.read_status()["state"] not in ENDED_STATES
    except RunError as error:
        show_error(error, title="Run not available")
        show_delete(run)
        return
    make_fragment(_show_run, "1s" if is_active else None)(run, is_active, is_narrow)


def _show_run(run: Run, was_active: bool, is_narrow: bool) -> None:
    show_action_error()
    if not run.path.is_dir():
        st.rerun()  # The run was deleted; refresh the entire page.
    try:
        advance_queue(runs_dir())
    except (BcModelError, OSError) as error:
        show_error(error, title="Queue not available")
    try:
        status = run.read_status()
    except RunError as error:
        show_error(error, title="Run not available")
        show_delete(run)
        return
    state = status["state"]
    if was_active == (state in ENDED_STATES):
        st.rerun()
    shown = state
    if state not in ENDED_STATES | {"paused"}:
        shown = _REQUESTED_STATES.get(run.requested_action() or "", state)
    label, color, icon = STATE_LABELS[shown]
    st.badge(label, color=color, icon=f":material/{icon}:")
    if status.get("message"):
        st.markdown(escape_markdown(status["message"]))
    _show_buttons(run, shown, is_exporting=status.get("phase") in ("export", "evaluation"))
    if status.get("epochs") and state not in ENDED_STATES:
        _show_progress(status)
    try:
        if history := run.read_history():
            _show_curves(history, is_narrow)
    except RunError as error:
        show_error(error, title="History not available")
    with st.expander("Log", icon=":material/description:"):
        lines = run.read_log().splitlines()
        if len(lines) > MAX_LOG_LINES:  # The last lines matter most.
            st.caption(f"{len(lines):,} lines, newest first.")
            st.code("\n".join(lines[::-1]), language=None, height=400)
        else:
            st.code("\n".join(lines) or "The log is empty.", language=None)
    if state == "done":
        st.page_link(
            "views/evaluate.py",
            label="Evaluate run",
            icon=":material/analytics:",
            query_params={"evaluated": run.name},
        )


def _show_buttons(run: Run, state: str, *, is_exporting: bool) -> None:
    if is_exporting and state not in ENDED_STATES:
        return  # The export of the model cannot be interrupted.

    def show(label: str, icon: str, action: Callable[[Run], object], help_text: str) -> None:
        show_action_button(
            label, icon, lambda: action(run), key=f"{label}-{run.name}", help=help_text
        )

    is_running = state in ("starting", "running")
    with st.container(horizontal=True, key=f"buttons-{run.name}"):
        if is_running:
            show("Pause", "pause", pause_job, "Pauses after the current batch.")
        if state in ("paused", "pausing"):
            show("Continue", "play_arrow", continue_job, "Continues with the next batch.")
        if is_running or state == "paused":
            _show_stop(run)
        if is_running or state in ("queued", "paused"):
            _show_cancel(run)
        if run.can_resume:
            show("Resume", "play_arrow", _resume, "Continues after the last complete epoch.")
            if run.has_changed:
                show(
                    "Resume anyway",
                    "warning",
                    lambda run: _resume(run, accept_changes=True),
                    "Continues with changed data or code.",
                )
        if state in ENDED_STATES:
            show_delete(run)


def _resume(run: Run, *, accept_changes: bool = False) -> None:
    with limit_runs(1):
        resume_run(run, accept_changes=accept_changes)


def _show_stop(run: Run) -> None:
    show_confirmed_button(
        "Stop training",
        f"This ends the training of {escape_markdown(run.name)} with its best model so far. The "
        "run cannot be resumed.",
        "Stop run",
        lambda: stop_job(run),
        target=run.name,
        key="stop-run",
        icon="stop",
    )


def _show_cancel(run: Run) -> None:
    show_confirmed_button(
        "Cancel",
        f"This ends {escape_markdown(run.name)} without a model. The current epoch is lost. The "
        "run can be resumed after its last complete epoch.",
        "Cancel run",
        lambda: cancel_job(run),
        target=run.name,
        key="cancel-run",
        icon="close",
    )


def _show_progress(status: JobStatus) -> None:
    epoch, epochs = status.get("epoch", 1), status["epochs"]
    steps = max(1, status.get("steps") or 1)
    step = min(status.get("step") or 0, steps)
    proportion = (epoch - 1 + step / steps) / epochs
    left = status.get("seconds_left")
    remaining = "" if left is None else f" About {format_duration(left)} left."
    phase = PHASE_LABELS.get(status.get("phase", ""), "")
    st.progress(
        min(1.0, max(0.0, proportion)),
        f"Epoch {epoch} of {epochs}, {phase}, batch {step} of {steps}.{remaining}",
    )


def _show_curves(history: list[dict], is_narrow: bool) -> None:
    last = history[-1]
    if "learning_rate" in last:
        st.caption(
            f"Validation loss {last.get('val_loss', 0):.3f} and accuracy "
            f"{last.get('val_accuracy', 0):.3f} after epoch {last['epoch']}; "
            f"learning rate {last['learning_rate']:.1e}."
        )
    loss, accuracy, rate = (
        [st.container() for _ in range(3)] if is_narrow else st.columns([5, 5, 3], gap="medium")
    )
    with loss:
        st.altair_chart(
            chart_learning_curve(history, "loss", "Loss"),
            alt=f"Loss over {len(history)} epochs; validation now {last.get('val_loss', 0):.3f}",
        )
    with accuracy:
        st.altair_chart(
            chart_learning_curve(history, "accuracy", "Accuracy"),
            alt="Accuracy of training and validation over the epochs",
        )
    with rate:
        st.altair_chart(chart_learning_rate(history), alt="Learning rate over the epochs")
    st.caption(
        "The validation loss weights both classes equally; training values are measured on "
        "augmented images."
    )
    with st.expander("Epochs", icon=":material/table:"):
        table = pd.DataFrame(history, columns=list(_EPOCH_COLUMNS))
        table["time"] = pd.to_datetime([datetime.fromtimestamp(t) for t in table["time"]])
        st.dataframe(
            table.replace({"phase": PHASE_LABELS}).rename(columns=_EPOCH_COLUMNS),
            hide_index=True,
            column_config={
                "Learning rate": st.column_config.NumberColumn(format="%.1e"),
                "Time": st.column_config.TimeColumn(),
            },
            alt="Loss and accuracy of every epoch",
        )
