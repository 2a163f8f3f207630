"""The monitor of a run: state, learning curves, log, and control buttons."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import pandas as pd
import streamlit as st

from app.components.charts import learning_curve, learning_rate_curve
from app.components.layout import escape, show_error
from bc_model.errors import BcModelError, RunError
from bc_model.jobs import ENDED_STATES, cancel_job, continue_job, delete_job, pause_job, stop_job
from bc_model.training import (
    Run,
    advance_queue,
    find_run,
    resume_run,
    runs_dir,
)
from bc_model.utils import format_duration

Color = Literal["gray", "blue", "orange", "green", "red"]
STATE_WORDS: dict[str, tuple[str, Color, str]] = {
    "queued": ("Queued", "gray", "schedule"),
    "starting": ("Starting", "blue", "hourglass_top"),
    "running": ("Running", "blue", "play_circle"),
    "stopping": ("Stopping", "orange", "stop_circle"),
    "pausing": ("Pausing", "orange", "pause_circle"),
    "paused": ("Paused", "orange", "pause_circle"),
    "canceling": ("Canceling", "orange", "cancel"),
    "interrupted": ("Interrupted", "orange", "power_off"),
    "done": ("Finished", "green", "check_circle"),
    "canceled": ("Canceled", "gray", "cancel"),
    "failed": ("Failed", "red", "error"),
}
PHASE_WORDS = {
    "head": "head training",
    "finetune": "fine-tuning",
    "export": "exporting the model",
    "evaluation": "evaluating",
}
LOG_LINES = 18
"""Longer logs are shown in a box that scrolls."""
_ASKED = {"stop": "stopping", "pause": "pausing", "cancel": "canceling"}


def watch_run(run_id: str, *, narrow: bool = False) -> None:
    """Draw a run, and refresh it every second while it is running.

    Parameters
    ----------
    run_id : str
    narrow : bool
        Stack the curves, for a column next to another run.
    """
    try:
        run = find_run(runs_dir(), run_id)
    except RunError as error:
        show_error(error, title="Run not available")
        return
    try:
        going = run.read_status()["state"] not in ENDED_STATES
    except RunError as error:
        show_error(error, title="Run not available")
        _draw_delete(run)
        return
    # The period belongs to the decorator, so it is applied in each run of the page.
    st.fragment(_draw_run, run_every="1s" if going else None)(run, going, narrow)


def _draw_run(run: Run, was_going: bool, narrow: bool) -> None:
    if not run.path.is_dir():
        st.rerun()  # The run was deleted; refresh the entire page.
    try:
        advance_queue(runs_dir())
        status, history = run.read_status(), run.read_history()
    except (BcModelError, OSError) as error:
        show_error(error, title="Run not available")
        return
    state = status["state"]
    if was_going == (state in ENDED_STATES):
        st.rerun()
    shown = state
    if state not in ENDED_STATES | {"paused"}:
        shown = _ASKED.get(run.requested_action() or "", state)
    words, color, icon = STATE_WORDS[shown]
    st.badge(words, color=color, icon=f":material/{icon}:")
    if status.get("message"):
        st.markdown(escape(status["message"]))
    _draw_buttons(run, shown, writing=status.get("phase") in ("export", "evaluation"))
    if status.get("epochs") and state not in ENDED_STATES:
        _draw_progress(status)
    if history:
        _draw_curves(history, narrow)
    with st.expander("Log", icon=":material/description:"):
        lines = run.read_log().splitlines()
        if len(lines) > LOG_LINES:  # The last lines matter most.
            st.caption(f"{len(lines):,} lines, the newest first.")
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


def _draw_buttons(run: Run, state: str, *, writing: bool) -> None:
    if writing and state not in ENDED_STATES:
        return  # The model is being exported and cannot be interrupted.
    with st.container(horizontal=True, key=f"buttons-{run.name}"):
        if state in ("starting", "running"):
            _button(run, "Pause", "pause", "Pauses after the current batch and keeps all progress.",
                    lambda: pause_job(run))  # fmt: skip
        if state in ("paused", "pausing"):
            _button(run, "Continue", "play_arrow", "Continues with the next batch.",
                    lambda: continue_job(run))  # fmt: skip
        if state in ("starting", "running", "paused"):
            _button(run, "Stop run", "stop",
                    "Stops after the current batch and keeps the best model so far.",
                    lambda: stop_job(run))  # fmt: skip
        if state in ("queued", "starting", "running", "paused"):
            _button(run, "Cancel", "close", "Ends the run without a model; it can be resumed.",
                    lambda: cancel_job(run))  # fmt: skip
        if run.can_resume:
            _button(run, "Resume", "play_arrow", "Continues after the last complete epoch.",
                    lambda: resume_run(run))  # fmt: skip
            if run.has_changed:
                _button(run, "Resume anyway", "warning",
                        "Continues with changed data or code.",
                        lambda: resume_run(run, accept_changes=True))  # fmt: skip
        if state in ENDED_STATES:
            _draw_delete(run)


def _button(run: Run, label: str, icon: str, words: str, action: Callable[[], None]) -> None:
    def act() -> None:
        try:
            action()
        except (BcModelError, OSError) as error:
            st.session_state["run-error"] = str(error)

    st.button(
        label, key=f"{icon}-{label}-{run.name}", icon=f":material/{icon}:", help=words, on_click=act
    )


def _draw_delete(run: Run) -> None:
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown("This deletes the model, metrics and log of the run permanently.")

        def delete() -> None:
            try:
                delete_job(run)
            except (BcModelError, OSError) as error:
                st.session_state["run-error"] = str(error)
            else:
                shown = st.session_state.get("run", [])
                st.session_state["run"] = [name for name in shown if name != run.name]

        st.button(
            "Delete run", key=f"delete-{run.name}", type="primary", on_click=delete,
            icon=":material/delete_forever:",
        )  # fmt: skip


def _draw_progress(status: dict) -> None:
    steps = max(1, status.get("steps") or 1)
    step = min(status.get("step") or 0, steps)
    proportion = (status["epoch"] - 1 + step / steps) / status["epochs"]
    left = status.get("seconds_left")
    remaining = "" if left is None else f" About {format_duration(left)} left."
    phase = PHASE_WORDS.get(status.get("phase", ""), "")
    st.progress(
        min(1.0, proportion),
        f"Epoch {status['epoch']} of {status['epochs']}, {phase}, batch {step} of {steps}."
        f"{remaining}",
    )


def _draw_curves(history: list[dict], narrow: bool) -> None:
    last = history[-1]
    if "learning_rate" in last:
        st.caption(
            f"Validation loss {last.get('val_loss', 0):.3f} and accuracy "
            f"{last.get('val_accuracy', 0):.3f} after epoch {last['epoch']}; "
            f"learning rate {last['learning_rate']:.1e}."
        )
    loss, accuracy, rate = (
        [st.container() for _ in range(3)] if narrow else st.columns([5, 5, 3], gap="medium")
    )
    with loss:
        st.altair_chart(
            learning_curve(history, "loss", "Loss"),
            alt=f"Loss over {len(history)} epochs; validation now {last.get('val_loss', 0):.3f}",
        )
    with accuracy:
        st.altair_chart(
            learning_curve(history, "accuracy", "Accuracy"),
            alt="Accuracy of training and validation over the epochs",
        )
    with rate:
        st.altair_chart(learning_rate_curve(history), alt="Learning rate over the epochs")
    st.caption(
        "The validation loss weights both classes equally. Compare the accuracy with the majority "
        "baseline. Training values are measured on augmented images."
    )
    with st.expander("Epochs", icon=":material/table:"):
        table = pd.DataFrame(history)
        table["time"] = pd.to_datetime([datetime.fromtimestamp(t) for t in table["time"]])
        st.dataframe(
            table,
            hide_index=True,
            column_config={"time": st.column_config.TimeColumn()},
            alt="Loss and accuracy of every epoch",
        )
