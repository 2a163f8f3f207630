"""Adding a data set: a folder or archive on the server, a zip upload, BreakHis, or a drawn one."""

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
    "Folder on the server": ":material/folder:",
    "Zip upload": ":material/upload:",
    "BreakHis": ":material/download:",
    "Drawn": ":material/draw:",
}
ADDS_KEY = "sets-added"
"""Of the session state: how many sets were added; what is keyed by it starts afresh."""
MAX_UPLOAD_MB = 500
MAX_DRAWN = 2000
_VERBS = {"uploading": "Storing the upload", "unpacking": "Unpacking"}
_SIZES = {"Small, 115 x 175 px": (115, 175), "As BreakHis, 460 x 700 px": (460, 700)}


def draw_add(draw_download: Callable[[], None]) -> None:
    """Draw the ways of adding a set, one at a time.

    Parameters
    ----------
    draw_download : callable
        Draws the way by download.
    """
    way = st.segmented_control(
        "From where",
        list(WAYS),
        default="Folder on the server",
        format_func=lambda name: f"{WAYS[name]} {name}",
        key="add-way",
        required=True,
    )
    if way == "Zip upload":
        _draw_upload()
    elif way == "BreakHis":
        draw_download()
    elif way == "Drawn":
        _draw_drawn()
    else:
        _draw_folder()


def _draw_folder() -> None:
    source = st.text_input(
        "Folder or archive on the server",
        key=_key("add-folder"),
        placeholder="/data/BreaKHis_v1",
        help="A folder stays where it is. A zip or tar.gz is unpacked onto the shelf.",
    ).strip()
    name = _name_field("folder", source)
    if st.button("Add", key="add-folder-button", type="primary", disabled=not source):
        _add(name, lambda tell: add(typed_path(source), name, progress=tell))


def _draw_upload() -> None:
    upload = st.file_uploader(
        "Zip of pictures",
        type=["zip"],
        key=_key("zip"),
        max_upload_size=MAX_UPLOAD_MB,
        help="In the BreakHis tree, or with folders named benign and malignant. Only pictures are "
        "taken from it. Put a larger one on the server and name its path.",
    )
    name = _name_field("zip", upload.name if upload else "")
    if st.button("Add", key="add-zip-button", type="primary", disabled=not upload) and upload:
        upload.seek(0)
        _add(name, lambda tell: add_archive(upload, name, source_name=upload.name, progress=tell))


def _draw_drawn() -> None:
    st.caption(
        "Invented pictures that look like stained tissue from afar, to try the program. A model "
        "trained on them knows nothing of tissue."
    )
    cases, pictures, size = st.columns(3)
    n_cases = cases.number_input("Cases", 6, 200, 30, key="drawn-cases")
    per_case = pictures.number_input("Pictures a case", 1, 100, 6, key="drawn-pictures")
    chosen = size.selectbox("Size", list(_SIZES), key="drawn-size")
    name = _name_field("drawn", "drawn")
    if st.button("Draw", key="draw-button", type="primary", icon=":material/draw:"):
        if n_cases * per_case > MAX_DRAWN:
            error = DataError(
                f"{n_cases} cases of {per_case} pictures are {n_cases * per_case:,}; at most "
                f"{MAX_DRAWN:,} are drawn here. Ask for fewer."
            )
            show_error(error, title="The set was not drawn")
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
    """Draw the field for the name; left empty, the name comes from the source."""
    suggestion = suggest_name(source)
    typed = st.text_input(
        "Name",
        key=_key(f"add-{way}-name"),
        placeholder=suggestion or "a name without blanks",
        help="Letters, digits, '.', '_' and '-'.",
    )
    return typed.strip() or suggestion


def _key(name: str) -> str:
    """Return the key of a field that is emptied once a set has been added.

    The new widget also lets go of an upload's bytes, which would stay in the memory.
    """
    return f"{name}-{st.session_state.get(ADDS_KEY, 0)}"


def _add(name: str, work: Callable[[IngestProgress], Added]) -> None:
    """Do it with a bar; choose the new set, or say why there is none."""
    place = st.empty()

    def tell(verb: str, done: int, total: int) -> None:
        if verb == "drawing":
            place.progress(done / total, f"Drawing: {done:,} of {total:,} pictures")
            return
        of = f" of {total / 1e6:,.0f}" if total else ""
        share = min(1.0, done / total) if total else 0.0
        place.progress(share, f"{_VERBS.get(verb, verb)}: {done / 1e6:,.0f}{of} MB")

    try:
        added = work(tell)
    except (BcModelError, OSError) as error:
        place.empty()
        show_error(error, title="Nothing was added")
        return
    count = f" with {added.pictures:,} pictures" if added.pictures else ""
    st.session_state[ADDED_KEY] = (name, f"{name}{count} is on the shelf.")
    st.session_state[ADDS_KEY] = st.session_state.get(ADDS_KEY, 0) + 1
    st.rerun()
