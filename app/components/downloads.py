"""BreakHis by download: started here, done by a process of its own, watched from any page."""

import streamlit as st

from app.components.frame import escape, show_error
from app.components.shelf import ADDED_KEY
from bc_model.data.download import OFFICIAL_URL
from bc_model.data.download_job import (
    cancel_download,
    forget_download,
    list_downloads,
    start_download,
)
from bc_model.data.download_record import Download
from bc_model.data.sets import open_set
from bc_model.errors import BcModelError, DataError

_STATE_WORDS = {
    "starting": "Starting",
    "downloading": "Downloading",
    "unpacking": "Unpacking",
    "failed": "Broken off",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
}


def draw_download() -> None:
    """Draw the way of adding BreakHis by download."""
    st.caption(
        f"The official archive, `{OFFICIAL_URL}`: about 4 GB by plain HTTP, and as much "
        "again unpacked. The authors publish no checksum; the first download tells its own, and "
        "later ones can be held to it. It goes on in a process of its own: this page can be "
        "closed, and after a break it goes on where it stood."
    )
    name = st.text_input("Name", "BreaKHis_v1", key="add-download-name").strip()
    sha256 = st.text_input(
        "SHA-256 to hold it to",
        key="download-sha256",
        placeholder="64 hexadecimal digits, or empty",
        help="Other bytes than these are refused before anything is unpacked.",
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
    """Draw the downloads that go on or broke off; while one goes on, redraw it each second."""
    downloads = list_downloads()
    if downloads:
        going = tuple(one.name for one in downloads if one.is_going)
        # The period belongs to the decorator, so it is applied anew: none once all have ended.
        st.fragment(_draw_all, run_every="1s" if going else None)(going)


def _draw_all(were_going: tuple[str, ...]) -> None:
    if refused := st.session_state.pop("download-error", None):
        show_error(BcModelError(refused))
    downloads = list_downloads()
    going = tuple(one.name for one in downloads if one.is_going)
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
        if one.is_going:
            of = f" of {one.total / 1e6:,.0f}" if one.total else ""
            share = min(1.0, one.done / one.total) if one.total else 0.0
            words = f"{_STATE_WORDS[one.state]} {escape(one.name)}"
            st.progress(share, f"{words}: {one.done / 1e6:,.0f}{of} MB" if one.done else words)
        else:
            st.markdown(f"**{_STATE_WORDS[one.state]}: {escape(one.name)}**")
            st.markdown(escape(one.message))
        with st.container(horizontal=True):
            if one.is_going:
                _button(one, "Cancel", "close", "What has come is kept.")
            else:
                _button(one, "Go on", "play_arrow", "From where it stood.")
                _button(one, "Delete what came", "delete", "The next download starts again.")


def _button(one: Download, label: str, icon: str, words: str) -> None:
    def act() -> None:
        try:
            if label == "Cancel":
                cancel_download(one.name)
            elif label == "Go on":
                start_download(one.name, url=one.url, sha256=one.sha256)
            else:
                forget_download(one.name)
        except (BcModelError, OSError) as error:
            st.session_state["download-error"] = str(error)

    st.button(label, key=f"{icon}:{one.name}", icon=f":material/{icon}:", help=words, on_click=act)
