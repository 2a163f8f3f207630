"""The card of one image: prediction, checks, image and heatmaps."""

from pathlib import Path

import numpy as np
import streamlit as st

from app.components.checks import show_checks
from app.components.classify.failures import report_failure
from app.components.classify.image_analysis import Preview, decode_once
from app.components.classify.nearest_images import show_nearest_images
from app.components.classify.session_images import HeldImage
from app.components.classify.view_spread import show_view_spread
from app.components.layout import RESEARCH_USE, escape_markdown
from bc_model.data import CLASSES
from bc_model.gradcam import (
    compute_full_scale,
    draw_probability_bar,
    encode_jpeg,
    encode_png,
    overlay_heatmap,
)
from bc_model.inference import Bundle, Prediction
from bc_model.utils import format_with_threshold


def show_prediction(
    image: HeldImage, prediction: Prediction, preview: Preview, bundle: Bundle, opacity: float
) -> None:
    """Show a card: the prediction on top, the image and its heatmaps, then the checks.

    An image with a failed blocking check has no class, no probability and no heatmap; its checks
    are above the image.

    Parameters
    ----------
    image : HeldImage
        The image file.
    prediction : Prediction
        Its prediction.
    preview : Preview
        Its pixels for display.
    bundle : Bundle
        The model.
    opacity : float
        Opacity of the heatmaps in [0, 1].
    """
    with st.container(border=True):
        st.header(escape_markdown(image.name), anchor=False)
        if not prediction.is_classified:
            st.markdown(f"**Not classified.** {RESEARCH_USE}")
            show_checks(prediction.checks)
            with st.columns(3)[0], report_failure(image.name):
                _show_image(image, prediction, preview)
            return
        _show_class(prediction, bundle)
        left, *right = st.columns(3)
        with left, report_failure(image.name):
            _show_image(image, prediction, preview)
        for column, name in zip(right, CLASSES, strict=True):
            with column, report_failure(image.name):
                _show_heatmap(image, prediction, preview, name, opacity)
        show_checks(prediction.checks)
        show_view_spread(image, bundle)
        show_nearest_images(image, bundle)


def _show_class(prediction: Prediction, bundle: Bundle) -> None:
    assert prediction.prob_malignant is not None
    probability, threshold = format_with_threshold(prediction.prob_malignant, bundle.threshold)
    assert prediction.outcome is not None
    outcome, estimated, bar = st.columns([5, 9, 9], vertical_alignment="center", gap="medium")
    outcome.metric("Outcome", prediction.outcome.capitalize())
    estimated.metric("Estimated probability of malignancy", probability)
    with bar:
        st.image(
            draw_probability_bar(
                prediction.prob_malignant, bundle.threshold, prediction.uncertain_band
            ),
            width="stretch",
            alt=f"Estimated probability of malignancy {probability} on a scale from 0 to 1",
        )
        text = f"Scale from 0 to 1; the mark is the threshold {threshold}"
        if band := prediction.uncertain_band:
            text += f", shaded: uncertain from {band[0]:.2f} to {band[1]:.2f}"
        st.caption(f"{text}. {RESEARCH_USE}")


def _show_image(image: HeldImage, prediction: Prediction, preview: Preview) -> None:
    st.markdown("**Image**")
    _show_pixels(preview.pixels, f"The image {image.name}")
    text = f"{prediction.width_px} x {prediction.height_px} px"
    if scale := preview.scale:
        text += f", {scale.mpp:.3g} µm/px (from {scale.source})"
    st.caption(f"{text}.")


def _show_heatmap(
    image: HeldImage, prediction: Prediction, preview: Preview, name: str, opacity: float
) -> None:
    heatmaps = prediction.heatmaps
    heatmap, full_scale = heatmaps[name], compute_full_scale(heatmaps)
    st.markdown(f"**Grad-CAM for {name}**")
    if heatmap.is_empty:
        alt = f"The image without a heatmap: no positive contribution to {name}"
        caption = f"No positive contribution to {name}."
    else:
        alt = f"Grad-CAM heatmap for {name} over the image"
        rows, columns = heatmap.raw.shape
        peak = heatmap.maximum / full_scale
        caption = f"Peak: {peak:.0%} of the scale; {columns} x {rows} cells."

    def blend(pixels: np.ndarray) -> np.ndarray:
        return overlay_heatmap(pixels, heatmap, opacity=opacity, full_scale=full_scale)

    _show_pixels(blend(preview.pixels), alt)
    st.caption(caption)
    if not heatmap.is_empty:
        st.download_button(
            "Download heatmap",
            lambda: encode_png(blend(decode_once(image))),
            file_name=f"{Path(image.name).stem}-{image.sha256[:8]}-{name}.png",
            mime="image/png",
            key=f"save-{image.sha256}-{name}",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
            help="PNG at the size of the image.",
        )


def _show_pixels(pixels: np.ndarray, alt: str) -> None:
    height, width = pixels.shape[:2]
    # A narrow image in the width of the column would be many screens high.
    st.image(encode_jpeg(pixels), width="stretch" if height <= 2 * width else "content", alt=alt)
