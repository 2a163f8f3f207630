"""Page Train: select a dataset and a configuration, start runs, monitor and control them."""

from pathlib import Path

import streamlit as st

from app.components.dataset_picker import TRAIN_ON_KEY, select_folder
from app.components.layout import escape_markdown, keep_selection, show_action_error, show_error
from app.components.split_form import lacks_fold_file
from app.components.train.config_form import show_config_form, show_dataset_audit
from app.components.train.run_monitor import watch_run
from app.components.train.start_button import show_start_button
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

MAX_MONITORED_RUNS = 3

st.title("Train", anchor=False)
st.markdown(
    "Head training on a frozen backbone, then fine-tuning; runs continue when this page is closed."
)


@st.cache_data(show_spinner=False, ttl=300)  # The speed depends on the current load.
def measure_speed() -> tuple[float, bool]:
    """Return the speed of the machine, GFLOP/s, and whether it supports bfloat16."""
    return measure_gflops(), "bf16" in supported_precisions()


show_action_error()
runs = [run.name for run in list_runs(runs_dir())]
# The dataset was selected on this page or on the page Data.
has_dataset = "dataset" in st.query_params or TRAIN_ON_KEY in st.session_state
with st.expander("New run", expanded=not runs or has_dataset, icon=":material/add_circle:"):
    folder = select_folder()
    preview = st.container()
    config: TrainingConfig | None = None
    subsets: dict | None = None
    try:
        chosen = show_config_form()
        if folder:
            with preview:
                subsets = show_dataset_audit(folder, chosen)
        if chosen["protocol"] in PROTOCOLS_WITH_LEAKAGE:
            st.warning(
                "This split has images of one case in several subsets, so the metrics of the run "
                "are marked as with leakage.",
                title="Split with leakage",
            )
        if not lacks_fold_file(chosen):
            config = TrainingConfig(data=str((folder or Path()).resolve()), **chosen)
    except BcModelError as error:
        show_error(error, title="Invalid configuration")
    ready = config if subsets else None
    seconds = None
    if ready and subsets:
        counts = subsets["train"]["images"], subsets["validation"]["images"]
        gflops, has_bfloat16 = measure_speed()
        seconds = estimate_duration_s(ready, *counts, gflops, has_bfloat16=has_bfloat16)
    if started := show_start_button(ready, seconds):
        runs = [run.name for run in list_runs(runs_dir())]
        st.session_state["run"] = [started, *st.session_state.get("run", [])][:MAX_MONITORED_RUNS]
        st.toast(f"Run {started} was queued.", icon=":material/check_circle:")
    if not folder:
        st.caption("Select a dataset to continue.")

if not runs:
    st.info("No run yet. Select a dataset and start a run.", icon=":material/info:")
    st.stop()

for name in st.query_params.get_all("run"):
    if name not in runs and name in st.session_state.get("run", [name]):
        st.warning(f"Run '{escape_markdown(name)}' was not found.")
if "run" not in st.query_params:
    # The default of the widget would not be written to the URL, and a refresh could show
    # another run.
    st.session_state.setdefault("run", runs[:1])
keep_selection("run", runs)
monitored = st.multiselect(
    "Runs",
    runs,
    key="run",
    bind="query-params",
    max_selections=MAX_MONITORED_RUNS,
    placeholder="Select up to three runs",
)
if not monitored:
    st.info("Select a run to monitor it.", icon=":material/info:")
for column, name in zip(st.columns(max(1, len(monitored)), gap="large"), monitored, strict=False):
    with column:
        if len(monitored) > 1:
            st.header(name, anchor=False)
        watch_run(name, is_narrow=len(monitored) > 1)
