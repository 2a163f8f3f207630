"""A picture of a data set, named in the address: how the gallery opens one in Diagnose."""

import streamlit as st

from app.components.frame import escape, show_error
from bc_model.data.pictures import read_file
from bc_model.data.sets import open_set, picture_file
from bc_model.errors import BcModelError


def named_picture() -> tuple[str, bytes] | None:
    """Return the name and bytes of the picture that the address names; None without one."""
    set_name, _, path = st.query_params.get("picture", "").partition("/")
    if not path or "run" in st.query_params:  # a run's picture is named by its hash
        return None
    try:
        file = picture_file(open_set(set_name), path)
        data = read_file(file)
    except (BcModelError, OSError) as error:
        show_error(error, title="The picture named in the address cannot be shown")
        return None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{escape(file.name)}, of the data set {escape(set_name)}")
        if st.button("Close it", key="close-picture", type="tertiary", icon=":material/close:"):
            del st.query_params["picture"]
            st.rerun()
    return file.name, data
