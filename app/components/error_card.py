"""One card of the error gallery: image, heatmap, prediction, true class, nearest neighbors."""

from pathlib import PurePosixPath

import numpy as np
import streamlit as st

from app.components.frame import escape
from app.components.models import engine_of
from bc_model.data.pictures import decode_picture, model_input
from bc_model.errors import BcModelError
from bc_model.evaluation.gallery import CaseMistakes, Entry, Neighbour
from bc_model.gradcam import at_most_wide, encode_jpeg, overlay_heatmap, shared_scale
from bc_model.serving.bundle import Bundle
from bc_model.training.run_pictures import RunPictures
from bc_model.words import probability_in_words

_WIDTH_PX, _NEIGHBOUR_PX = 480, 240


def draw_card(
    entry: Entry,
    sha256: str,
    pictures: RunPictures,
    bundle: Bundle,
    *,
    mistakes: CaseMistakes | None,
    neighbours: tuple[Neighbour, ...],
) -> None:
    """Draw a card.

    Parameters
    ----------
    entry : Entry
    sha256 : str
        Hash of the pixels, which is the cache key.
    pictures : RunPictures
    bundle : Bundle
    mistakes : CaseMistakes or None
        The errors of its case, if the prediction is incorrect.
    neighbours : tuple of Neighbour
        Nearest training images; empty if not requested.
    """
    name = PurePosixPath(entry.path).name
    with st.container(border=True):
        probability = probability_in_words(entry.prob_malignant)
        st.markdown(
            f"**Estimated probability of malignancy {probability}**  \n"
            f"Predicted {entry.called}, "
            + ("correct." if entry.is_right else f"**incorrect**: true class {entry.class_name}.")
        )
        try:
            _, data = pictures.read(sha256)
            image, overlay, is_empty = _explain(sha256, bundle.key, entry.called, data, bundle)
        except BcModelError as error:
            st.info(escape(str(error)), icon=":material/broken_image:")
        else:
            left, right = st.columns(2)
            left.image(image, width="stretch", alt=f"Image {name}")
            right.image(
                overlay, width="stretch", alt=f"Grad-CAM heatmap for {entry.called} over the image"
            )
            if is_empty:
                st.caption(f"No positive contribution for {entry.called}.")
        st.caption(escape(f"{_case_words(entry, mistakes)}. {name}"))
        if neighbours:
            _draw_neighbours(neighbours, pictures)
        st.page_link(
            "views/diagnose.py",
            label="Open in Classify",
            icon=":material/biotech:",
            query_params={"model": bundle.label, "run": pictures.run, "picture": sha256},
        )


def _case_words(entry: Entry, mistakes: CaseMistakes | None) -> str:
    words = f"Case {entry.case}" if entry.case else "Case unknown"
    if entry.subtype != "unknown":
        words += f", {entry.subtype.replace('_', ' ')}"
    if entry.magnification:
        words += f", {entry.magnification}X"
    if mistakes:
        words += f"; {mistakes.n_wrong} of its {mistakes.n} images incorrect"
    return words


def _draw_neighbours(neighbours: tuple[Neighbour, ...], pictures: RunPictures) -> None:
    st.markdown("Nearest training images of other cases")
    sha256 = pictures.split.set_index("path")["sha256"]
    for column, one in zip(st.columns(max(3, len(neighbours))), neighbours, strict=False):
        with column:
            try:
                _, data = pictures.read(sha256[one.path])
            except BcModelError as error:
                st.caption(escape(str(error)))
                continue
            st.image(
                _thumbnail(sha256[one.path], data),
                width="stretch",
                alt=f"Training image {PurePosixPath(one.path).name}",
            )
            st.caption(
                escape(
                    f"{one.class_name}, case {one.case or 'unknown'}, distance {one.distance:.2f}"
                )
            )


# The key is the hash of the pixels; Streamlit would hash only a sample of a large array.
@st.cache_data(max_entries=256, show_spinner=False)
def _explain(
    sha256: str, bundle_key: str, class_name: str, _data: bytes, _bundle: Bundle
) -> tuple[bytes, bytes, bool]:
    """Return the image and the overlay as JPEG, and whether the heatmap is empty.

    Both classes share one scale, as on the page Classify.
    """
    rgb = decode_picture(_data, "The image")
    _, heatmaps = engine_of(_bundle).explain_one(model_input(rgb, _bundle.image_size))
    shown: np.ndarray = at_most_wide(rgb, _WIDTH_PX)
    heatmap = heatmaps[class_name]
    overlay = overlay_heatmap(shown, heatmap, full_scale=shared_scale(heatmaps))
    return encode_jpeg(shown), encode_jpeg(overlay), bool(heatmap.is_empty)


@st.cache_data(max_entries=512, show_spinner=False)
def _thumbnail(sha256: str, _data: bytes) -> bytes:
    return encode_jpeg(at_most_wide(decode_picture(_data, "The image"), _NEIGHBOUR_PX))
