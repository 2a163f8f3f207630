"""Adding a dataset: a server folder or archive, a zip upload, BreakHis, or synthetic images."""

from collections.abc import Callable

import streamlit as st

from app.components.frame import show_error
from app.components.shelf import ADDED_KEY
from app.places import typed_path
from bc_model.data.drawn_set import add_drawn
from bc_model.data.intake import Added, IngestProgress, add, add_archive
from bc_model.data.set_names import suggest_name
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
MAX_DRAWN = 2000
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
        _draw_drawn()
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
        _add(name, lambda tell: add(typed_path(source), name, progress=tell))


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


def _draw_drawn() -> None:
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
        if n_cases * per_case > MAX_DRAWN:
            error = DataError(
                f"Too many images. Expected at most {MAX_DRAWN:,}, got {n_cases * per_case:,}. "
                "Reduce the number of cases or images per case."
            )
            show_error(error, title="No dataset generated")
            return
        _add(
            name,
            lambda tell: add_drawn(
                name,
                n_cases=int(n_cases),
                pictures_per_case=int(per_case),
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


def _add(name: str, work: Callable[[IngestProgress], Added]) -> None:
    """Run the work with a progress bar; select the new dataset or show the error."""
    place = st.empty()

    def tell(verb: str, done: int, total: int) -> None:
        if verb == "drawing":
            place.progress(done / total, f"Generating: {done:,} of {total:,} images")
            return
        of = f" of {total / 1e6:,.0f}" if total else ""
        share = min(1.0, done / total) if total else 0.0
        place.progress(share, f"{_VERBS.get(verb, verb)}: {done / 1e6:,.0f}{of} MB")

    try:
        added = work(tell)
    except (BcModelError, OSError) as error:
        place.empty()
        show_error(error, title="No dataset added")
        return
    count = f" with {added.pictures:,} images" if added.pictures else ""
    st.session_state[ADDED_KEY] = (name, f"Dataset {name}{count} was added.")
    st.session_state[ADDS_KEY] = st.session_state.get(ADDS_KEY, 0) + 1
    st.rerun()
