"""The dataset to train on: a registered dataset, or a folder by its path."""

from pathlib import Path

import streamlit as st

from app.components.frame import escape
from app.places import typed_path
from bc_model.data.sets import list_sets

BY_PATH = "Other folder"
TRAIN_ON_KEY = "train-on"
"""Session-state key for the name of the dataset that the page Data wants to train on."""


def choose_folder() -> Path | None:
    """Draw the selection and return the folder, None without a selection."""
    sets = {one.name: one for one in list_sets()[0]}
    chosen: str | None = BY_PATH
    if sets:
        if (asked := st.session_state.pop(TRAIN_ON_KEY, None)) in sets:
            st.session_state["set"] = asked
        wanted = st.query_params.get("set")
        if wanted and wanted not in (*sets, BY_PATH):
            st.warning(f"Dataset '{escape(wanted)}' was not found. Select another one.")
        chosen = st.selectbox(
            "Dataset",
            [*sets, BY_PATH],
            index=None,
            key="set",
            bind="query-params",
            placeholder="Select a dataset",
            help="Add datasets on the page Data.",
        )
    if chosen in sets:
        folder = sets[chosen].pictures
        st.caption(escape(str(folder)))
        return folder
    if chosen != BY_PATH:
        return None
    typed = st.text_input(
        "Dataset folder",
        key="data",
        persist_state="session",
        placeholder="/data/BreaKHis_v1",
        help="The BreakHis folder tree, or a folder with subfolders benign and malignant.",
    ).strip()
    return typed_path(typed) if typed else None
