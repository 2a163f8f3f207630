"""The form that adds a dataset: a folder, an archive, a zip upload, or synthetic images."""

from collections.abc import Callable

import streamlit as st

from app.components.data.downloads import show_download_form
from app.components.dataset_picker import ADDED_KEY
from app.components.layout import show_error
from app.components.paths import list_roots, parse_path
from app.server.session_memory import is_upload_lost
from bc_model.data import (
    IngestProgress,
    IngestResult,
    add_archive,
    add_dataset,
    add_synthetic,
    suggest_name,
)
from bc_model.errors import BcModelError, DataError

SERVER_FOLDER = "Server folder"
SOURCES = {
    SERVER_FOLDER: ":material/folder:",
    "Zip upload": ":material/upload:",
    "BreakHis": ":material/download:",
    "Synthetic": ":material/draw:",
}
N_ADDED_KEY = "datasets-added"
"""Session-state key for the number of added datasets; widgets with it in their key are reset."""
_N_LOST_KEY = "zips-lost"
MAX_UPLOAD_MB = 500
MAX_SYNTHETIC = 2000
_ACTIONS = {"uploading": "Storing the upload", "unpacking": "Unpacking"}
_SIZES = {"Small (115 x 175 px)": (115, 175), "BreakHis size (460 x 700 px)": (460, 700)}


def show_add_form() -> None:
    """Show the form of the selected source."""
    sources = [name for name in SOURCES if name != SERVER_FOLDER or list_roots()]
    source = st.segmented_control(
        "Source",
        sources,
        default=sources[0],
        format_func=lambda name: f"{SOURCES[name]} {name}",
        key="add-source",
        required=True,
    )
    if source == "Zip upload":
        _show_upload()
    elif source == "BreakHis":
        show_download_form()
    elif source == "Synthetic":
        _show_synthetic()
    elif source == SERVER_FOLDER:
        _show_folder()


def _show_folder() -> None:
    source = st.text_input(
        "Folder or archive",
        key=_key("add-folder"),
        placeholder="/data/BreaKHis_v1",
        help="A folder is linked. A zip or tar.gz file is unpacked and stored.",
    ).strip()
    name = _name_field("folder", source)
    if st.button("Add", key="add-folder-button", type="primary", disabled=not source):
        _add(name, lambda show: add_dataset(parse_path(source), name, progress=show))


def _show_upload() -> None:
    n_lost = st.session_state.get(_N_LOST_KEY, 0)
    key = _key(f"zip-{n_lost}")
    upload = st.file_uploader(
        "Zip file",
        type=["zip"],
        key=key,
        max_upload_size=MAX_UPLOAD_MB,
        help="The BreakHis folder tree, or folders named benign and malignant.",
    )
    if is_upload_lost(st.session_state.get(key)):
        st.session_state[_N_LOST_KEY] = n_lost + 1  # An uploader with a new key is empty.
        st.rerun()
    if n_lost and not upload:
        st.warning("The server no longer holds the zip file. Upload it again.")
    name = _name_field("zip", upload.name if upload else "")
    if st.button("Add", key="add-zip-button", type="primary", disabled=not upload) and upload:
        upload.seek(0)
        _add(name, lambda show: add_archive(upload, name, source_name=upload.name, progress=show))


def _show_synthetic() -> None:
    st.caption(
        "Synthetic images only test the app; models trained on them are not valid for tissue."
    )
    cases, images, size = st.columns(3)
    n_cases = cases.number_input("Cases", 6, 200, 30, key="synthetic-cases")
    per_case = images.number_input("Images per case", 1, 100, 6, key="synthetic-images")
    chosen = size.selectbox("Image size", list(_SIZES), key="synthetic-size")
    name = _name_field("synthetic", "synthetic")
    if st.button("Generate", key="generate", type="primary", icon=":material/draw:"):
        if n_cases * per_case > MAX_SYNTHETIC:
            error = DataError(
                f"Too many images. Expected at most {MAX_SYNTHETIC:,}, got {n_cases * per_case:,}. "
                "Reduce the number of cases or images per case."
            )
            show_error(error, title="No dataset generated")
            return
        _add(
            name,
            lambda show: add_synthetic(
                name,
                n_cases=int(n_cases),
                images_per_case=int(per_case),
                size=_SIZES[chosen],
                progress=lambda n_done, n_total: show("generating", n_done, n_total),
            ),
        )


def _name_field(form: str, source: str) -> str:
    """Show the field for the name, and return the name or one derived from the source."""
    suggestion = suggest_name(source)
    typed = st.text_input(
        "Name",
        key=_key(f"add-{form}-name"),
        placeholder=suggestion or "my-dataset",
        help="Letters, digits, '.', '_' and '-'.",
    )
    return typed.strip() or suggestion


def _key(name: str) -> str:
    """Return the key of a field that is reset, with its upload, after a dataset was added."""
    return f"{name}-{st.session_state.get(N_ADDED_KEY, 0)}"


def _add(name: str, work: Callable[[IngestProgress], IngestResult]) -> None:
    """Run the work with a progress bar; select the new dataset or show the error."""
    place = st.empty()

    def show(action: str, n_done: int, n_total: int) -> None:
        if action == "generating":
            place.progress(n_done / n_total, f"Generating: {n_done:,} of {n_total:,} images")
            return
        size = f"{n_done / 1e6:,.0f}" + (f" of {n_total / 1e6:,.0f}" if n_total else "")
        proportion = min(1.0, n_done / n_total) if n_total else 0.0
        place.progress(proportion, f"{_ACTIONS.get(action, action)}: {size} MB")

    try:
        added = work(show)
    except (BcModelError, OSError) as error:
        place.empty()
        show_error(error, title="No dataset added")
        return
    count = f" with {added.n_images:,} images" if added.n_images else ""
    st.session_state[ADDED_KEY] = (name, f"Dataset {name}{count} was added.")
    st.session_state[N_ADDED_KEY] = st.session_state.get(N_ADDED_KEY, 0) + 1
    st.session_state.pop(_N_LOST_KEY, None)
    st.rerun()
