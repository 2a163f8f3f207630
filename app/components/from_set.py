"""An image of a dataset that the page address names, as the gallery links to it."""

import streamlit as st

from app.components.frame import escape, show_error
from bc_model.data.pictures import read_file
from bc_model.data.sets import open_set, picture_file
from bc_model.errors import BcModelError


def named_picture() -> tuple[str, bytes] | None:
    """Return the file name and bytes of the image in the page address, or None."""
    set_name, _, path = st.query_params.get("picture", "").partition("/")
    if not path or "run" in st.query_params:  # the image of a run is named by its hash
        return None
    try:
        file = picture_file(open_set(set_name), path)
        data = read_file(file)
    except (BcModelError, OSError) as error:
        show_error(error, title="Image not found")
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{escape(file.name)} from the dataset {escape(set_name)}")
        if st.button("Close", key="close-picture", type="tertiary", icon=":material/close:"):
            del st.query_params["picture"]
            st.rerun()
    return file.name, data
