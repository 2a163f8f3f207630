"""The uploader of the page Classify, and the list of the images that the session holds."""

import re
from functools import partial

import streamlit as st
from streamlit.typing import UploadedFile

from app.components.action_log import show_confirmed_button
from app.components.classify.image_input import close_linked_image
from app.components.classify.session_images import HeldImage, SessionImages, hold_image
from app.components.layout import escape_markdown
from app.server.session_memory import make_upload_release
from bc_model.utils import format_count

MAX_UPLOAD_MB = 200
_LISTED = 10
_STATE_KEY = "session-images"
_ADDRESS_KEY = "uploads"
"""Query parameter: number of held images and of uploaders.

After a restart of the server, the images are reported as lost. The uploader has the same key, so
that the page receives files which were uploaded since then.
"""


def select_uploads() -> list[HeldImage]:
    """Show the uploader and the list of images, and return the images of the session."""
    session = _open_session()
    if session.uploader_key not in st.session_state and not session.is_stale:
        # Another page was open.
        session.start_uploader()
    uploads = st.file_uploader(
        "Images",
        type=["png", "jpg", "jpeg", "tif", "tiff"],
        accept_multiple_files=True,
        key=session.uploader_key,
        max_upload_size=MAX_UPLOAD_MB,
        help="PNG, JPEG or TIFF images, H&E-stained, at most 1,000 per minute. Not stored.",
    )
    if session.update({upload.file_id: partial(_hold, upload) for upload in uploads}):
        close_linked_image()
    if session.is_stale:
        session.start_uploader()
        st.rerun()
    _show_losses(session)
    images = session.list_images()
    _write_address(session, len(images) or session.n_lost)
    if images:
        with st.container(horizontal=True):
            _show_list(session, images)
            _show_remove_button(session, len(images))
    return images


def _open_session() -> SessionImages:
    if _STATE_KEY not in st.session_state:
        address = st.query_params.get(_ADDRESS_KEY, "")
        found = re.fullmatch("([0-9]{1,5})-([0-9]{1,5})", address)
        st.session_state[_STATE_KEY] = SessionImages(*map(int, found.groups() if found else ()))
    session: SessionImages = st.session_state[_STATE_KEY]
    return session


def _hold(upload: UploadedFile) -> HeldImage:
    # Shares the memory of the uploader, which is freed with the image.
    release = make_upload_release(upload.file_id)
    return hold_image(upload.name, upload.getvalue(), upload.file_id, release)


def _show_losses(session: SessionImages) -> None:
    if session.n_lost:
        st.warning(
            f"This tab no longer holds {format_count(session.n_lost, 'uploaded image')}. Upload "
            "them again.",
            title="Images not available",
        )
    if session.evicted:
        names = ", ".join(map(escape_markdown, session.evicted[:_LISTED]))
        more = len(session.evicted) - _LISTED
        st.warning(
            f"The memory for images was full. Removed, the oldest first: {names}"
            f"{f' and {more:,} more' if more > 0 else ''}. Upload them again.",
            title="Images removed",
        )
    if session.n_lost or session.evicted:
        st.button(
            "Dismiss", key="dismiss-losses", icon=":material/close:",
            on_click=session.dismiss_losses,
        )  # fmt: skip


def _write_address(session: SessionImages, n_images: int) -> None:
    text = f"{n_images}-{session.n_uploaders}"
    if text == "0-1":
        st.query_params.pop(_ADDRESS_KEY, None)
    elif st.query_params.get(_ADDRESS_KEY) != text:
        st.query_params[_ADDRESS_KEY] = text


def _show_list(session: SessionImages, images: list[HeldImage]) -> None:
    label = f"{format_count(len(images), 'image')}, {session.n_bytes / 2**20:.1f} MB"
    with st.popover(label, icon=":material/photo_library:", key="held", on_change="rerun") as list_:
        if not list_.open:
            return
        n_pages = -(-len(images) // _LISTED)
        page = st.pagination(n_pages, key="held-page") if n_pages > 1 else 1
        first = (min(page, n_pages) - 1) * _LISTED
        for number, image in enumerate(images[first : first + _LISTED], start=first):
            st.button(
                escape_markdown(image.name),
                key=f"remove-{number}-{image.sha256[:8]}",
                icon=":material/close:",
                type="tertiary",
                help="Remove this image",
                on_click=session.remove,
                args=(image,),
            )


def _show_remove_button(session: SessionImages, n_images: int) -> None:
    count = format_count(n_images, "image")
    show_confirmed_button(
        "Remove all",
        f"This removes {count} and the predictions from this tab. Your files stay.",
        "Remove all images",
        session.clear,
        target=count,
        key="remove-images",
    )
