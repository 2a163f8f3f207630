"""A picture of a run's data set that the address names, as the error gallery links to it."""

from pathlib import PurePosixPath

import streamlit as st

from app.components.frame import escape, show_error
from app.places import runs_folder
from bc_model.errors import BcModelError


def linked_picture() -> tuple[str, bytes] | None:
    """Return name and bytes of the picture in the address, or None.

    The address gives the name of a run and the hash of the pixels. Both are looked up; neither is
    ever made into a path.
    """
    run_id, sha256 = st.query_params.get("run"), st.query_params.get("picture")
    if not (run_id and sha256):
        return None
    # Only now: these bring pandas and the imaging libraries.
    from bc_model.training.run_folder import find_run
    from bc_model.training.run_pictures import RunPictures

    try:
        pictures = RunPictures.of(find_run(runs_folder(), run_id))
        path, data = pictures.read(sha256)
        row = pictures.row(sha256)
    except BcModelError as error:
        show_error(error, title="The picture named in the address cannot be shown")
        return None
    words, button = st.columns([4, 1], vertical_alignment="center")
    words.markdown(
        escape(
            f"From the {row['part']} part of the run {run_id}, case {row['case'] or 'unknown'}; "
            f"its label says {row['class']}."
        )
    )
    button.button("Close it", key="close-picture", icon=":material/close:", on_click=_forget)
    return PurePosixPath(path).name, data


def _forget() -> None:
    for name in ("run", "picture"):
        st.query_params.pop(name, None)
