"""One picture's verdict: the estimate, the picture, and the evidence for each class."""

from pathlib import Path

import numpy as np
import streamlit as st

from app.components.frame import RESEARCH_USE, escape
from bc_model.data.names import CLASSES
from bc_model.data.pictures import decode_picture
from bc_model.gradcam import (
    at_most_wide,
    encode_jpeg,
    overlay_heatmap,
    probability_bar,
    shared_scale,
)
from bc_model.serving.bundle import Bundle
from bc_model.serving.explain_files import encode_png
from bc_model.serving.verdict import Verdict
from bc_model.words import probability_in_words

DISPLAY_WIDTH_PX = 900


def draw_verdict(
    verdict: Verdict, data: bytes, sha256: str, bundle: Bundle, opacity: float
) -> None:
    """Draw a card: words and bar on top, three pictures of equal size below.

    Parameters
    ----------
    verdict : Verdict
    data : bytes
        The picture's file.
    sha256 : str
        Of `data`: what every cache is keyed by.
    bundle : Bundle
    opacity : float
        In [0, 1].
    """
    said = probability_in_words(verdict.prob_malignant)
    shown = _display_picture(sha256, data)
    with st.container(border=True):
        st.subheader(escape(verdict.name), anchor=False)
        words, bar = st.columns([2, 3], vertical_alignment="center", gap="large")
        with words:
            st.metric("Estimated probability of malignancy", said)
        with bar:
            _draw_call(verdict, said, bundle)
        for sentence in verdict.warnings:
            st.warning(escape(sentence), icon=":material/warning:")
        picture, *maps = st.columns(3)
        with picture:
            st.markdown("**Picture**")
            st.image(
                encode_jpeg(shown), width="stretch", alt=f"The picture {verdict.name} as uploaded"
            )
            st.caption(f"{verdict.width_px} x {verdict.height_px} px")
        for column, name in zip(maps, CLASSES, strict=True):
            with column:
                _draw_map(verdict, name, shown, data, sha256, opacity)
        for caution in verdict.cautions:
            st.caption(f":material/info: {escape(caution)}")


def _draw_call(verdict: Verdict, said: str, bundle: Bundle) -> None:
    if not verdict.is_called:
        st.markdown(
            f"**Not called**: this estimate means nothing, for the reason below. {RESEARCH_USE}"
        )
        return
    st.markdown(
        f"Called **{verdict.class_name}** at the cut-off of {bundle.threshold:.2f}. {RESEARCH_USE}"
    )
    st.image(
        probability_bar(verdict.prob_malignant, bundle.threshold),
        width="stretch",
        alt=f"Estimated probability {said} on a line from 0 to 1",
    )
    st.caption("From 0 to 1; the mark is the cut-off.")


def _draw_map(
    verdict: Verdict, name: str, shown: np.ndarray, data: bytes, sha256: str, opacity: float
) -> None:
    heatmap = verdict.heatmaps[name]
    full_scale = shared_scale(verdict.heatmaps)
    st.markdown(f"**Evidence for {name}**")
    if heatmap.is_empty:
        alt = f"The picture without a heatmap: no evidence for {name}"
        words = f"No evidence for {name}: nothing in this picture raised its score."
    else:
        alt = f"Heatmap of the evidence for {name} over the picture"
        rows, columns = heatmap.raw.shape
        words = (
            f"Peak at {heatmap.maximum / full_scale:.0%} of the scale that both maps share. "
            f"The map has {columns} x {rows} cells; what lies between is smoothed."
        )
    drawn = overlay_heatmap(shown, heatmap, opacity=opacity, full_scale=full_scale)
    st.image(encode_jpeg(drawn), width="stretch", alt=alt)
    st.caption(words)
    if not heatmap.is_empty:
        st.download_button(
            "Save at full size",
            lambda: encode_png(
                overlay_heatmap(
                    decode_picture(data, verdict.name),
                    heatmap,
                    opacity=opacity,
                    full_scale=full_scale,
                )
            ),
            file_name=f"{Path(verdict.name).stem}-{sha256[:8]}-{name}.png",
            mime="image/png",
            key=f"save-{sha256}-{name}",
            icon=":material/download:",
            type="tertiary",
        )


# Keyed by the file's hash: pixels passed to a cache are hashed by sample, and a picture could be
# given another one's answer.
@st.cache_data(max_entries=64, show_spinner=False)
def _display_picture(sha256: str, _data: bytes) -> np.ndarray:
    return at_most_wide(decode_picture(_data, "The picture"), DISPLAY_WIDTH_PX)
