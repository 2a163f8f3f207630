"""The spread of the probability over rotated, mirrored and shifted views, on demand."""

import streamlit as st

from app.components.checks import show_checks
from app.components.classify.failures import report_failure
from app.components.classify.image_analysis import decode_once, hold_result
from app.components.classify.session_images import HeldImage
from app.components.layout import RESEARCH_USE, make_fragment
from app.components.model_picker import load_engine
from bc_model.inference import Bundle, Classifier, ViewSpread

_RESULT_BYTES = 2048


def show_view_spread(image: HeldImage, bundle: Bundle) -> None:
    """Show a button, and after a click the probabilities of all views of an image.

    Parameters
    ----------
    image : HeldImage
        The image file, which is classified.
    bundle : Bundle
        The model.
    """
    _show_fragment(image, bundle)


def _show(image: HeldImage, bundle: Bundle) -> None:
    key = f"views-{image.sha256}-{bundle.key[:16]}"
    if st.button(
        "Compare views",
        key=f"button-{key}",
        icon=":material/360:",
        help="Classifies 8 rotated or mirrored and 4 shifted views.",
    ):
        st.session_state[key] = True
    if not st.session_state.get(key):
        return
    with report_failure(image.name):
        with st.spinner("Classifying the views", show_time=True):
            spread = hold_result((key, "views"), lambda: _predict(image, bundle), _RESULT_BYTES)
        _show_spread(spread, bundle)


_show_fragment = make_fragment(_show)


def _predict(image: HeldImage, bundle: Bundle) -> ViewSpread:
    return Classifier(load_engine(bundle)).predict_views(decode_once(image))


def _show_spread(spread: ViewSpread, bundle: Bundle) -> None:
    # Imported late: the page without this result does not need the chart library.
    from app.components.charts import chart_views

    n_views = len(spread.prob_malignant)
    st.altair_chart(
        chart_views(spread, bundle.uncertain_band),
        alt=f"Estimated probability of malignancy of {n_views} views, from {spread.minimum:.3f} "
        f"to {spread.maximum:.3f}",
    )
    st.markdown(
        f"{n_views} views: mean probability {spread.mean:.3f}, standard deviation "
        f"{spread.sd:.3f}, range {spread.minimum:.3f} to {spread.maximum:.3f}; "
        f"{spread.n_malignant} predicted malignant."
    )
    show_checks(spread.checks)
    st.caption(
        "Eight rotations and mirror images; four crops of 96 % of each side, shifted by 2 % of "
        f"the field. {RESEARCH_USE}"
    )
