"""The control for the scale of the images on the page Classify."""

from collections import Counter

import streamlit as st

from app.components.classify.batch_settings import FROM_FILE, SCALE
from app.components.classify.image_analysis import find_file_scale
from app.components.classify.session_images import HeldImage
from app.components.layout import escape_markdown
from bc_model.data import (
    MPP_OF_OBJECTIVE,
    UNKNOWN_SCALE,
    DeclaredScale,
    describe_scale,
    scale_from_mpp,
    scale_from_objective,
)
from bc_model.inference import Bundle

MPP, UNKNOWN = "µm/px", "Unknown"
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
    stated, contradictions = _find_file_scales(images)
    if not bundle.card.scale.magnifications:
        return stated
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        choice = st.segmented_control(
            "Image scale",
            CHOICES,
            default=FROM_FILE,
            required=True,
            key=SCALE,
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
    if contradictions:
        names = ", ".join(map(escape_markdown, contradictions))
        st.caption(f":material/info: Names of one file state different scales: {names}.")
    return stated


def _find_file_scales(images: list[HeldImage]) -> tuple[dict[str, DeclaredScale], list[str]]:
    """Return the scale of each image by its hash, and the names that contradict another name.

    A file with contradicting names has an unknown scale.
    """
    known: dict[str, set[DeclaredScale]] = {image.sha256: set() for image in images}
    names: dict[str, list[str]] = {image.sha256: [] for image in images}
    for image in images:
        names[image.sha256].append(image.name)
        if (scale := find_file_scale(image)).is_known:
            known[image.sha256].add(scale)
    scales = {
        key: next(iter(found)) if len(found) == 1 else UNKNOWN_SCALE for key, found in known.items()
    }
    return scales, [name for key, found in known.items() if len(found) > 1 for name in names[key]]


def _describe_sources(scales: list[DeclaredScale]) -> str:
    known = [scale for scale in scales if scale.is_known]
    if not known:
        return "The files do not state their scale. Select an objective or µm/px."
    sources = ", ".join(Counter(scale.source for scale in known))
    if len(scales) == 1:
        return f"{describe_scale(known[0])}, from {sources}."
    return f"{len(known)} of {len(scales)} files state a scale, from {sources}."
