"""The page Train: select a dataset and settings, start runs, monitor and control them."""

from pathlib import Path

import streamlit as st

from app.components.dataset_picker import TRAIN_ON_KEY, choose_folder
from app.components.layout import escape, show_error, tell_again
from app.components.split_form import lacks_fold_file
from app.components.train.config_form import draw_audit, show_config_form
from app.components.train.run_monitor import watch_run
from app.components.train.start_button import draw_start
from bc_model.data import PROTOCOLS_WITH_LEAKAGE
from bc_model.errors import BcModelError
from bc_model.inference import supported_precisions
from bc_model.training import (
    TrainingConfig,
    estimate_duration_s,
    list_runs,
    measure_gflops,
    runs_dir,
)

SIDE_BY_SIDE = 3

st.title("Train", anchor=False)
st.markdown(
    "Train a new head on the frozen backbone, then fine-tune. Runs continue when this page is "
    "closed."
)


@st.cache_data(show_spinner=False, ttl=300)  # The speed depends on the current load.
def machine_rate() -> tuple[float, bool]:
    return measure_gflops(), "bf16" in supported_precisions()


if refused := st.session_state.pop("run-error", None):
    show_error(BcModelError(refused))
runs = [run.name for run in list_runs(runs_dir())]
named = (
    "set" in st.query_params or TRAIN_ON_KEY in st.session_state
)  # The dataset was selected on this page or on Data.
with st.expander("New run", expanded=not runs or named, icon=":material/add_circle:"):
    folder = choose_folder()
    audited = st.container()
    config: TrainingConfig | None = None
    parts: dict | None = None
    try:
        chosen = show_config_form()
        if folder:
            with audited:
                parts = draw_audit(folder, chosen)
        if chosen["protocol"] in PROTOCOLS_WITH_LEAKAGE:
            st.warning(
                "This split puts images of one case in several subsets. Metrics of the run will be "
                "marked as with leakage.",
                title="Split with leakage",
            )
        if not lacks_fold_file(chosen):
            config = TrainingConfig(data=str((folder or Path()).resolve()), **chosen)
    except BcModelError as error:
        show_error(error, title="Invalid configuration")
    ready = config if parts else None
    seconds = None
    if ready and parts:
        counts = parts["train"]["images"], parts["validation"]["images"]
        rate, has_bfloat16 = machine_rate()
        seconds = estimate_duration_s(ready, *counts, rate, has_bfloat16=has_bfloat16)
    if new := draw_start(ready, seconds):
        runs = [run.name for run in list_runs(runs_dir())]
        st.session_state["run"] = [new, *st.session_state.get("run", [])][:SIDE_BY_SIDE]
        st.toast(f"Run {new} was queued.", icon=":material/check_circle:")
    if not folder:
        st.caption("Select a dataset to continue.")

if not runs:
    st.info("No run yet. Select a dataset above and start a run.", icon=":material/info:")
    st.stop()

for name in st.query_params.get_all("run"):
    if name not in runs and name in st.session_state.get("run", [name]):
        st.warning(f"Run '{escape(name)}' was not found.")
if "run" not in st.query_params:
    # The default of the widget would not be written to the URL, and a refresh could show
    # another run.
    st.session_state.setdefault("run", runs[:1])
tell_again("run", runs)
watched = st.multiselect(
    "Runs",
    runs,
    key="run",
    bind="query-params",
    max_selections=SIDE_BY_SIDE,
    placeholder="Select up to three runs",
)
if not watched:
    st.info("Select a run to monitor it.", icon=":material/info:")
for column, name in zip(st.columns(max(1, len(watched)), gap="large"), watched, strict=False):
    with column:
        if len(watched) > 1:
            st.header(name, anchor=False)
        watch_run(name, narrow=len(watched) > 1)
