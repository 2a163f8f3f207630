"""Adding a dataset: a server folder or archive, a zip upload, BreakHis, or synthetic images."""

from collections.abc import Callable

import streamlit as st

from app.components.dataset_picker import ADDED_KEY
from app.components.layout import escape, show_error
from app.components.paths import typed_path
from bc_model.data import (
    OFFICIAL_URL,
    Download,
    IngestProgress,
    IngestResult,
    add_archive,
    add_dataset,
    add_synthetic,
    cancel_download,
    delete_download,
    list_downloads,
    open_dataset,
    start_download,
    suggest_name,
)
from bc_model.errors import BcModelError, DataError

WAYS = {
    "Server folder": ":material/folder:",
    "Zip upload": ":material/upload:",
    "BreakHis": ":material/download:",
    "Synthetic": ":material/draw:",
}
ADDS_KEY = "sets-added"
"""Session-state key for the number of added datasets; widgets with it in their key are reset."""
MAX_UPLOAD_MB = 500
MAX_SYNTHETIC = 2000
_VERBS = {"uploading": "Storing the upload", "unpacking": "Unpacking"}
_SIZES = {"Small (115 x 175 px)": (115, 175), "BreakHis size (460 x 700 px)": (460, 700)}


def draw_add(draw_download: Callable[[], None]) -> None:
    """Draw the form of the selected source.

    Parameters
    ----------
    draw_download : callable
        Draws the download form.
    """
    way = st.segmented_control(
        "Source",
        list(WAYS),
        default="Server folder",
        format_func=lambda name: f"{WAYS[name]} {name}",
        key="add-way",
        required=True,
    )
    if way == "Zip upload":
        _draw_upload()
    elif way == "BreakHis":
        draw_download()
    elif way == "Synthetic":
        _show_synthetic()
    else:
        _draw_folder()


def _draw_folder() -> None:
    source = st.text_input(
        "Folder or archive",
        key=_key("add-folder"),
        placeholder="/data/BreaKHis_v1",
        help="A folder is linked. A zip or tar.gz file is unpacked and stored.",
    ).strip()
    name = _name_field("folder", source)
    if st.button("Add", key="add-folder-button", type="primary", disabled=not source):
        _add(name, lambda tell: add_dataset(typed_path(source), name, progress=tell))


def _draw_upload() -> None:
    upload = st.file_uploader(
        "Zip file",
        type=["zip"],
        key=_key("zip"),
        max_upload_size=MAX_UPLOAD_MB,
        help="The BreakHis folder tree, or folders named benign and malignant.",
    )
    name = _name_field("zip", upload.name if upload else "")
    if st.button("Add", key="add-zip-button", type="primary", disabled=not upload) and upload:
        upload.seek(0)
        _add(name, lambda tell: add_archive(upload, name, source_name=upload.name, progress=tell))


def _show_synthetic() -> None:
    st.caption(
        "Synthetic images are for testing the app only; models trained on them are not valid for "
        "tissue."
    )
    cases, images, size = st.columns(3)
    n_cases = cases.number_input("Cases", 6, 200, 30, key="drawn-cases")
    per_case = images.number_input("Images per case", 1, 100, 6, key="drawn-pictures")
    chosen = size.selectbox("Image size", list(_SIZES), key="drawn-size")
    name = _name_field("drawn", "synthetic")
    if st.button("Generate", key="draw-button", type="primary", icon=":material/draw:"):
        if n_cases * per_case > MAX_SYNTHETIC:
            error = DataError(
                f"Too many images. Expected at most {MAX_SYNTHETIC:,}, got {n_cases * per_case:,}. "
                "Reduce the number of cases or images per case."
            )
            show_error(error, title="No dataset generated")
            return
        _add(
            name,
            lambda tell: add_synthetic(
                name,
                n_cases=int(n_cases),
                images_per_case=int(per_case),
                size=_SIZES[chosen],
                progress=lambda done, total: tell("drawing", done, total),
            ),
        )


def _name_field(way: str, source: str) -> str:
    """Draw the field for the name, and return the name or one derived from the source."""
    suggestion = suggest_name(source)
    typed = st.text_input(
        "Name",
        key=_key(f"add-{way}-name"),
        placeholder=suggestion or "my-dataset",
        help="Letters, digits, '.', '_' and '-'.",
    )
    return typed.strip() or suggestion


def _key(name: str) -> str:
    """Return the key of a field that is reset after a dataset was added.

    The new widget also frees the memory of an upload.
    """
    return f"{name}-{st.session_state.get(ADDS_KEY, 0)}"


def _add(name: str, work: Callable[[IngestProgress], IngestResult]) -> None:
    """Run the work with a progress bar; select the new dataset or show the error."""
    place = st.empty()

    def tell(verb: str, done: int, total: int) -> None:
        if verb == "drawing":
            place.progress(done / total, f"Generating: {done:,} of {total:,} images")
            return
        of = f" of {total / 1e6:,.0f}" if total else ""
        proportion = min(1.0, done / total) if total else 0.0
        place.progress(proportion, f"{_VERBS.get(verb, verb)}: {done / 1e6:,.0f}{of} MB")

    try:
        added = work(tell)
    except (BcModelError, OSError) as error:
        place.empty()
        show_error(error, title="No dataset added")
        return
    count = f" with {added.n_images:,} images" if added.n_images else ""
    st.session_state[ADDED_KEY] = (name, f"Dataset {name}{count} was added.")
    st.session_state[ADDS_KEY] = st.session_state.get(ADDS_KEY, 0) + 1
    st.rerun()


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
                open_dataset(name)
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
                delete_download(one.name)
        except (BcModelError, OSError) as error:
            st.session_state["download-error"] = str(error)

    st.button(label, key=f"{icon}:{one.name}", icon=f":material/{icon}:", help=words, on_click=act)
