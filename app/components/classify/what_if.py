"""What if: change the image, and see how the prediction and its map change."""

import streamlit as st

from app.components.classify.failures import report_failure
from app.components.classify.image_analysis import Preview, decode_once, find_file_checks
from app.components.classify.rectangle_selector import select_rectangle
from app.components.classify.session_images import HeldImage
from app.components.layout import RESEARCH_USE, escape_markdown, make_fragment
from app.components.model_picker import load_engine
from bc_model.contribution_map import overlay_signed_map
from bc_model.data import Fill, ImageChange
from bc_model.gradcam import downsample_to_width, encode_jpeg
from bc_model.inference import Bundle, Classifier, Prediction, WhatIf, predict_change
from bc_model.utils import format_with_threshold

_WIDTH_PX = 700
MINUS = "\u2212"


def show_what_if(
    image: HeldImage, prediction: Prediction, preview: Preview, bundle: Bundle
) -> None:
    """Show a toggle, and below it the controls and the prediction of the changed image.

    Parameters
    ----------
    image : HeldImage
        The image file.
    prediction : Prediction
        Its prediction with one field of view.
    preview : Preview
        Its pixels for display.
    bundle : Bundle
        The model.
    """
    _show_fragment(image, prediction, preview, bundle)


def _show(image: HeldImage, prediction: Prediction, preview: Preview, bundle: Bundle) -> None:
    key = f"what-if-{image.sha256[:16]}"
    if not st.toggle("What if", key=key, help="Change the image and see how the result changes."):
        return
    version = st.session_state.setdefault(f"{key}-version", 0)
    left, right = st.columns(2)
    with left, report_failure(image.name):
        st.markdown(
            "**Drag a rectangle**",
            help="Arrow keys move it, Shift resizes it, Escape removes it.",
        )
        shown = downsample_to_width(preview.pixels, _WIDTH_PX)
        rectangle = select_rectangle(
            shown, alt=f"The image {image.name}", key=f"{key}-area", version=version
        )
        change = _select_change(rectangle, f"{key}-{version}")
        st.button(
            "Reset", key=f"{key}-reset", icon=":material/restart_alt:", type="tertiary",
            on_click=_reset, args=(f"{key}-version",),
        )  # fmt: skip
    with right, report_failure(image.name):
        result = predict_change(
            Classifier(load_engine(bundle)),
            decode_once(image),
            prediction,
            change,
            file_checks=find_file_checks(image, prediction.scale),
        )
        _show_result(result, bundle)


_show_fragment = make_fragment(_show)


def _reset(key: str) -> None:
    st.session_state[key] += 1


def _select_change(rectangle: tuple[float, ...] | None, key: str) -> ImageChange:
    fill = st.segmented_control(
        "Replace it by", list(Fill), format_func=lambda value: str(value.value).capitalize(),
        default=Fill.MEAN_COLOR, required=True, key=f"{key}-fill",
    )  # fmt: skip
    columns = st.columns(3)
    blur = columns[0].slider("Blur (px)", 0.0, 10.0, 0.0, 0.5, key=f"{key}-blur")
    brightness = columns[1].slider("Brightness", 0.5, 1.5, 1.0, 0.05, key=f"{key}-brightness")
    stain = columns[2].slider("Stain", 0.5, 1.5, 1.0, 0.05, key=f"{key}-stain")
    sides = None if rectangle is None else (rectangle[0], rectangle[1], rectangle[2], rectangle[3])
    return ImageChange(sides, fill or Fill.MEAN_COLOR, blur, brightness, stain)


def _show_result(what_if: WhatIf, bundle: Bundle) -> None:
    st.markdown("**Contribution after the change**")
    result = what_if.prediction
    pixels = downsample_to_width(what_if.image, _WIDTH_PX)
    if result.contribution is not None:
        pixels = overlay_signed_map(pixels, result.contribution)
    st.image(encode_jpeg(pixels), width="stretch", alt="The changed image with its contributions")
    assert result.prob_malignant is not None
    probability, _ = format_with_threshold(result.prob_malignant, bundle.threshold)
    difference = what_if.prob_difference
    sign = MINUS if difference < -0.0005 else "+" if difference > 0.0005 else ""
    outcome, estimated = st.columns(2)
    label = "Blocked, shown anyway" if result.is_forced else "Outcome"
    outcome.metric(label, str(result.outcome).capitalize())
    estimated.metric(
        "Estimated probability of malignancy",
        probability,
        f"{sign}{abs(difference):.3f}",
        delta_color="off",
        delta_arrow="off",
    )
    if result.is_forced:
        titles = ", ".join(check.title.lower() for check in result.checks if check.is_blocking)
        st.markdown(f"The changed image alone would be blocked: {escape_markdown(titles)}.")
    st.caption(f"Difference to the unchanged image. {RESEARCH_USE}")
