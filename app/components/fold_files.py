"""The official fold files: stored once, then selected by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app.components.frame import show_error
from bc_model.data.fold_shelf import keep_fold_contents, keep_fold_files, list_fold_files
from bc_model.errors import BcModelError

_MAX_UPLOAD_MB = 32


def choose_fold_file() -> str:
    """Draw the selection of one fold file and return its path, '' if there is none yet."""
    by_name = {path.name: str(path.resolve()) for path in list_fold_files()}
    chosen = st.selectbox(
        "Fold file",
        list(by_name),
        key="folds_file",
        persist_state="session",
        placeholder="Add a file first",
        help="One of the official files dsfold1.txt to dsfold5.txt, which define the test images.",
    )
    add_fold_files("Add fold files")
    return by_name.get(chosen or "", "")


def choose_fold_files(key: str) -> list[Path]:
    """Draw the selection among all fold files, and the form that adds some.

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
    """Draw a button that opens a form with an upload and a path."""
    if refused := st.session_state.pop("folds-refused", None):
        show_error(BcModelError(refused), title="Not a fold file")
    # New keys after files were added close the popover and free the memory of an upload.
    number = st.session_state.get("folds-added", 0)
    with st.popover(label, icon=":material/add:", key=f"folds-add-{number}"):
        st.file_uploader(
            "Fold files upload",
            type=["txt"],
            accept_multiple_files=True,
            key=f"folds-upload-{number}",
            max_upload_size=_MAX_UPLOAD_MB,
            on_change=lambda: _keep(_uploads, f"folds-upload-{number}"),
        )
        st.text_input(
            "Server path",
            key=f"folds-path-{number}",
            placeholder="/data/folds",
            help="A fold file or a folder of fold files; they are copied.",
            on_change=lambda: _keep(_copies, f"folds-path-{number}"),
        )


def _keep(take: Callable[[Any], list[Path]], key: str) -> None:
    """Store the files of a field, and select the first one."""
    given = st.session_state[key]
    if not given:
        return
    try:
        st.session_state["folds_file"] = take(given)[0].name
    except (BcModelError, OSError, RuntimeError) as error:
        st.session_state["folds-refused"] = str(error)
    st.session_state["folds-added"] = st.session_state.get("folds-added", 0) + 1


def _uploads(uploads: list[UploadedFile]) -> list[Path]:
    return keep_fold_contents([(upload.name, upload.getvalue()) for upload in uploads])


def _copies(path: str) -> list[Path]:
    return keep_fold_files(Path(path.strip()).expanduser())
