"""One card of the error gallery: picture, heatmap, estimate, truth, and what it resembles."""

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
        Of the picture's pixels: what caches are keyed by.
    pictures : RunPictures
    bundle : Bundle
    mistakes : CaseMistakes or None
        Of its case, when it was called wrong.
    neighbours : tuple of Neighbour
        None of them when they were not asked for.
    """
    name = PurePosixPath(entry.path).name
    with st.container(border=True):
        said = probability_in_words(entry.prob_malignant)
        st.markdown(
            f"**Estimated probability of malignancy {said}**  \n"
            f"Called {entry.called}, "
            + ("right." if entry.is_right else f"**wrong**: the truth is {entry.class_name}.")
        )
        try:
            _, data = pictures.read(sha256)
            picture, drawn, is_empty = _drawn(sha256, bundle.key, entry.called, data, bundle)
        except BcModelError as error:
            st.info(escape(str(error)), icon=":material/broken_image:")
        else:
            left, right = st.columns(2)
            left.image(picture, width="stretch", alt=f"The picture {name}")
            right.image(
                drawn, width="stretch", alt=f"Heatmap of the evidence for {entry.called} over it"
            )
            if is_empty:
                st.caption(f"No evidence for {entry.called}: the map is empty.")
        st.caption(escape(f"{_case_words(entry, mistakes)}. {name}"))
        if neighbours:
            _draw_neighbours(neighbours, pictures)
        st.page_link(
            "views/diagnose.py",
            label="Open in Diagnose",
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
        words += f"; {mistakes.n_wrong} of its {mistakes.n} pictures called wrong"
    return words


def _draw_neighbours(neighbours: tuple[Neighbour, ...], pictures: RunPictures) -> None:
    st.markdown("Nearest in training, of other cases")
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
                alt=f"Training picture {PurePosixPath(one.path).name}",
            )
            st.caption(
                escape(
                    f"{one.class_name}, case {one.case or 'unknown'}, distance {one.distance:.2f}"
                )
            )


# Keyed by the hash of the pixels, which are passed beside the key: Streamlit would hash a sample.
@st.cache_data(max_entries=256, show_spinner=False)
def _drawn(
    sha256: str, bundle_key: str, class_name: str, _data: bytes, _bundle: Bundle
) -> tuple[bytes, bytes, bool]:
    """Return the picture, the picture below its heatmap, both as JPEG; and whether that is empty.

    The scale is that of both classes, as in Diagnose.
    """
    rgb = decode_picture(_data, "The picture")
    _, heatmaps = engine_of(_bundle).explain_one(model_input(rgb, _bundle.image_size))
    shown: np.ndarray = at_most_wide(rgb, _WIDTH_PX)
    heatmap = heatmaps[class_name]
    drawn = overlay_heatmap(shown, heatmap, full_scale=shared_scale(heatmaps))
    return encode_jpeg(shown), encode_jpeg(drawn), bool(heatmap.is_empty)


@st.cache_data(max_entries=512, show_spinner=False)
def _thumbnail(sha256: str, _data: bytes) -> bytes:
    return encode_jpeg(at_most_wide(decode_picture(_data, "The picture"), _NEIGHBOUR_PX))
