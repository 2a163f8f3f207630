"""The form fields of a split and of official fold files, shared by several pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app.components.layout import show_error
from app.components.paths import list_roots, parse_path, require_links_inside
from app.server.session_memory import is_upload_lost
from bc_model.data import FOLDS_PROTOCOLS, list_fold_files, store_fold_contents, store_fold_files
from bc_model.errors import BcModelError, SplitError
from bc_model.training import OPTIONS

_MAX_UPLOAD_MB = 32


def select_fold_file() -> str:
    """Show the selection of one fold file and return its path, '' if there is none yet."""
    by_name = {path.name: str(path.resolve()) for path in list_fold_files()}
    chosen = st.selectbox(
        "Fold file",
        list(by_name),
        key="fold_file",
        persist_state="session",
        placeholder="Add a file first",
        help="An official file, dsfold1.txt to dsfold5.txt, that lists the test images.",
    )
    add_fold_files("Add fold files")
    return by_name.get(chosen or "", "")


def select_fold_files(key: str) -> list[Path]:
    """Show the selection among all fold files, and the form that adds files.

    Parameters
    ----------
    key : str
        Key of the selection in the session state.

    Returns
    -------
    list of Path
        The selected files, all by default.
    """
    files = {path.name: path.resolve() for path in list_fold_files()}
    add_fold_files("Add fold files")
    if not files:
        return []
    # The key contains the number of files, so that an added file is selected as well.
    chosen = st.multiselect(
        "Fold files", list(files), default=list(files), key=f"{key}-{len(files)}"
    )
    return [files[name] for name in chosen]


def add_fold_files(label: str) -> None:
    """Show a button that opens a form with an upload and a path."""
    if message := st.session_state.pop("folds-error", None):
        show_error(BcModelError(message), title="Not a fold file")
    # New keys after files were added close the popover and free the memory of an upload.
    n_added = st.session_state.get("folds-added", 0)
    with st.popover(label, icon=":material/add:", key=f"folds-add-{n_added}"):
        st.file_uploader(
            "Fold files upload",
            type=["txt"],
            accept_multiple_files=True,
            key=f"folds-upload-{n_added}",
            max_upload_size=_MAX_UPLOAD_MB,
            on_change=lambda: _store(_store_uploads, f"folds-upload-{n_added}"),
        )
        if list_roots():
            st.text_input(
                "Server path",
                key=f"folds-path-{n_added}",
                placeholder="/data/folds",
                help="A fold file or a folder of fold files; they are copied.",
                on_change=lambda: _store(_store_copies, f"folds-path-{n_added}"),
            )


def _store(store: Callable[[Any], list[Path]], key: str) -> None:
    """Store the files of a field, and select the first one."""
    value = st.session_state[key]
    if not value:
        return
    try:
        if is_upload_lost(value):
            raise SplitError("The server no longer holds the fold files. Upload them again.")
        st.session_state["fold_file"] = store(value)[0].name
    except (BcModelError, OSError, RuntimeError) as error:
        st.session_state["folds-error"] = str(error)
    st.session_state["folds-added"] = st.session_state.get("folds-added", 0) + 1


def _store_uploads(uploads: list[UploadedFile]) -> list[Path]:
    return store_fold_contents([(upload.name, upload.getvalue()) for upload in uploads])


def _store_copies(path: str) -> list[Path]:
    source = parse_path(path)
    require_links_inside(source, source.glob("*.txt"))
    return store_fold_files(source)


PROTOCOL_LABELS = {
    "case": "Case-level",
    "folds-clean": "Official folds, leakage-free",
    "folds": "Official folds, with leakage",
    "folder": "Section-level, with leakage",
    "image": "Image-level, with leakage",
}


def show_protocol() -> dict[str, Any]:
    """Show the protocol and, if it needs one, the fold file.

    Returns
    -------
    dict
        protocol, official_fold_file ('' if there is none yet or none is needed).
    """
    protocol = st.selectbox(
        OPTIONS["protocol"].label,
        list(PROTOCOL_LABELS),
        format_func=PROTOCOL_LABELS.__getitem__,
        key="protocol",
        persist_state="session",
        help=OPTIONS["protocol"].help,
    )
    fold_file = select_fold_file() if protocol in FOLDS_PROTOCOLS else ""
    return {"protocol": protocol, "official_fold_file": fold_file}


def show_folds(protocol: str) -> dict[str, Any]:
    """Show the number of folds and the test fold.

    Returns
    -------
    dict
        n_folds, test_fold.
    """
    uses_file = protocol in FOLDS_PROTOCOLS
    n_folds = _show_number("n_folds", label="Training folds" if uses_file else None)
    # The test fold no longer exists after the number of folds was reduced.
    if st.session_state.get("fold", 0) >= n_folds:
        st.session_state["fold"] = n_folds - 1
    test_fold = _show_number(
        "test_fold", label="Validation fold" if uses_file else None, key="fold", maximum=n_folds - 1
    )
    return {"n_folds": n_folds, "test_fold": test_fold}


def show_split_seed() -> dict[str, Any]:
    """Show the seed of the split.

    Returns
    -------
    dict
        split_seed.
    """
    return {"split_seed": _show_number("split_seed")}


def _show_number(
    name: str, *, label: str | None = None, key: str | None = None, maximum: int | None = None
) -> int:
    """Show a field of `TrainingConfig` with a value that the pages Data and Train share."""
    option = OPTIONS[name]
    return int(
        st.number_input(
            label or option.label,
            option.ge,
            option.le if maximum is None else maximum,
            option.default,
            key=key or name,
            persist_state="session",
            help=option.help,
        )
    )


def lacks_fold_file(chosen: dict) -> bool:
    """Return whether the protocol needs a fold file that is not selected yet."""
    return chosen["protocol"] in FOLDS_PROTOCOLS and not chosen["official_fold_file"]
