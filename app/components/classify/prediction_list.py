"""The predictions of all images on the page: results table, legend, and a card for each image."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pandas as pd
import streamlit as st

from app.components.classify.batch_settings import SHOW_ANYWAY
from app.components.classify.extra_layers import EXTRA_LAYERS
from app.components.classify.failures import MAX_LISTED, Failures, report_failure
from app.components.classify.image_analysis import load_preview, predict_image
from app.components.classify.prediction_card import CONTRIBUTION, LAYERS, show_prediction
from app.components.classify.session_images import HeldImage
from app.components.layout import escape_markdown
from bc_model.contribution_map import draw_signed_color_bar
from bc_model.data import DeclaredScale
from bc_model.errors import BusyError
from bc_model.gradcam import draw_color_bar
from bc_model.inference import (
    OCCLUSION,
    Bundle,
    Prediction,
    supported_layers,
    supported_resolutions,
)
from bc_model.utils import format_count

CARDS_PER_PAGE = 4
MIN_IMAGES_WITH_PROGRESS = 4
MIN_TILES_WITH_PROGRESS = 8
STANDARD = "standard"
LAYER_HELP = "Contributions and the baseline add up to the margin. Layers do not outline lesions."
RESOLUTION_HELP = "Fine: 4 times the cells in 1.6 times the time. Finest: 16 in 6 times."
_SLIDER_PX, _COLOR_BAR_PX = 130, 200
PROBABILITY = "Estimated probability of malignancy"


def show_predictions(
    images: list[HeldImage], bundle: Bundle, scales: dict[str, DeclaredScale]
) -> None:
    """Classify every image and show the predictions, or an error for an unreadable image.

    Parameters
    ----------
    images : list of HeldImage
        The images to show.
    bundle : Bundle
        The model.
    scales : dict of str to DeclaredScale
        Scale for the hash of each image.
    """
    place = st.empty()
    show_anyway = bool(st.session_state.get(SHOW_ANYWAY, False))

    def end_if_canceled() -> bool:
        place.empty()  # A closed tab or a click on the page raises an exception here.
        return False

    predict = partial(_predict, bundle=bundle, scales=scales, is_canceled=end_if_canceled)
    results = _classify(images, partial(predict, show_anyway=show_anyway))
    if not results:
        return
    _show_switch([prediction for _, prediction in results])
    if len(results) > 1:
        _show_table([prediction for _, prediction in results])
    n_pages = -(-len(results) // CARDS_PER_PAGE)
    page = st.pagination(n_pages, key="page", persist_state="session") if n_pages > 1 else 1
    first = (min(page, n_pages) - 1) * CARDS_PER_PAGE
    shown = results[first : first + CARDS_PER_PAGE]
    layer, opacity, resolution = CONTRIBUTION, 0.0, STANDARD
    if any(prediction.is_classified for _, prediction in shown):
        layer, opacity, resolution = _show_legend(bundle)
    if resolution != STANDARD:
        finer = partial(predict, show_anyway=show_anyway, resolution=resolution)
        shown = _refine(shown, finer)
    for image, prediction in shown:
        with report_failure(image.name):
            preview = load_preview(image, is_canceled=end_if_canceled)
            show_prediction(image, prediction, preview, bundle, layer=layer, opacity=opacity)


def _predict(
    image: HeldImage, *, bundle: Bundle, scales: dict[str, DeclaredScale],
    is_canceled: Callable[[], bool], show_anyway: bool, resolution: str = STANDARD,
) -> Prediction:  # fmt: skip
    """Return the prediction for an image, with progress if it has many tiles."""
    place = st.empty()

    def show_progress(n_done: int, n_tiles: int) -> None:
        if n_tiles >= MIN_TILES_WITH_PROGRESS:
            place.progress(n_done / n_tiles, f"{n_done} of {n_tiles} tiles")

    prediction = predict_image(
        image,
        bundle,
        scale=scales.get(image.sha256),
        show_anyway=show_anyway,
        resolution=resolution,
        is_canceled=is_canceled,
        progress=show_progress,
    )
    place.empty()
    return prediction


def _show_switch(predictions: list[Prediction]) -> None:
    """Show the switch for predictions of blocked images, if there are such images."""
    n_blocked = sum(
        not prediction.is_classified or prediction.is_forced for prediction in predictions
    )
    if n_blocked:
        st.toggle(
            f"Show predictions of {format_count(n_blocked, 'blocked image')} anyway",
            key=SHOW_ANYWAY,
            persist_state="session",
            help="The model cannot interpret these images. Their predictions are not reliable.",
        )


def _classify(
    images: list[HeldImage], predict: Callable[[HeldImage], Prediction]
) -> list[tuple[HeldImage, Prediction]]:
    """Return the prediction for each file, and show errors."""
    results: dict[str, tuple[HeldImage, Prediction]] = {}
    failures, repeated, n_busy = Failures(), [], 0
    has_progress = len(images) >= MIN_IMAGES_WITH_PROGRESS
    progress = st.progress(0.0, "Classifying images") if has_progress else None
    for n_done, image in enumerate(images, start=1):
        if image.sha256 in results:
            repeated.append(f"{image.name} (= {results[image.sha256][0].name})")
            continue
        try:
            with failures.collect(image.name):
                results[image.sha256] = image, predict(image)
        except BusyError:
            n_busy += 1
        if progress:
            progress.progress(n_done / len(images), f"{n_done} of {len(images)} images")
    if progress:
        progress.empty()
    failures.show()
    if repeated:
        names = ", ".join(map(escape_markdown, repeated[:MAX_LISTED]))
        more = f" and {len(repeated) - MAX_LISTED} more" if len(repeated) > MAX_LISTED else ""
        st.caption(f":material/info: Uploaded twice, shown once: {names}{more}.")
    if n_busy:
        _show_busy(n_busy)
    return list(results.values())


def _refine(
    shown: list[tuple[HeldImage, Prediction]], predict: Callable[[HeldImage], Prediction]
) -> list[tuple[HeldImage, Prediction]]:
    """Return the shown predictions with finer heatmaps; an image that fails keeps its own."""
    refined = []
    n_busy = 0
    with st.spinner("Computing finer heatmaps", show_time=True):
        for image, prediction in shown:
            new = prediction
            if prediction.is_classified:
                with report_failure(image.name):
                    try:
                        finer = predict(image)
                        # The prediction stays that of the table, bit for bit.
                        new = replace(
                            prediction,
                            heatmaps=finer.heatmaps,
                            contribution=finer.contribution,
                            location=finer.location,
                        )
                    except BusyError:
                        n_busy += 1
            refined.append((image, new))
    if n_busy:
        st.warning(
            f"{format_count(n_busy, 'image')} with the standard heatmap only, because other users "
            "are classifying images. Select the resolution again later.",
            title="Finer heatmaps not available",
        )
    return refined


def _show_busy(n_busy: int) -> None:
    st.warning(
        f"{format_count(n_busy, 'image')} could not be classified yet, because other users are "
        "classifying images.",
        title="Server busy",
    )
    st.button("Try again", key="retry", icon=":material/refresh:")


def _show_table(predictions: list[Prediction]) -> None:
    table = pd.DataFrame(
        {
            "Image": [prediction.name for prediction in predictions],
            PROBABILITY: pd.Series(
                [prediction.prob_malignant for prediction in predictions], dtype=float
            ),
            "Outcome": [_describe_outcome(prediction) for prediction in predictions],
            "Checks": [
                ", ".join(check.title for check in prediction.checks) for prediction in predictions
            ],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        placeholder="-",
        column_config={PROBABILITY: st.column_config.NumberColumn(format="%.3f")},
        alt="Probability, outcome and checks of each image",
    )


def _describe_outcome(prediction: Prediction) -> str:
    outcome = prediction.outcome or "not classified"
    return f"{outcome} (blocked)" if prediction.is_forced else outcome


def _show_legend(bundle: Bundle) -> tuple[str, float, str]:
    """Show the settings and the color scale of the layers.

    Returns
    -------
    str
        The selected layer, a key of `LAYERS`.
    float
        The selected opacity.
    str
        The selected resolution.
    """
    choices, supported = supported_resolutions(bundle), supported_layers(bundle)
    layers = [name for name in LAYERS if name not in EXTRA_LAYERS or name in supported]
    if st.session_state.get("layer") not in layers:
        # Another model was selected, which has fewer layers.
        st.session_state["layer"] = CONTRIBUTION
    resolution = None
    # A row that wraps, because columns would cut off the choices in a narrow window.
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        layer = st.segmented_control(
            "Layer",
            layers,
            format_func=LAYERS.__getitem__,
            required=True,
            key="layer",
            persist_state="session",
            help=LAYER_HELP,
        )
        if len(choices) > 1:
            resolution = st.segmented_control(
                "Resolution",
                choices,
                format_func=str.capitalize,
                default=STANDARD,
                required=True,
                key="resolution",
                persist_state="session",
                help=RESOLUTION_HELP,
            )
        opacity = st.slider(
            "Opacity", 0.0, 1.0, 0.6, 0.05, key="opacity", persist_state="session",
            width=_SLIDER_PX,
        )  # fmt: skip
        with st.container(width=_COLOR_BAR_PX, gap="xsmall"):
            _show_color_bar(layer or CONTRIBUTION)
    return layer or CONTRIBUTION, float(opacity), resolution or STANDARD


def _show_color_bar(layer: str) -> None:
    """Show the color scale of a layer with the meaning of its ends."""
    is_signed = layer in (CONTRIBUTION, OCCLUSION)
    bar = draw_signed_color_bar(512, 8) if is_signed else draw_color_bar(512, 8)
    ends = ("Benign", "Malignant") if is_signed else ("None", "Strongest")
    st.image(bar, width="stretch", alt=f"Color scale, {ends[0]} to {ends[1]}".lower())
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        for end in ends:
            st.caption(end, width="content")
