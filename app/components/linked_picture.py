"""An image of a run's dataset that the page address names, as the error gallery links to it."""

from pathlib import PurePosixPath

import streamlit as st

from app.components.frame import escape, show_error
from app.places import runs_folder
from bc_model.errors import BcModelError

_SUBSETS = {"train": "training", "validation": "validation", "test": "test"}


def linked_picture() -> tuple[str, bytes] | None:
    """Return the file name and bytes of the image in the page address, or None.

    The address contains the name of a run and the hash of the pixels. Both are looked up and never
    become part of a path.
    """
    run_id, sha256 = st.query_params.get("run"), st.query_params.get("picture")
    if not (run_id and sha256):
        return None
    # Imported late: these load pandas and the imaging libraries.
    from bc_model.training.run_folder import find_run
    from bc_model.training.run_pictures import RunPictures

    try:
        pictures = RunPictures.of(find_run(runs_folder(), run_id))
        path, data = pictures.read(sha256)
        row = pictures.row(sha256)
    except BcModelError as error:
        show_error(error, title="Image not found")
        return None
    text, button = st.columns([4, 1], vertical_alignment="center")
    text.markdown(
        escape(
            f"From the {_SUBSETS[row['part']]} subset of run {run_id}, "
            f"case {row['case'] or 'unknown'}. Label: {row['class']}."
        )
    )
    button.button("Close", key="close-picture", icon=":material/close:", on_click=_forget)
    return PurePosixPath(path).name, data


def _forget() -> None:
    for name in ("run", "picture"):
        st.query_params.pop(name, None)
