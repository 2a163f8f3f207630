"""Widgets of the dataset registry: select a dataset, show its origin, remove it."""

import contextlib
from datetime import datetime
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitAPIException

from app.components.action_log import show_confirmed_button
from app.components.layout import escape_markdown, show_action_error, show_error
from app.components.paths import list_roots, parse_path
from bc_model.data import RegisteredDataset, list_datasets, remove_dataset
from bc_model.errors import DataError

BY_PATH = "Other folder"
TRAIN_ON_KEY = "train-on"
"""Session-state key: name of the dataset that the page Data passes to the page Train."""


def select_folder() -> Path | None:
    """Show the selection and return the folder, None without a selection."""
    datasets = {dataset.name: dataset for dataset in list_datasets()[0]}
    others = [BY_PATH] if list_roots() else []
    chosen: str | None = BY_PATH if others else None
    if datasets:
        if (passed := st.session_state.pop(TRAIN_ON_KEY, None)) in datasets:
            st.session_state["dataset"] = passed
        target = st.query_params.get("dataset")
        if target and target not in (*datasets, *others):
            st.warning(f"Dataset '{escape_markdown(target)}' was not found. Select another one.")
        chosen = st.selectbox(
            "Dataset",
            [*datasets, *others],
            index=None,
            key="dataset",
            bind="query-params",
            placeholder="Select a dataset",
            help="Add datasets on the page Data.",
        )
    if chosen in datasets:
        folder = datasets[chosen].images_dir
        st.caption(escape_markdown(str(folder)))
        return folder
    if not datasets and not others:
        st.info("No dataset yet. Add one on the page Data.", icon=":material/info:")
    if chosen != BY_PATH:
        return None
    typed = st.text_input(
        "Dataset folder",
        key="dataset_folder",
        persist_state="session",
        placeholder="/data/BreaKHis_v1",
        help="The BreakHis folder tree, or a folder with subfolders benign and malignant.",
    ).strip()
    if not typed:
        return None
    try:
        return parse_path(typed)
    except DataError as error:
        show_error(error, title="Dataset not usable")
        return None


ADDED_KEY = "dataset-added"
"""Session-state key: name of a dataset that was just added, and a message about it."""

_KIND_LABELS = {"stored": "Stored copy", "linked": "Linked folder"}
"""Datasets of any other kind were added manually to the folder of the registry."""


def select_dataset() -> RegisteredDataset | None:
    """Show the selection and return the dataset, None if there is none."""
    datasets, problems = list_datasets()
    for problem in problems:
        st.warning(escape_markdown(problem), title="Dataset skipped")
    show_action_error()
    by_name = {dataset.name: dataset for dataset in datasets}
    target = st.query_params.get("dataset")
    if added := st.session_state.pop(ADDED_KEY, None):
        name, message = added
        _select(name)
        st.toast(escape_markdown(message), icon=":material/check_circle:")
    elif target and target not in (
        *by_name,
        BY_PATH,
        st.session_state.pop("dataset-removed", None),
    ):
        st.warning(
            f"Dataset '{escape_markdown(target)}' was not found. Another dataset is selected."
        )
    if not by_name:
        return None
    if target not in by_name:
        chosen = st.session_state.get("dataset")
        _select(chosen if chosen in by_name else datasets[0].name)
    name = st.selectbox(
        "Dataset",
        list(by_name),
        index=None,
        key="dataset",
        bind="query-params",
        placeholder="Select a dataset",
    )
    return by_name.get(name or "")


def _select(name: str) -> None:
    """Select a dataset, in the URL too, so that a refresh shows the same one."""
    st.session_state["dataset"] = name
    # The widget writes the URL when its value changes, not when it is first shown.
    with contextlib.suppress(StreamlitAPIException):  # The URL contains it already.
        st.query_params["dataset"] = name


def show_origin(dataset: RegisteredDataset) -> None:
    """Show the origin of a dataset, and the messages of its import."""
    kind = _KIND_LABELS.get(dataset.kind, "Added manually")
    text = f"{kind}: {escape_markdown(str(dataset.images_dir))}"
    if dataset.source and dataset.kind == "stored":
        text += f", from {escape_markdown(dataset.source)}"
    if dataset.added:
        text += f", added {datetime.fromisoformat(dataset.added):%Y-%m-%d}"
    st.caption(f"{text}.")
    if sha256 := dataset.details.get("sha256"):
        st.caption(f"SHA-256 of the archive: `{sha256}`.")
    notes = dataset.details.get("notes") or []
    skipped = dataset.details.get("skipped") or []
    if notes or skipped:
        with st.expander("Import messages", icon=":material/description:"):
            for note in notes:
                st.markdown(escape_markdown(note))
            if skipped:
                st.dataframe(
                    [{"File": path, "Reason": reason} for path, reason in skipped],
                    hide_index=True,
                    alt="Excluded files of the archive",
                )


def show_remove_button(dataset: RegisteredDataset) -> None:
    """Show the button that removes a dataset, unless it was added manually."""
    if dataset.kind not in _KIND_LABELS:
        return
    name = escape_markdown(dataset.name)

    def remove() -> None:
        remove_dataset(dataset.name)
        st.session_state["dataset-removed"] = dataset.name

    show_confirmed_button(
        "Remove",
        f"This deletes the stored images of {name} permanently."
        if dataset.kind == "stored"
        else f"This removes the link {name}. The images stay in their folder.",
        "Remove dataset",
        remove,
        target=dataset.name,
        key="remove-dataset",
    )
