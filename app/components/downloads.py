"""Download of BreakHis: started here, done by a separate process, shown on any page."""

import streamlit as st

from app.components.frame import escape, show_error
from app.components.shelf import ADDED_KEY
from bc_model.data.download import OFFICIAL_URL
from bc_model.data.download_job import (
    Download,
    cancel_download,
    forget_download,
    list_downloads,
    start_download,
)
from bc_model.data.sets import open_set
from bc_model.errors import BcModelError, DataError

_PHASE_NAMES = {"": "Starting", "downloading": "Downloading", "unpacking": "Unpacking"}
_STATE_NAMES = {"failed": "Failed", "canceled": "Canceled", "interrupted": "Interrupted"}


def draw_download() -> None:
    """Draw the form that downloads BreakHis."""
    st.caption(
        f"The official archive, `{OFFICIAL_URL}`, has about 4 GB, and as much again unpacked. "
        "The download runs in the background and can be resumed; you can close this page."
    )
    name = st.text_input("Name", "BreaKHis_v1", key="add-download-name").strip()
    sha256 = st.text_input(
        "SHA-256 (optional)",
        key="download-sha256",
        placeholder="64 hexadecimal digits",
        help="The authors publish none. An archive with another checksum is refused.",
    ).strip()
    if st.button(
        "Download", key="download-button", type="primary", icon=":material/download:",
        disabled=not name,
    ):  # fmt: skip
        try:
            start_download(name, sha256=sha256)
        except (BcModelError, OSError) as error:
            show_error(error, title="The download was not started")
            return
        st.rerun()


def watch_downloads() -> None:
    """Draw the downloads that are running or have failed; redraw running ones every second."""
    downloads = list_downloads()
    if downloads:
        going = tuple(one.name for one in downloads if one.is_running)
        # The period belongs to the decorator: it is applied again, without a period at the end.
        st.fragment(_draw_all, run_every="1s" if going else None)(going)


def _draw_all(were_going: tuple[str, ...]) -> None:
    if refused := st.session_state.pop("download-error", None):
        show_error(BcModelError(refused))
    downloads = list_downloads()
    going = tuple(one.name for one in downloads if one.is_running)
    if going != were_going:
        for name in set(were_going) - {one.name for one in downloads}:
            try:
                open_set(name)
                st.session_state[ADDED_KEY] = (name, f"{name} is on the shelf.")
            except DataError:
                pass  # deleted elsewhere
        st.rerun()
    for one in downloads:
        _draw(one)


def _draw(one: Download) -> None:
    with st.container(border=True, key=f"download:{one.name}"):
        if one.is_running:
            total = f" of {one.n_total_bytes / 1e6:,.0f}" if one.n_total_bytes else ""
            proportion = min(1.0, one.n_bytes / one.n_total_bytes) if one.n_total_bytes else 0.0
            label = f"{_PHASE_NAMES[one.phase]} {escape(one.name)}"
            size = f": {one.n_bytes / 1e6:,.0f}{total} MB" if one.n_bytes else ""
            st.progress(proportion, label + size)
        else:
            st.markdown(f"**{_STATE_NAMES[one.state]}: {escape(one.name)}**")
            st.markdown(escape(one.message))
        with st.container(horizontal=True):
            if one.is_running:
                _button(one, "Cancel", "close", "Keeps the downloaded part.")
            else:
                _button(one, "Resume", "play_arrow", "Continues after the downloaded part.")
                _button(one, "Delete", "delete", "Deletes the downloaded part.")


def _button(one: Download, label: str, icon: str, words: str) -> None:
    def act() -> None:
        try:
            if label == "Cancel":
                cancel_download(one.name)
            elif label == "Resume":
                start_download(one.name, url=one.url, sha256=one.sha256)
            else:
                forget_download(one.name)
        except (BcModelError, OSError) as error:
            st.session_state["download-error"] = str(error)

    st.button(label, key=f"{icon}:{one.name}", icon=f":material/{icon}:", help=words, on_click=act)
