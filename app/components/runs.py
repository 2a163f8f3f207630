"""One run, watched: state, curves, log, and the button that stops it."""

from datetime import datetime
from typing import Literal

import pandas as pd
import streamlit as st

from app.components.charts import learning_curve
from app.components.frame import escape, show_error
from app.places import runs_folder
from bc_model.errors import RunError
from bc_model.training.run_folder import FINAL_STATES, RunFolder, find_run
from bc_model.words import duration_in_words

Colour = Literal["gray", "blue", "orange", "green", "red"]
STATE_WORDS: dict[str, tuple[str, Colour, str]] = {
    "queued": ("Waiting to start", "gray", "schedule"),
    "starting": ("Starting", "blue", "hourglass_top"),
    "running": ("Running", "blue", "play_circle"),
    "cancelling": ("Stopping", "orange", "stop_circle"),
    "done": ("Finished", "green", "check_circle"),
    "cancelled": ("Stopped", "gray", "cancel"),
    "failed": ("Failed", "red", "error"),
}
PHASE_WORDS = {
    "head": "backbone frozen",
    "finetune": "fine-tuning",
    "export": "writing the model",
    "evaluation": "evaluating",
}


def watch_run(run_id: str) -> None:
    """Draw a run; while it goes on, redraw it every second without touching the rest."""
    try:
        run = find_run(runs_folder(), run_id)
        going = run.read_status()["state"] not in FINAL_STATES
    except RunError as error:
        show_error(error, title="This run cannot be shown")
        return
    # The period belongs to the decorator, so it is applied anew: none once the run has ended.
    st.fragment(_draw_run, run_every="1s" if going else None)(run, going)


def _draw_run(run: RunFolder, was_going: bool) -> None:
    try:
        status, history = run.read_status(), run.read_history()
    except RunError as error:
        show_error(error, title="This run cannot be shown")
        return
    state = status["state"]
    if state not in FINAL_STATES and run.stop_requested():
        state = "cancelling"
    if was_going and state in FINAL_STATES:
        st.rerun()
    title, button = st.columns([3, 1], vertical_alignment="center")
    with title:
        words, colour, icon = STATE_WORDS[state]
        st.badge(words, color=colour, icon=f":material/{icon}:")
        if status.get("message"):
            st.markdown(escape(status["message"]))
    if state in ("queued", "starting", "running"):
        button.button(
            "Stop, keep the best",
            key=f"stop-{run.name}",
            icon=":material/stop:",
            width="stretch",
            on_click=run.request_stop,
            help="Ends after the batch at hand and keeps the best model so far.",
        )
    if state in ("running", "cancelling") and status.get("epochs"):
        _draw_progress(status)
    if history:
        _draw_curves(history)
    with st.expander("Log", icon=":material/description:"):
        st.code(run.read_log() or "Nothing yet.", language=None)
    if state == "done":
        st.page_link(
            "views/evaluate.py",
            label="See how well it does",
            icon=":material/analytics:",
            query_params={"evaluated": run.name},
        )


def _draw_progress(status: dict) -> None:
    steps = max(1, status.get("steps") or 1)
    step = min(status.get("step") or 0, steps)
    share = (status["epoch"] - 1 + step / steps) / status["epochs"]
    left = duration_in_words(status.get("seconds_left") or 0)
    phase = PHASE_WORDS.get(status.get("phase", ""), "")
    st.progress(
        min(1.0, share),
        f"Epoch {status['epoch']} of {status['epochs']}, {phase}, batch {step} of {steps}. "
        f"About {left} left.",
    )


def _draw_curves(history: list[dict]) -> None:
    last = history[-1]
    loss, accuracy = st.columns(2, gap="large")
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
    st.caption(
        "Validation loss counts both classes the same; accuracy does not, so compare it with the "
        "share of the commoner class. Training is measured on augmented pictures."
    )
    with st.expander("Figures of every epoch", icon=":material/table:"):
        table = pd.DataFrame(history)
        table["time"] = [f"{datetime.fromtimestamp(t):%H:%M:%S}" for t in table["time"]]
        st.dataframe(table, hide_index=True, alt="Loss and accuracy of every epoch")
