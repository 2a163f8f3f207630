"""The shelf of data sets: choosing one, what is known of it, taking it off."""

import contextlib
from datetime import datetime

import streamlit as st
from streamlit.errors import StreamlitAPIException

from app.components.data_choice import BY_PATH
from app.components.frame import escape, show_error
from bc_model.data.sets import DataSet, list_sets, remove_set
from bc_model.errors import BcModelError

ADDED_KEY = "set-added"
"""Of the session state: the name of a set that has just come, and a sentence on it."""

_KIND_WORDS = {
    "stored": "Pictures on the shelf",
    "linked": "A folder that stays where it is",
    "by hand": "Put on the shelf by hand",
}


def choose_set() -> DataSet | None:
    """Draw the picker; None when the shelf is empty."""
    sets, problems = list_sets()
    for problem in problems:
        st.warning(escape(problem), title="A data set was left out")
    if refused := st.session_state.pop("set-error", None):
        show_error(BcModelError(refused))
    by_name = {one.name: one for one in sets}
    wanted = st.query_params.get("set")
    if added := st.session_state.pop(ADDED_KEY, None):
        name, words = added
        _choose(name)
        st.toast(escape(words), icon=":material/check_circle:")
    elif wanted and wanted not in (*by_name, BY_PATH, st.session_state.pop("set-removed", None)):
        st.warning(
            f"The data set {escape(wanted)} named in the address is not there; another one is "
            "chosen."
        )
    if not by_name:
        return None
    if wanted not in by_name:
        chosen = st.session_state.get("set")
        _choose(chosen if chosen in by_name else sets[0].name)
    name = st.selectbox(
        "Data set",
        list(by_name),
        index=None,
        key="set",
        bind="query-params",
        placeholder="Choose a data set",
    )
    return by_name.get(name or "")


def _choose(name: str) -> None:
    """Choose a set, in the address too: a refresh after another one has come shows the same."""
    st.session_state["set"] = name
    # The picker writes the address when its value changes, not when it is drawn first.
    with contextlib.suppress(StreamlitAPIException):  # it is there already
        st.query_params["set"] = name


def draw_origin(data_set: DataSet) -> None:
    """Say where a set came from, and what was told when it was added."""
    words = _KIND_WORDS.get(data_set.kind, data_set.kind)
    words += f": {escape(str(data_set.pictures))}"
    if data_set.source and data_set.kind == "stored":
        words += f", from {escape(data_set.source)}"
    if data_set.added:
        words += f". Added {datetime.fromisoformat(data_set.added):%Y-%m-%d}"
    if sha256 := data_set.details.get("sha256"):
        words += f". SHA-256 of the archive: `{sha256}`"
    st.caption(words + ".")
    notes = data_set.details.get("notes") or []
    skipped = data_set.details.get("skipped") or []
    if notes or skipped:
        with st.expander("Said when it was added", icon=":material/description:"):
            for note in notes:
                st.markdown(escape(note))
            if skipped:
                st.dataframe(
                    [{"File": path, "Left out because": reason} for path, reason in skipped],
                    hide_index=True,
                    alt="Files of the archive that were left out",
                )


def draw_remove(data_set: DataSet) -> None:
    """Draw the button that takes a set off the shelf; one put there by hand has none."""
    if data_set.kind == "by hand":
        return
    # Keyed by the name: it does not stay open over the next set.
    with st.popover("Remove", icon=":material/delete:", key=f"remove:{data_set.name}"):
        st.markdown(
            "This deletes the pictures on the shelf. It cannot be undone."
            if data_set.kind == "stored"
            else "This takes the folder off the shelf. Its pictures stay where they are."
        )

        def remove() -> None:
            try:
                remove_set(data_set.name)
                st.session_state["set-removed"] = data_set.name
            except (BcModelError, OSError) as error:
                st.session_state["set-error"] = str(error)

        st.button(
            "Remove this data set", key="remove-set", type="primary", on_click=remove,
            icon=":material/delete_forever:",
        )  # fmt: skip
