"""What several pages show of a run: the labels of its state, and the button that deletes it."""

from typing import Literal

import streamlit as st

from app.components.action_log import show_confirmed_button
from app.components.layout import escape_markdown
from bc_model.jobs import delete_job
from bc_model.training import Run

Color = Literal["gray", "blue", "orange", "green", "red"]
STATE_LABELS: dict[str, tuple[str, Color, str]] = {
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


def show_delete(run: Run) -> None:
    """Show the button that deletes a run, after a confirmation."""

    def delete() -> None:
        delete_job(run)
        shown = st.session_state.get("run", [])
        st.session_state["run"] = [name for name in shown if name != run.name]

    show_confirmed_button(
        "Delete",
        f"This deletes the model, metrics and log of {escape_markdown(run.name)} permanently.",
        "Delete run",
        delete,
        target=run.name,
        key="delete-run",
    )
