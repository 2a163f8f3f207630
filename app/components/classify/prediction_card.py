"""The card of one image: prediction, checks, image and heatmaps."""

from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.checks import show_checks
from app.components.layout import RESEARCH_USE, escape_markdown
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
from bc_model.utils import format_with_threshold

DISPLAY_WIDTH_PX = 900


def show_prediction(
    prediction: Prediction, data: bytes, sha256: str, bundle: Bundle, opacity: float
) -> None:
    """Show a card: the prediction on top, the image and its heatmaps, then the checks.

    An image with a failed blocking check has no class, no probability and no heatmap; its checks
    are above the image.

    Parameters
    ----------
    prediction : Prediction
        Prediction for the image.
    data : bytes
        Content of the image file.
    sha256 : str
        SHA-256 of `data`, the key of every cache.
    bundle : Bundle
        The model.
    opacity : float
        Opacity of the heatmaps in [0, 1].
    """
    with st.container(border=True):
        st.header(escape_markdown(prediction.name), anchor=False)
        image = _scale_image(sha256, data)
        if not prediction.is_classified:
            st.markdown(f"**Not classified.** {RESEARCH_USE}")
            show_checks(prediction.checks)
            _show_image(st.columns(3)[0], prediction, image)
            return
        _show_class(prediction, bundle)
        left, *right = st.columns(3)
        _show_image(left, prediction, image)
        for column, name in zip(right, CLASSES, strict=True):
            with column:
                _show_heatmap(prediction, name, image, data, sha256, opacity)
        show_checks(prediction.checks)


def _show_class(prediction: Prediction, bundle: Bundle) -> None:
    assert prediction.predicted_class is not None
    assert prediction.prob_malignant is not None
    probability, threshold = format_with_threshold(prediction.prob_malignant, bundle.threshold)
    predicted, estimated, bar = st.columns([5, 9, 9], vertical_alignment="center", gap="medium")
    predicted.metric("Predicted class", prediction.predicted_class.capitalize())
    estimated.metric("Estimated probability of malignancy", probability)
    with bar:
        st.image(
            draw_probability_bar(prediction.prob_malignant, bundle.threshold),
            width="stretch",
            alt=f"Estimated probability of malignancy {probability} on a scale from 0 to 1",
        )
        st.caption(f"Scale from 0 to 1; the mark is the threshold {threshold}. {RESEARCH_USE}")


def _show_image(column: DeltaGenerator, prediction: Prediction, image: np.ndarray) -> None:
    column.markdown("**Image**")
    column.image(encode_jpeg(image), width="stretch", alt=f"The image {prediction.name}")
    column.caption(f"{prediction.width_px} x {prediction.height_px} px.")


def _show_heatmap(
    prediction: Prediction, name: str, image: np.ndarray, data: bytes, sha256: str, opacity: float
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
        peak = heatmap.maximum / full_scale
        caption = f"Peak: {peak:.0%} of the scale; {columns} x {rows} cells."
    overlay = overlay_heatmap(image, heatmap, opacity=opacity, full_scale=full_scale)
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
def _scale_image(sha256: str, _data: bytes) -> np.ndarray:
    return downsample_to_width(decode_image(_data, "The image"), DISPLAY_WIDTH_PX)
