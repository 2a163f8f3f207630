"""Studies: runs that belong together, and what they say together."""

import streamlit as st

from app.components.frame import show_error, tell_again
from app.components.report_form import draw_report_form
from app.components.studies import watch_study
from app.places import runs_folder
from bc_model.errors import BcModelError
from bc_model.training.study_file import list_studies

st.title("Studies", anchor=False)
st.markdown(
    "Runs that belong together: one recipe under several split protocols, the folds of a "
    "cross-validation, or the settings of a sweep."
)

if refused := st.session_state.pop("study-error", None):
    show_error(BcModelError(refused))
names = [study.name for study in list_studies(runs_folder())]
with st.expander(
    "New report: one recipe, several protocols", expanded=not names, icon=":material/add_circle:"
):
    started = draw_report_form()
if started and not names:
    # What is set before its box was ever on the page does not come into the URL by itself.
    st.switch_page("views/studies.py", query_params={"study": started})
elif started:
    names.insert(0, started)
    st.session_state["study"] = started
if not names:
    st.info(
        "No study yet. Start a report above, a cross-validation on the page Train, or settings "
        "with the command `sweep`.",
        icon=":material/info:",
    )
    st.stop()

if "study" not in st.query_params:
    # Not the widget's own default: a choice equal to that is left out of the URL.
    st.session_state.setdefault("study", names[0])
tell_again("study", names)
name = st.selectbox(
    "Study",
    names,
    index=None,
    key="study",
    bind="query-params",
    placeholder="Choose a study",
)
if name in names:
    watch_study(name)
