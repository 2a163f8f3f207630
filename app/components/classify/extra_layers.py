"""Further layers of a card, which are computed when they are selected."""

import streamlit as st

from app.components.classify.image_analysis import decode_once, hold_result
from app.components.classify.session_images import HeldImage
from app.components.model_picker import load_engine
from bc_model.contribution_map import ContributionMap
from bc_model.data import preprocess_image
from bc_model.gradcam import Heatmap
from bc_model.inference import Bundle, Prediction, explain_layer

EXTRA_LAYERS = {
    "grad-cam-plus-plus": "Grad-CAM++",
    "layer-cam": "LayerCAM",
    "occlusion": "Occlusion",
}
_RESULT_BYTES = 8192


def compute_layer(
    image: HeldImage, prediction: Prediction, bundle: Bundle, method: str
) -> Heatmap | ContributionMap:
    """Return a layer for the predicted class of an image, from the cache if possible.

    Parameters
    ----------
    image : HeldImage
        The image file.
    prediction : Prediction
        Its prediction with one field of view.
    bundle : Bundle
        The model.
    method : str
        Key of `EXTRA_LAYERS`.

    Raises
    ------
    BcModelError
        The model does not support the layer, or the image cannot be used.
    """
    place = st.empty()

    def show_progress(n_done: int, n_total: int) -> None:
        place.progress(n_done / n_total, f"{n_done} of {n_total} regions hidden")

    def compute() -> Heatmap | ContributionMap:
        pixels = preprocess_image(decode_once(image), bundle.image_size)
        return explain_layer(
            load_engine(bundle).engine,
            pixels,
            method,
            prediction.predicted_class or "malignant",
            progress=show_progress,
        )

    key = (image.sha256, bundle.key, method, prediction.predicted_class)
    layer = hold_result(key, compute, _RESULT_BYTES)
    place.empty()
    return layer
