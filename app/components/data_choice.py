"""Which pictures to train on: a set of the shelf, or a folder by its path."""

from pathlib import Path

import streamlit as st

from app.components.frame import escape
from app.places import typed_path
from bc_model.data.sets import list_sets

BY_PATH = "A folder by its path"
TRAIN_ON_KEY = "train-on"
"""Of the session state: the name of the set that the Data page asks to train on."""


def choose_folder() -> Path | None:
    """Draw the choice; None as long as nothing is chosen."""
    sets = {one.name: one for one in list_sets()[0]}
    chosen: str | None = BY_PATH
    if sets:
        if (asked := st.session_state.pop(TRAIN_ON_KEY, None)) in sets:
            st.session_state["set"] = asked
        wanted = st.query_params.get("set")
        if wanted and wanted not in (*sets, BY_PATH):
            st.warning(f"The data set {escape(wanted)} named in the address is not there.")
        chosen = st.selectbox(
            "Data set",
            [*sets, BY_PATH],
            index=None,
            key="set",
            bind="query-params",
            placeholder="Choose a data set",
            help="Those of the Data page; add one there.",
        )
    if chosen in sets:
        folder = sets[chosen].pictures
        st.caption(escape(str(folder)))
        return folder
    if chosen != BY_PATH:
        return None
    typed = st.text_input(
        "Folder of the data set",
        key="data",
        persist_state="session",
        placeholder="/data/BreaKHis_v1",
        help="The BreakHis tree at any depth, or a folder with folders named benign and malignant.",
    ).strip()
    return typed_path(typed) if typed else None
