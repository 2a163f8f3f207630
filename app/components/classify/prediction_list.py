"""The predictions of all images on the page: legend, results table, and a card for each image."""

import hashlib

import pandas as pd
import streamlit as st

from app.components.classify.prediction_card import show_prediction
from app.components.layout import escape, show_error
from app.components.model_picker import engine_of
from bc_model.data import decode_image
from bc_model.errors import BcModelError, EngineBusyError, ImageError
from bc_model.gradcam import draw_color_bar
from bc_model.inference import Bundle, Classifier, Prediction

CARDS_PER_PAGE = 4
PROBABILITY = "Estimated probability of malignancy"


# A prediction has a few kB. The cache is large, so that users with many images do not evict the
# predictions of other users.
@st.cache_data(max_entries=2000, show_spinner=False)
def _predict(sha256: str, name: str, bundle_key: str, _data: bytes, _bundle: Bundle) -> Prediction:
    return Classifier(engine_of(_bundle)).predict(decode_image(_data, name), name=name)


def show_predictions(images: list[tuple[str, bytes]], bundle: Bundle) -> None:
    """Classify every image and show the predictions, or an error for an unreadable image.

    Parameters
    ----------
    images : list of (str, bytes)
        File name and content of each image.
    bundle : Bundle
    """
    above = st.container()
    predictions: dict[str, tuple[Prediction, bytes]] = {}
    progress = st.progress(0.0, "Classifying images") if len(images) > 3 else None
    for done, (name, data) in enumerate(images, start=1):
        digest = hashlib.sha256(data).hexdigest()
        if digest in predictions:
            st.caption(
                f":material/info: {escape(name)} is the same file as "
                f"{escape(predictions[digest][0].name)} and is shown once."
            )
            continue
        try:
            predictions[digest] = _predict(digest, name, bundle.key, data, bundle), data
        except ImageError as error:
            show_error(error, title="Image skipped")
        except EngineBusyError as error:
            show_error(error, title="Server busy")
        except BcModelError as error:
            show_error(error, title="Prediction failed")
        if progress:
            progress.progress(done / len(images), f"{done} of {len(images)} images")
    if progress:
        progress.empty()

    if not predictions:
        return
    opacity = 0.0
    if any(prediction.is_classified for prediction, _ in predictions.values()):
        with above:
            opacity = _show_legend()
    if len(predictions) > 1:
        _show_table([prediction for prediction, _ in predictions.values()])
    pages = -(-len(predictions) // CARDS_PER_PAGE)
    page = st.pagination(pages, key="page") if pages > 1 else 1
    first = (page - 1) * CARDS_PER_PAGE
    for digest, (prediction, data) in list(predictions.items())[first : first + CARDS_PER_PAGE]:
        show_prediction(prediction, data, digest, bundle, opacity)


def _show_table(predictions: list[Prediction]) -> None:
    table = pd.DataFrame(
        {
            "Image": [one.name for one in predictions],
            PROBABILITY: pd.Series([one.prob_malignant for one in predictions], dtype=float),
            "Predicted class": [one.predicted_class or "not classified" for one in predictions],
            "Checks": [", ".join(check.title for check in one.checks) for one in predictions],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={PROBABILITY: st.column_config.NumberColumn(format="%.2f")},
        alt="Probability, predicted class and checks of each image",
    )


def _show_legend() -> float:
    """Show the color scale of the heatmaps and return the selected opacity."""
    config, legend = st.columns([1, 2], gap="large", vertical_alignment="bottom")
    opacity = config.slider("Heatmap opacity", 0.0, 1.0, 0.6, 0.05, key="opacity")
    with legend:
        st.image(draw_color_bar(512, 10), width="stretch", alt="")
        st.caption(
            "Color scale: from no contribution to the strongest contribution in the image. "
            "Heatmaps show regions that increased a class score; they do not outline lesions."
        )
    return float(opacity)
