"""The settings that a user makes for certain images, and that end with these images."""

import streamlit as st

from app.components.classify.session_images import HeldImage

SCALE, SHOW_ANYWAY = "scale", "show-anyway"
"""Keys of the widgets."""
FROM_FILE = "From file"

_BATCH = "classify-batch"


def reset_for_new_images(images: list[HeldImage]) -> None:
    """Return the scale and the switch for blocked images to their defaults for a new image.

    Otherwise the next image would have a scale that nobody stated for it, or a prediction although
    it is blocked. Call it before the widgets are shown.

    Parameters
    ----------
    images : list of HeldImage
        The images on the page. The settings stay if some of the former images are removed.
    """
    batch = frozenset(image.sha256 for image in images)
    if not batch <= st.session_state.get(_BATCH, batch):
        st.session_state[SCALE] = FROM_FILE
        st.session_state[SHOW_ANYWAY] = False
    st.session_state[_BATCH] = batch
