"""Page Experiments: groups of runs and their combined metrics."""

import streamlit as st

from app.components.experiments.experiment_monitor import watch_experiment
from app.components.experiments.protocol_form import show_protocol_form
from app.components.layout import keep_selection, show_action_error
from bc_model.experiments import list_experiments
from bc_model.training import runs_dir

st.title("Experiments", anchor=False)
st.markdown("Groups of runs: protocol comparisons, cross-validations and parameter sweeps.")

show_action_error()
names = list_experiments(runs_dir())
with st.expander("New protocol comparison", expanded=not names, icon=":material/add_circle:"):
    started = show_protocol_form()
if started and not names:
    # A value that is set before its widget exists is not written to the URL.
    st.switch_page("views/experiments.py", query_params={"experiment": started})
elif started:
    names.insert(0, started)
    st.session_state["experiment"] = started
if not names:
    st.info(
        "No experiment yet. Start a protocol comparison, or a cross-validation on the page Train.",
        icon=":material/info:",
    )
    st.stop()

if "experiment" not in st.query_params:
    # The default of the widget would not be written to the URL.
    st.session_state.setdefault("experiment", names[0])
keep_selection("experiment", names)
name = st.selectbox(
    "Experiment",
    names,
    index=None,
    key="experiment",
    bind="query-params",
    placeholder="Select an experiment",
)
if name in names:
    watch_experiment(name)
