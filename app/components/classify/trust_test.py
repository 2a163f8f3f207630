"""The trust test of the contribution map, on demand."""

from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.checks import show_checks
from app.components.classify.failures import report_failure
from app.components.classify.image_analysis import decode_once, hold_result
from app.components.classify.session_images import HeldImage
from app.components.layout import RESEARCH_USE, make_fragment
from app.components.model_picker import load_engine
from bc_model.evaluation import Faithfulness, measure_prediction_faithfulness
from bc_model.inference import Bundle, Prediction

_RESULT_BYTES = 8192


def show_trust_test(image: HeldImage, prediction: Prediction, bundle: Bundle) -> None:
    """Show a button, and after a click the trust test of the contribution map.

    Parameters
    ----------
    image : HeldImage
        The image file.
    prediction : Prediction
        Its prediction with one field of view.
    bundle : Bundle
        The model.
    """
    _show_fragment(image, prediction, bundle)


def _show(image: HeldImage, prediction: Prediction, bundle: Bundle) -> None:
    key = f"trust-{image.sha256}-{bundle.key[:16]}"
    if st.button(
        "Test this map",
        key=f"button-{key}",
        icon=":material/science:",
        help="Compares the contribution map with 30 random maps, in a few seconds.",
    ):
        st.session_state[key] = True
    if not st.session_state.get(key):
        return
    with report_failure(image.name):
        place = st.empty()
        compute = partial(_test, image, prediction, bundle, place)
        result = hold_result((key, prediction.scale), compute, _RESULT_BYTES)
        place.empty()
        _show_result(result)


_show_fragment = make_fragment(_show)


def _test(
    image: HeldImage, prediction: Prediction, bundle: Bundle, place: DeltaGenerator
) -> Faithfulness:
    def show_progress(n_done: int, n_total: int) -> None:
        place.progress(n_done / n_total, f"{n_done} of {n_total} changed images")

    engine = load_engine(bundle).engine
    return measure_prediction_faithfulness(
        engine, decode_once(image), prediction, progress=show_progress
    )


def _show_result(result: Faithfulness) -> None:
    # Imported late: the page without this result does not need the chart library.
    from app.components.charts import chart_faithfulness

    number, chart = st.columns([1, 2], vertical_alignment="center", gap="medium")
    with number:
        st.metric("Random maps that the map beats", f"{result.proportion:.0%}")
        st.caption(
            f"95 % interval {result.ci_low:.0%} to {result.ci_high:.0%}; "
            f"{len(result.random_scores)} random maps; p = {result.p_value:.2f}."
        )
    with chart:
        st.altair_chart(
            chart_faithfulness(result),
            alt="Evidence for the predicted class while marked regions are removed or shown",
        )
    show_checks(result.checks)
    st.caption(f"Regions are removed by a strong blur. {RESEARCH_USE}")
