"""The predictions of all images on the page: results table, legend, and a card for each image."""

import hashlib

import pandas as pd
import streamlit as st

from app.components.classify.prediction_card import show_prediction
from app.components.layout import escape_markdown, show_error
from app.components.model_picker import load_engine
from bc_model.data import decode_image
from bc_model.errors import BcModelError, EngineBusyError, ImageError
from bc_model.gradcam import draw_color_bar
from bc_model.inference import Bundle, Classifier, Prediction

CARDS_PER_PAGE = 4
MIN_IMAGES_WITH_PROGRESS = 4
PROBABILITY = "Estimated probability of malignancy"


# A prediction has a few kB. The cache is large, so that users with many images do not evict the
# predictions of other users.
@st.cache_data(max_entries=2000, show_spinner=False)
def _predict(sha256: str, name: str, bundle_key: str, _data: bytes, _bundle: Bundle) -> Prediction:
    return Classifier(load_engine(_bundle)).predict(decode_image(_data, name), name=name)


def show_predictions(images: list[tuple[str, bytes]], bundle: Bundle) -> None:
    """Classify every image and show the predictions, or an error for an unreadable image.

    Parameters
    ----------
    images : list of (str, bytes)
        File name and content of each image.
    bundle : Bundle
        The model.
    """
    results = _classify(images, bundle)
    if not results:
        return
    if len(results) > 1:
        _show_table([prediction for prediction, _ in results.values()])
    n_pages = -(-len(results) // CARDS_PER_PAGE)
    page = st.pagination(n_pages, key="page") if n_pages > 1 else 1
    shown = list(results.items())[(page - 1) * CARDS_PER_PAGE : page * CARDS_PER_PAGE]
    opacity = 0.0
    if any(prediction.is_classified for _, (prediction, _) in shown):
        opacity = _show_legend()
    for sha256, (prediction, data) in shown:
        show_prediction(prediction, data, sha256, bundle, opacity)


def _classify(
    images: list[tuple[str, bytes]], bundle: Bundle
) -> dict[str, tuple[Prediction, bytes]]:
    """Return the prediction and content of each file by its hash, and show errors."""
    results: dict[str, tuple[Prediction, bytes]] = {}
    has_progress = len(images) >= MIN_IMAGES_WITH_PROGRESS
    progress = st.progress(0.0, "Classifying images") if has_progress else None
    for n_done, (name, data) in enumerate(images, start=1):
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in results:
            st.caption(
                f":material/info: {escape_markdown(name)} is the same file as "
                f"{escape_markdown(results[sha256][0].name)} and is shown once."
            )
            continue
        try:
            results[sha256] = _predict(sha256, name, bundle.key, data, bundle), data
        except ImageError as error:
            show_error(error, title="Image skipped")
        except EngineBusyError as error:
            show_error(error, title="Server busy")
        except BcModelError as error:
            show_error(error, title="Prediction failed")
        if progress:
            progress.progress(n_done / len(images), f"{n_done} of {len(images)} images")
    if progress:
        progress.empty()
    return results


def _show_table(predictions: list[Prediction]) -> None:
    table = pd.DataFrame(
        {
            "Image": [prediction.name for prediction in predictions],
            PROBABILITY: pd.Series(
                [prediction.prob_malignant for prediction in predictions], dtype=float
            ),
            "Predicted class": [
                prediction.predicted_class or "not classified" for prediction in predictions
            ],
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
        alt="Probability, predicted class and checks of each image",
    )


def _show_legend() -> float:
    """Show the opacity slider and the color scale, and return the selected opacity."""
    slider, legend = st.columns([2, 3], gap="large", vertical_alignment="bottom")
    opacity = slider.slider("Heatmap opacity", 0.0, 1.0, 0.6, 0.05, key="opacity")
    with legend:
        st.image(draw_color_bar(512, 6), width="stretch", alt="")
        st.caption(
            "From no contribution to the strongest in the image; heatmaps do not outline lesions."
        )
    return float(opacity)
