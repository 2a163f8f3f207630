"""The download of BreakHis: its form, and a monitor of running and failed downloads."""

import contextlib

import streamlit as st

from app.components.action_log import perform_logged, show_confirmed_button
from app.components.dataset_picker import ADDED_KEY
from app.components.layout import (
    escape_markdown,
    make_fragment,
    show_action_button,
    show_action_error,
    show_error,
)
from app.components.queue_limit import limit_downloads
from bc_model.data import (
    OFFICIAL_URL,
    Download,
    cancel_download,
    delete_download,
    list_downloads,
    open_dataset,
    start_download,
)
from bc_model.errors import BcModelError, DataError

_PHASE_LABELS = {"": "Starting", "downloading": "Downloading", "unpacking": "Unpacking"}
_STATE_LABELS = {
    "failed": "Failed", "canceled": "Canceled", "interrupted": "Interrupted", "damaged": "Damaged",
}  # fmt: skip


def show_download_form() -> None:
    """Show the form that downloads BreakHis."""
    st.caption(
        f"The official archive, `{OFFICIAL_URL}`, has about 4 GB, and as much again unpacked; the "
        "download continues when this page is closed."
    )
    name = st.text_input("Name", "BreaKHis_v1", key="add-download-name").strip()
    sha256 = st.text_input(
        "SHA-256",
        key="download-sha256",
        placeholder="64 hexadecimal digits",
        help="Optional. An archive with another checksum is refused.",
    ).strip()
    if st.button(
        "Download", key="download-button", type="primary", icon=":material/download:",
        disabled=not name,
    ):  # fmt: skip
        try:
            with limit_downloads():
                start_download(name, sha256=sha256)
        except (BcModelError, OSError) as error:
            show_error(error, title="Download not started")
            return
        st.rerun()


def watch_downloads() -> None:
    """Show running and failed downloads, and refresh running ones every second."""
    if downloads := list_downloads():
        running = _list_running(downloads)
        make_fragment(_show_downloads, "1s" if running else None)(running)


def _list_running(downloads: list[Download]) -> tuple[str, ...]:
    return tuple(download.name for download in downloads if download.is_running)


def _show_downloads(previously_running: tuple[str, ...]) -> None:
    show_action_error()
    downloads = list_downloads()
    if _list_running(downloads) != previously_running:
        for name in set(previously_running) - {download.name for download in downloads}:
            with contextlib.suppress(DataError):  # The download was deleted in another session.
                open_dataset(name)
                st.session_state[ADDED_KEY] = (name, f"Dataset {name} was added.")
        st.rerun()
    for download in downloads:
        with st.container(border=True, key=f"download:{download.name}"):
            _show_download(download)


def _resume(download: Download) -> None:
    with limit_downloads():
        start_download(download.name, url=download.url, sha256=download.sha256)


def _show_download(download: Download) -> None:
    name = download.name
    if not download.is_running:
        label = _STATE_LABELS.get(download.state, "Ended")
        st.markdown(f"**{label}: {escape_markdown(name)}**")
        st.markdown(escape_markdown(download.message))
        with st.container(horizontal=True):
            if download.state != "damaged":
                show_action_button(
                    "Resume",
                    "play_arrow",
                    lambda: _resume(download),
                    key=f"resume:{name}",
                    help="Continues after the downloaded bytes.",
                )
            show_confirmed_button(
                "Delete",
                f"This deletes the downloaded {download.n_bytes / 1e6:,.0f} MB of "
                f"{escape_markdown(name)}.",
                "Delete download",
                lambda: delete_download(name),
                target=name,
                key="delete-download",
            )
        return
    n_total = download.n_total_bytes
    size = f": {download.n_bytes / 1e6:,.0f}" if download.n_bytes else ""
    if size:
        size += f" of {n_total / 1e6:,.0f} MB" if n_total else " MB"
    st.progress(
        min(1.0, download.n_bytes / n_total) if n_total else 0.0,
        f"{_PHASE_LABELS.get(download.phase, 'Working on')} {escape_markdown(name)}{size}",
    )

    show_action_button(
        "Cancel",
        "close",
        lambda: perform_logged("Cancel download", name, lambda: cancel_download(name)),
        key=f"cancel:{name}",
        help="Keeps the downloaded bytes.",
    )
