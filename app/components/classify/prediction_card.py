"""The card of one image: prediction, checks, and the image beside one layer of the explanation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import streamlit as st

from app.components.checks import show_checks
from app.components.classify.extra_layers import EXTRA_LAYERS, compute_layer
from app.components.classify.failures import report_failure
from app.components.classify.image_analysis import Preview, decode_once
from app.components.classify.nearest_images import show_nearest_images
from app.components.classify.session_images import HeldImage
from app.components.classify.tile_table import show_tiles
from app.components.classify.trust_test import show_trust_test
from app.components.classify.view_spread import show_view_spread
from app.components.classify.what_if import show_what_if
from app.components.layout import RESEARCH_USE, escape_markdown
from bc_model.checks import make_check
from bc_model.contribution_map import ContributionMap, overlay_signed_map
from bc_model.data import CLASSES, describe_scale
from bc_model.gradcam import (
    Heatmap,
    compute_full_scale,
    draw_probability_bar,
    encode_jpeg,
    encode_png,
    overlay_heatmap,
)
from bc_model.image_label import mark_image
from bc_model.inference import FORCED_LABEL, Bundle, Prediction
from bc_model.scale_bar import draw_scale_bar
from bc_model.utils import format_with_threshold

CONTRIBUTION = "contribution"
_ONE_FIELD = ("what if", "the trust test", "views", "nearest images")
LAYERS = {
    CONTRIBUTION: "Contribution", **{name: f"Grad-CAM {name}" for name in CLASSES}, **EXTRA_LAYERS
}  # fmt: skip
"""Label of each layer that a card can show."""
MARGIN_HELP = "Margin: logit of malignant minus logit of benign. All values are logits."
MINUS = "\u2212"
MIN_SHOWN_RESIDUAL = 0.005
"""In logits; a smaller residual is 0.00 with two decimals."""


def show_prediction(
    image: HeldImage,
    prediction: Prediction,
    preview: Preview,
    bundle: Bundle,
    *,
    layer: str,
    opacity: float,
) -> None:
    """Show a card: the prediction on top, the image beside one layer, then the checks.

    An image with a failed blocking check has no class, no probability and no layer; its checks
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
    layer : str
        Key of `LAYERS`.
    opacity : float
        Opacity of the layer in [0, 1].
    """
    with st.container(border=True):
        st.header(escape_markdown(image.name), anchor=False)
        if prediction.is_forced:
            st.error(
                "This image is blocked. Its prediction is shown on request and is not reliable.",
                title=FORCED_LABEL,
                icon=":material/block:",
            )
        if not prediction.is_classified:
            st.markdown(f"**Not classified.** {RESEARCH_USE}")
            show_checks(prediction.checks)
            with st.columns(2)[0], report_failure(image.name):
                _show_image(image, prediction, preview)
            return
        _show_class(prediction, bundle)
        if prediction.is_tiled:
            show_tiles(prediction)
        left, right = st.columns(2)
        with left, report_failure(image.name):
            _show_image(image, prediction, preview)
        with right, report_failure(image.name):
            _show_layer(image, prediction, preview, bundle, layer, opacity)
        show_checks(prediction.checks)
        if prediction.is_tiled:
            show_checks([make_check("BC146", names=_ONE_FIELD)])
        else:
            show_what_if(image, prediction, preview, bundle)
            show_trust_test(image, prediction, bundle, layer, LAYERS[layer])
            show_view_spread(image, bundle)
            show_nearest_images(image, bundle)


def _show_class(prediction: Prediction, bundle: Bundle) -> None:
    assert prediction.prob_malignant is not None
    probability, threshold = format_with_threshold(prediction.prob_malignant, bundle.threshold)
    assert prediction.outcome is not None
    outcome, estimated, bar = st.columns([5, 9, 9], vertical_alignment="center", gap="medium")
    label = FORCED_LABEL if prediction.is_forced else "Outcome"
    outcome.metric(label, prediction.outcome.capitalize())
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
    pixels, scale = preview.pixels, prediction.scale
    if prediction.mpp is not None:
        pixels = draw_scale_bar(pixels, prediction.mpp * prediction.width_px / pixels.shape[1])
    _show_pixels(pixels, f"The image {image.name}")
    width_px, height_px = (
        side * prediction.reduction for side in (prediction.width_px, prediction.height_px)
    )
    text = f"{width_px} x {height_px} px, {describe_scale(scale)}"
    if scale.is_known:
        text += " (stated)" if scale.source == "user" else f" (from {scale.source})"
    st.caption(f"{text}.")


def _show_layer(
    image: HeldImage, prediction: Prediction, preview: Preview, bundle: Bundle, layer: str,
    opacity: float,
) -> None:  # fmt: skip
    st.markdown(f"**{LAYERS[layer]}**")
    if layer in EXTRA_LAYERS:
        if prediction.is_tiled:
            st.markdown("This layer is for images with one field of view.")
            return
        drawing = _draw_extra(compute_layer(image, prediction, bundle, layer), layer, opacity)
    else:
        draw = _draw_contribution if layer == CONTRIBUTION else _draw_heatmap
        drawing = draw(prediction, layer, opacity)
    _show_pixels(drawing.blend(preview.pixels), drawing.alt)
    if drawing.sentence:
        st.markdown(drawing.sentence)
    st.caption(drawing.caption, help=drawing.help)
    if drawing.is_empty:
        return
    st.download_button(
        "Download heatmap",
        lambda: encode_png(_mark_forced(drawing.blend(decode_once(image)), prediction)),
        file_name=f"{Path(image.name).stem}-{image.sha256[:8]}-{layer}.png",
        mime="image/png",
        key=f"save-{image.sha256}-{layer}",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        help="PNG at the size of the image.",
    )


def _mark_forced(pixels: np.ndarray, prediction: Prediction) -> np.ndarray:
    """Return a saved image with a mark if its prediction is shown although it is blocked."""
    return mark_image(pixels, f"{FORCED_LABEL}. {RESEARCH_USE}") if prediction.is_forced else pixels


@dataclass(frozen=True)
class _Drawing:
    """One layer of a card: the blended map, its text, and whether it is empty."""

    blend: Callable[[np.ndarray], np.ndarray]
    alt: str
    caption: str
    is_empty: bool
    sentence: str = ""
    help: str | None = None


def _draw_contribution(prediction: Prediction, _: str, opacity: float) -> _Drawing:
    contribution, location = prediction.contribution, prediction.location
    assert contribution is not None
    rows, columns = contribution.cells.shape
    size = f" of {location.cell_um:.0f} µm" if location and location.cell_um else ""
    return _Drawing(
        blend=partial(overlay_signed_map, contribution=contribution, opacity=opacity),
        alt="Contribution map over the image: blue supports benign, orange supports malignant",
        caption=f"{_format_sum(contribution)}; {columns} x {rows} cells{size}.",
        help=MARGIN_HELP,
        is_empty=contribution.is_empty,
        sentence=location.sentence.message
        if location
        else f"No region supports {prediction.predicted_class}.",
    )


def _format_sum(contribution: ContributionMap) -> str:
    """Return an equation such as '0.10 baseline + 1.30 cells = 1.40 margin'."""
    terms = [(contribution.baseline, "baseline"), (contribution.cell_sum, "cells")]
    if abs(contribution.residual) >= MIN_SHOWN_RESIDUAL:
        terms.append((contribution.residual, "residual"))
    left = " + ".join(f"{value:z.2f} {name}" for value, name in terms)
    equation = f"{left} = {contribution.margin:z.2f} margin"
    return equation.replace("+ -", "- ").replace("-", MINUS)


def _draw_extra(found: Heatmap | ContributionMap, layer: str, opacity: float) -> _Drawing:
    name = EXTRA_LAYERS[layer]
    if isinstance(found, ContributionMap):
        rows, columns = found.cells.shape
        return _Drawing(
            partial(overlay_signed_map, contribution=found, opacity=opacity),
            alt=f"{name} over the image: blue supports benign, orange supports malignant",
            caption=f"Change of the margin if a region is hidden; {columns} x {rows} regions.",
            is_empty=found.is_empty,
        )
    rows, columns = found.raw.shape
    return _Drawing(
        partial(overlay_heatmap, heatmap=found, opacity=opacity),
        alt=f"{name} for {found.class_name} over the image",
        caption=f"For {found.class_name}, on its own scale; {columns} x {rows} cells.",
        is_empty=found.is_empty,
    )


def _draw_heatmap(prediction: Prediction, name: str, opacity: float) -> _Drawing:
    heatmaps = prediction.heatmaps
    heatmap, full_scale = heatmaps[name], compute_full_scale(heatmaps)
    blend = partial(overlay_heatmap, heatmap=heatmap, opacity=opacity, full_scale=full_scale)
    if heatmap.is_empty:
        alt = f"The image without a heatmap: no positive contribution to {name}"
        return _Drawing(blend, alt, f"No positive contribution to {name}.", is_empty=True)
    rows, columns = heatmap.raw.shape
    peak = heatmap.maximum / full_scale
    return _Drawing(
        blend,
        alt=f"Grad-CAM heatmap for {name} over the image",
        caption=f"Peak: {peak:.0%} of the scale; {columns} x {rows} cells.",
        is_empty=False,
    )


def _show_pixels(pixels: np.ndarray, alt: str) -> None:
    height, width = pixels.shape[:2]
    # A narrow image in the width of the column would be many screens high.
    st.image(encode_jpeg(pixels), width="stretch" if height <= 2 * width else "content", alt=alt)
