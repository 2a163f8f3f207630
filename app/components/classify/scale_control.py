"""The control for the scale of the images on the page Classify."""

from collections import Counter

import streamlit as st

from app.components.classify.image_analysis import find_file_scale
from app.components.classify.session_images import HeldImage
from bc_model.data import (
    MPP_OF_OBJECTIVE,
    UNKNOWN_SCALE,
    DeclaredScale,
    scale_from_mpp,
    scale_from_objective,
)
from bc_model.inference import Bundle

FROM_FILE, MPP, UNKNOWN = "From file", "µm/px", "Unknown"
OBJECTIVES = {f"{objective}x": objective for objective in MPP_OF_OBJECTIVE}
CHOICES = (FROM_FILE, *OBJECTIVES, MPP, UNKNOWN)
_DEFAULT_MPP = 0.5


def select_scales(images: list[HeldImage], bundle: Bundle) -> dict[str, DeclaredScale]:
    """Show the control, and return the scale of each image by its hash.

    Parameters
    ----------
    images : list of HeldImage
        The images on the page.
    bundle : Bundle
        The model. Nothing is shown if it has no scale.

    Returns
    -------
    dict of str to DeclaredScale
        The scale for the hash of each image.
    """
    stated: dict[str, DeclaredScale] = {}
    for image in images:
        # Of equal files with two names, the first one that states a scale counts.
        known = stated.get(image.sha256, UNKNOWN_SCALE)
        stated[image.sha256] = known if known.is_known else find_file_scale(image)
    if not bundle.card.scale.magnifications:
        return stated
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        choice = st.segmented_control(
            "Image scale",
            CHOICES,
            default=FROM_FILE,
            required=True,
            key="scale",
            persist_state="session",
            help="Objectives stand for the typical µm per pixel of slide scanners.",
        )
        if choice == MPP:
            mpp = st.number_input(
                "µm per pixel", 0.05, 20.0, _DEFAULT_MPP, 0.05, format="%.3f", key="mpp",
                persist_state="session", width=140,
            )  # fmt: skip
            return dict.fromkeys(stated, scale_from_mpp(mpp))
    if choice in OBJECTIVES:
        scale = scale_from_objective(OBJECTIVES[choice])
        st.caption(f"{scale.mpp:g} µm/px.")
        return dict.fromkeys(stated, scale)
    if choice == UNKNOWN:
        return dict.fromkeys(stated, UNKNOWN_SCALE)
    st.caption(_describe_sources(list(stated.values())))
    return stated


def _describe_sources(scales: list[DeclaredScale]) -> str:
    known = [scale for scale in scales if scale.is_known]
    if not known:
        return "The files do not state their scale. Select an objective or µm/px."
    sources = ", ".join(Counter(scale.source for scale in known))
    if len(scales) == 1:
        return f"{describe_scale(known[0])}, from {sources}."
    return f"{len(known)} of {len(scales)} files state a scale, from {sources}."


def describe_scale(scale: DeclaredScale) -> str:
    """Return a scale as short text, such as '0.5 µm/px' or '200X'.

    Examples
    --------
    >>> describe_scale(DeclaredScale(0.5, "user")), describe_scale(UNKNOWN_SCALE)
    ('0.5 µm/px', 'scale unknown')
    """
    if scale.magnification is not None:
        return f"{scale.magnification}X"
    return f"{scale.mpp:.3g} µm/px" if scale.mpp is not None else "scale unknown"
