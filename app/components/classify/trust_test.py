"""The trust test of the selected map, on demand."""

from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.components.checks import show_checks
from app.components.classify.extra_layers import EXTRA_LAYERS, compute_layer
from app.components.classify.failures import report_failure
from app.components.classify.image_analysis import decode_once, hold_result
from app.components.classify.session_images import HeldImage
from app.components.layout import RESEARCH_USE, make_fragment
from app.components.model_picker import load_engine
from bc_model.contribution_map import ContributionMap
from bc_model.evaluation import Faithfulness, measure_prediction_faithfulness
from bc_model.gradcam import Heatmap
from bc_model.inference import Bundle, Prediction

_RESULT_BYTES = 8192


def show_trust_test(
    image: HeldImage, prediction: Prediction, bundle: Bundle, layer: str, label: str
) -> None:
    """Show a button, and after a click the trust test of a map.

    Parameters
    ----------
    image : HeldImage
        The image file.
    prediction : Prediction
        Its prediction with one field of view.
    bundle : Bundle
        The model.
    layer : str
        The tested map: a class for its Grad-CAM heatmap, a key of `EXTRA_LAYERS`, or any other key
        for the contribution map.
    label : str
        Name of the map.
    """
    _show_fragment(image, prediction, bundle, layer, label)


def _show(image: HeldImage, prediction: Prediction, bundle: Bundle, layer: str, label: str) -> None:
    key = f"trust-{layer}-{image.sha256}-{bundle.key[:16]}"
    if st.button(
        "Test this map",
        key=f"button-{key}",
        icon=":material/science:",
        help="Compares the selected map with 30 random maps, in a few seconds.",
    ):
        st.session_state[key] = True
    if not st.session_state.get(key):
        return
    with report_failure(image.name):
        place = st.empty()
        tested = _find_map(image, prediction, bundle, layer)
        compute = partial(_test, image, prediction, bundle, tested, place)
        settings = (key, prediction.scale, _cell_shape(tested))
        result = hold_result(settings, compute, _RESULT_BYTES)
        place.empty()
        _show_result(result, label)


_show_fragment = make_fragment(_show)


def _find_map(
    image: HeldImage, prediction: Prediction, bundle: Bundle, layer: str
) -> ContributionMap | Heatmap:
    if layer in EXTRA_LAYERS:
        return compute_layer(image, prediction, bundle, layer)
    assert prediction.contribution is not None
    return prediction.heatmaps.get(layer, prediction.contribution)


def _cell_shape(tested: ContributionMap | Heatmap) -> tuple[int, ...]:
    cells = tested.raw if isinstance(tested, Heatmap) else tested.cells
    return cells.shape


def _test(
    image: HeldImage,
    prediction: Prediction,
    bundle: Bundle,
    tested: ContributionMap | Heatmap,
    place: DeltaGenerator,
) -> Faithfulness:
    def show_progress(n_done: int, n_total: int) -> None:
        place.progress(n_done / n_total, f"{n_done} of {n_total} changed images")

    engine = load_engine(bundle).engine
    return measure_prediction_faithfulness(
        engine, decode_once(image), prediction, tested, progress=show_progress
    )


def _show_result(result: Faithfulness, label: str) -> None:
    # Imported late: the page without this result does not need the chart library.
    from app.components.charts import chart_faithfulness

    number, chart = st.columns([1, 2], vertical_alignment="center", gap="medium")
    with number:
        st.markdown(f"**{label}**")
        st.metric("Random maps beaten", f"{result.proportion:.0%}")
        st.caption(
            f"95 % interval {result.ci_low:.0%} to {result.ci_high:.0%}; "
            f"{len(result.random_scores)} random maps; p = {result.p_value:.2f}."
        )
    with chart:
        st.altair_chart(
            chart_faithfulness(result),
            alt="Margin for the class while marked regions are removed or shown",
        )
    show_checks(result.checks)
    st.caption(
        "Regions are removed by a strong blur. Random maps are mirrored and shifted copies of the "
        f"map. {RESEARCH_USE}"
    )
