"""Train: choose a folder and settings, start runs, watch them, change their course."""

from pathlib import Path

import streamlit as st

from app.components.audit import draw_audit
from app.components.frame import show_error
from app.components.runs import watch_run
from app.components.settings import draw_settings
from app.components.start import draw_start
from app.places import runs_folder
from bc_model.data.splits import LEAKY_PROTOCOLS
from bc_model.errors import BcModelError
from bc_model.training.forecast import forecast_seconds, measure_gflops
from bc_model.training.run_folder import list_runs
from bc_model.training.settings import TrainSettings

SIDE_BY_SIDE = 3

st.title("Train", anchor=False)
st.markdown(
    "A run is a process of its own: closing or refreshing this page does not touch it. "
    "First a new head on the frozen backbone; then fine-tuning, of the last blocks from pretrained "
    "weights and of all blocks from scratch."
)


@st.cache_data(show_spinner=False)
def machine_rate() -> float:
    return measure_gflops()


def whole_path(folder: str) -> Path:
    try:
        return Path(folder.strip()).expanduser()
    except RuntimeError:  # a home folder of somebody who is not there
        return Path(folder.strip())


if refused := st.session_state.pop("run-error", None):
    show_error(BcModelError(refused))
runs = [run.name for run in list_runs(runs_folder())]
with st.expander("New run", expanded=not runs, icon=":material/add_circle:"):
    folder = st.text_input(
        "Folder of the data set",
        key="data",
        persist_state="session",
        placeholder="/data/BreaKHis_v1",
        help="The BreakHis tree at any depth, or a folder with folders named benign and malignant.",
    )
    audited = st.container()
    settings: TrainSettings | None = None
    parts: dict | None = None
    try:
        chosen = draw_settings()
        with audited:
            if folder.strip():
                parts = draw_audit(
                    whole_path(folder),
                    chosen["protocol"],
                    chosen["n_folds"],
                    fold=chosen["fold"],
                    seed=chosen["split_seed"],
                )
        if chosen["protocol"] in LEAKY_PROTOCOLS:
            st.warning(
                "Pictures of one case will stand in training and in test. Every figure of this run "
                "will be marked as leaky.",
                title="This split flatters",
            )
        settings = TrainSettings(data=str(whole_path(folder).resolve()), **chosen)
    except BcModelError as error:
        show_error(error, title="These settings cannot be used")
    ready = settings if parts else None
    seconds = None
    if ready and parts:
        counts = parts["train"]["pictures"], parts["validation"]["pictures"]
        seconds = forecast_seconds(ready, *counts, machine_rate())
    if new := draw_start(ready, seconds):
        runs = [run.name for run in list_runs(runs_folder())]
        st.session_state["run"] = [new, *st.session_state.get("run", [])][:SIDE_BY_SIDE]
    if not folder.strip():
        st.caption("Name a folder first; what it holds will be shown here.")

if not runs:
    st.info("No run yet. Fill in the folder above and start one.", icon=":material/info:")
    st.stop()

if "run" not in st.query_params:
    # Not the widget's own default: that one would not be written into the URL, and a refresh
    # after another start would show another run.
    st.session_state.setdefault("run", runs[:1])
watched = st.multiselect(
    "Runs, side by side",
    runs,
    key="run",
    bind="query-params",
    max_selections=SIDE_BY_SIDE,
    placeholder="Choose up to three runs",
)
for column, name in zip(st.columns(max(1, len(watched)), gap="large"), watched, strict=False):
    with column:
        if len(watched) > 1:
            st.subheader(name, anchor=False)
        watch_run(name, narrow=len(watched) > 1)
