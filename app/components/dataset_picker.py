"""The dataset registry: select a dataset, show its origin, remove it."""

import contextlib
from datetime import datetime
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitAPIException

from app.components.layout import escape, show_error
from app.components.paths import typed_path
from bc_model.data import RegisteredDataset, list_datasets, remove_dataset
from bc_model.errors import BcModelError

BY_PATH = "Other folder"
TRAIN_ON_KEY = "train-on"
"""Session-state key for the name of the dataset that the page Data wants to train on."""


def choose_folder() -> Path | None:
    """Draw the selection and return the folder, None without a selection."""
    sets = {one.name: one for one in list_datasets()[0]}
    chosen: str | None = BY_PATH
    if sets:
        if (asked := st.session_state.pop(TRAIN_ON_KEY, None)) in sets:
            st.session_state["set"] = asked
        target = st.query_params.get("set")
        if target and target not in (*sets, BY_PATH):
            st.warning(f"Dataset '{escape(target)}' was not found. Select another one.")
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
        folder = sets[chosen].images_dir
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


ADDED_KEY = "set-added"
"""Session-state key for the name of a dataset that was just added, and a message about it."""

_KIND_WORDS = {
    "stored": "Stored copy",
    "linked": "Linked folder",
    "unmanaged": "Added manually",
}


def choose_dataset() -> RegisteredDataset | None:
    """Draw the selection and return the dataset, None if there is none."""
    sets, problems = list_datasets()
    for problem in problems:
        st.warning(escape(problem), title="Dataset skipped")
    if refused := st.session_state.pop("set-error", None):
        show_error(BcModelError(refused))
    by_name = {one.name: one for one in sets}
    target = st.query_params.get("set")
    if added := st.session_state.pop(ADDED_KEY, None):
        name, words = added
        _choose(name)
        st.toast(escape(words), icon=":material/check_circle:")
    elif target and target not in (*by_name, BY_PATH, st.session_state.pop("set-removed", None)):
        st.warning(f"Dataset '{escape(target)}' was not found. Another dataset is selected.")
    if not by_name:
        return None
    if target not in by_name:
        chosen = st.session_state.get("set")
        _choose(chosen if chosen in by_name else sets[0].name)
    name = st.selectbox(
        "Dataset",
        list(by_name),
        index=None,
        key="set",
        bind="query-params",
        placeholder="Select a dataset",
    )
    return by_name.get(name or "")


def _choose(name: str) -> None:
    """Select a dataset, in the URL too, so that a refresh shows the same one."""
    st.session_state["set"] = name
    # The widget writes the URL when its value changes, not when it is first drawn.
    with contextlib.suppress(StreamlitAPIException):  # The URL contains it already.
        st.query_params["set"] = name


def draw_origin(dataset: RegisteredDataset) -> None:
    """Draw the origin of a dataset, and the messages from when it was added."""
    words = _KIND_WORDS.get(dataset.kind, dataset.kind)
    words += f": {escape(str(dataset.images_dir))}"
    if dataset.source and dataset.kind == "stored":
        words += f", from {escape(dataset.source)}"
    if dataset.added:
        words += f". Added {datetime.fromisoformat(dataset.added):%Y-%m-%d}"
    if sha256 := dataset.details.get("sha256"):
        words += f". SHA-256 of the archive: `{sha256}`"
    st.caption(words + ".")
    notes = dataset.details.get("notes") or []
    skipped = dataset.details.get("skipped") or []
    if notes or skipped:
        with st.expander("Import messages", icon=":material/description:"):
            for note in notes:
                st.markdown(escape(note))
            if skipped:
                st.dataframe(
                    [{"File": path, "Reason": reason} for path, reason in skipped],
                    hide_index=True,
                    alt="Excluded files of the archive",
                )


def draw_remove(dataset: RegisteredDataset) -> None:
    """Draw the button that removes a dataset, unless it was added manually."""
    if dataset.kind == "unmanaged":
        return
    # The name in the key closes the popover when another dataset is selected.
    with st.popover("Remove", icon=":material/delete:", key=f"remove:{dataset.name}"):
        st.markdown(
            "This deletes the stored images permanently."
            if dataset.kind == "stored"
            else "This removes the link. The images stay in their folder."
        )

        def remove() -> None:
            try:
                remove_dataset(dataset.name)
                st.session_state["set-removed"] = dataset.name
            except (BcModelError, OSError) as error:
                st.session_state["set-error"] = str(error)

        st.button(
            "Remove dataset", key="remove-set", type="primary", on_click=remove,
            icon=":material/delete_forever:",
        )  # fmt: skip
