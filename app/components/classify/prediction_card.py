"""The card of one image: prediction, checks, image and heatmaps."""

from pathlib import Path

import numpy as np
import streamlit as st

from app.components.checks import show_checks
from app.components.layout import RESEARCH_USE, escape
from bc_model.data import CLASSES, decode_image
from bc_model.gradcam import (
    compute_full_scale,
    downsample_to_width,
    draw_probability_bar,
    encode_jpeg,
    encode_png,
    overlay_heatmap,
)
from bc_model.inference import Bundle, Prediction
from bc_model.utils import format_probability

DISPLAY_WIDTH_PX = 900


def show_prediction(
    prediction: Prediction, data: bytes, sha256: str, bundle: Bundle, opacity: float
) -> None:
    """Show a card: prediction and checks on top, the image and its heatmaps below.

    An image with a failed blocking check has no class, no probability and no heatmap.

    Parameters
    ----------
    prediction : Prediction
    data : bytes
        Content of the image file.
    sha256 : str
        SHA-256 of `data`, the key of every cache.
    bundle : Bundle
    opacity : float
        Opacity of the heatmaps in [0, 1].
    """
    with st.container(border=True):
        st.subheader(escape(prediction.name), anchor=False)
        if prediction.is_classified:
            _show_class(prediction, bundle)
        else:
            st.markdown(f"**Not classified.** {RESEARCH_USE}")
        show_checks(prediction.checks)
        image, *heatmaps = st.columns(3)
        shown = _display_image(sha256, data)
        with image:
            st.markdown("**Image**")
            st.image(encode_jpeg(shown), width="stretch", alt=f"The image {prediction.name}")
            st.caption(f"{prediction.width_px} x {prediction.height_px} px")
        if prediction.is_classified:
            for column, name in zip(heatmaps, CLASSES, strict=True):
                with column:
                    _show_heatmap(prediction, name, shown, data, sha256, opacity)


def _show_class(prediction: Prediction, bundle: Bundle) -> None:
    assert prediction.prob_malignant is not None
    probability, threshold = format_probability(prediction.prob_malignant, bundle.threshold)
    metric, bar = st.columns([2, 3], vertical_alignment="center", gap="large")
    metric.metric("Estimated probability of malignancy", probability)
    with bar:
        st.markdown(
            f"Predicted class: **{prediction.predicted_class}** (threshold {threshold}). "
            f"{RESEARCH_USE}"
        )
        st.image(
            draw_probability_bar(prediction.prob_malignant, bundle.threshold),
            width="stretch",
            alt=f"Estimated probability of malignancy {probability} on a scale from 0 to 1",
        )
        st.caption("Scale from 0 to 1; the mark is the threshold.")


def _show_heatmap(
    prediction: Prediction, name: str, shown: np.ndarray, data: bytes, sha256: str, opacity: float
) -> None:
    heatmap = prediction.heatmaps[name]
    full_scale = compute_full_scale(prediction.heatmaps)
    st.markdown(f"**Grad-CAM for {name}**")
    if heatmap.is_empty:
        alt = f"The image without a heatmap: no positive contribution to {name}"
        caption = f"No positive contribution to {name}."
    else:
        alt = f"Grad-CAM heatmap for {name} over the image"
        rows, columns = heatmap.raw.shape
        caption = (
            f"Peak at {heatmap.maximum / full_scale:.0%} of the scale that both heatmaps share. "
            f"Resolution: {columns} x {rows} cells, interpolated."
        )
    overlay = overlay_heatmap(shown, heatmap, opacity=opacity, full_scale=full_scale)
    st.image(encode_jpeg(overlay), width="stretch", alt=alt)
    st.caption(caption)
    if not heatmap.is_empty:
        st.download_button(
            "Download heatmap",
            lambda: encode_png(
                overlay_heatmap(
                    decode_image(data, prediction.name),
                    heatmap,
                    opacity=opacity,
                    full_scale=full_scale,
                )
            ),
            file_name=f"{Path(prediction.name).stem}-{sha256[:8]}-{name}.png",
            mime="image/png",
            key=f"save-{sha256}-{name}",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
            help="PNG at the size of the image.",
        )


# Keyed by the hash of the file: Streamlit hashes large arrays by a sample of their pixels, so two
# similar images could share an entry.
@st.cache_data(max_entries=64, show_spinner=False)
def _display_image(sha256: str, _data: bytes) -> np.ndarray:
    return downsample_to_width(decode_image(_data, "The image"), DISPLAY_WIDTH_PX)
