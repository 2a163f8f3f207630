"""The demonstration of the page Classify, and the samples of a registered dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.components.classify.session_images import HeldImage, hold_image
from app.components.layout import RESEARCH_USE, escape_markdown, show_error
from app.components.model_picker import load_engine
from app.components.paths import require_links_inside
from bc_model.data import list_datasets, list_image_files, open_dataset, read_image_bytes
from bc_model.errors import BcModelError
from bc_model.inference import BUNDLED_MODELS_DIR, Bundle, open_bundle
from bc_model.utils import Metric

if TYPE_CHECKING:
    from bc_model.evaluation import DemoResult, DemoSample

DEMO_KEY = "demo"
"""Query parameter: present while the demonstration is shown, so that a refresh shows it again."""

_MODEL_NAME = "synthetic-demo"
_COLUMNS = 2
_MAX_DATASETS = 3
_WIDTH_PX = 360
_OUTCOMES = {
    "benign": ":blue-badge[Benign]",
    "malignant": ":orange-badge[Malignant]",
    "uncertain": ":gray-badge[Uncertain]",
    "blocked": ":gray-badge[Blocked]",
}


SAMPLES_KEY = "samples"
"""Query parameter: name of the dataset whose samples are shown."""


def show_dataset_buttons() -> None:
    """Show one button per registered dataset that opens images of cases the model has not seen."""
    for dataset in list_datasets()[0][:_MAX_DATASETS]:
        if dataset.is_available:
            st.button(
                f"Samples from {escape_markdown(dataset.name)}",
                key=f"samples:{dataset.name}",
                icon=":material/photo_library:",
                on_click=_open_samples,
                args=(dataset.name,),
                help="Up to six images, from the test subset or unseen cases if possible.",
            )


def read_samples(bundle: Bundle) -> list[HeldImage]:
    """Return the samples of the dataset that the page address names; empty without one."""
    name = st.query_params.get(SAMPLES_KEY, "")
    if not name:
        return []
    # Imported late: this loads pandas.
    from bc_model.inference import choose_samples
    from bc_model.training import find_test_images

    source = f"Samples from the dataset {escape_markdown(name)}"
    try:
        dataset = open_dataset(name)
        tested = find_test_images(bundle, dataset.images_dir)
        files = choose_samples(tested or list_image_files(dataset.images_dir), bundle)
        source += ", from the test subset of the run." if tested else "."
        require_links_inside(dataset.images_dir, files)
        images = [hold_image(file.name, read_image_bytes(file)) for file in files]
    except (BcModelError, OSError) as error:
        show_error(error, title="Samples not available")
        images = []
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(source, width="content")
        st.button(
            "Close samples", key="close-samples", icon=":material/close:", on_click=close_samples
        )
    return images


def close_samples() -> None:
    """Remove the samples from the page address."""
    st.query_params.pop(SAMPLES_KEY, None)


def _open_samples(name: str) -> None:
    st.query_params[SAMPLES_KEY] = name


def show_demo_button() -> None:
    """Show the button that opens the demonstration, if the demo model is installed."""
    if not (BUNDLED_MODELS_DIR / _MODEL_NAME).is_dir():
        return
    st.button(
        "Show demo",
        key="show-demo",
        icon=":material/play_arrow:",
        on_click=_open,
        help="Six synthetic images with known lesions. Works offline.",
    )


def is_demo_open() -> bool:
    """Return whether the demonstration is selected in the page address."""
    return st.query_params.get(DEMO_KEY) == "1"


def show_demo() -> None:
    """Show the samples with their maps, masks and predictions, and the pointing score."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Demo", anchor=False, width="content")
        st.button("Close demo", key="close-demo", icon=":material/close:", on_click=_close)
    # Imported late: this loads the imaging libraries.
    from bc_model.evaluation import DEMO_NOTICE, score_pointing

    st.warning(f"{DEMO_NOTICE} {RESEARCH_USE}", icon=":material/draw:")
    try:
        bundle = open_bundle(BUNDLED_MODELS_DIR / _MODEL_NAME)
        shown = _evaluate_samples(bundle.key, bundle)
    except BcModelError as error:
        st.error(escape_markdown(str(error)), title="Demo not available")
        return
    _show_scores(score_pointing([result for _, result, _ in shown]), bundle)
    for start in range(0, len(shown), _COLUMNS):
        for column, row in zip(st.columns(_COLUMNS), shown[start : start + _COLUMNS], strict=False):
            with column, st.container(border=True):
                _show_sample(*row)


def _open() -> None:
    st.query_params[DEMO_KEY] = "1"


def _close() -> None:
    st.query_params.pop(DEMO_KEY, None)


@st.cache_resource(max_entries=1, show_spinner="Classifying the samples")
def _evaluate_samples(
    bundle_key: str, _bundle: Bundle
) -> list[tuple[DemoSample, DemoResult, dict[str, bytes]]]:
    from bc_model.evaluation import draw_demo_sample, evaluate_demo_sample, make_demo_samples
    from bc_model.gradcam import downsample_to_width, encode_jpeg
    from bc_model.inference import Classifier

    classifier = Classifier(load_engine(_bundle))
    rows = []
    for sample in make_demo_samples():
        result = evaluate_demo_sample(classifier, sample)
        files = {
            name: encode_jpeg(downsample_to_width(image, _WIDTH_PX))
            for name, image in draw_demo_sample(sample, result).items()
        }
        rows.append((sample, result, files))
    return rows


def _show_scores(score: Metric, bundle: Bundle) -> None:
    lines = [f"**Pointing score:** {_format(score)} of these samples."]
    explanations = bundle.card.metrics.explanations
    if explanations is not None and explanations.pointing:
        lines.append(f"{_format(explanations.pointing[0].hit_rate)} of further synthetic images.")
    st.markdown(" ".join(lines))
    st.caption(
        "Proportion of contribution maps whose maximum is in the true lesion, with 95 % CI. "
        "Blue supports benign, orange supports malignant."
    )


def _format(metric: Metric) -> str:
    value = "not defined" if metric.value is None else f"{metric.value:.2f}"
    interval = "" if metric.ci_low is None else f"{metric.ci_low:.2f} to {metric.ci_high:.2f}, "
    return f"{value} ({interval}n = {metric.n_images})"


def _show_sample(sample: DemoSample, result: DemoResult, files: dict[str, bytes]) -> None:
    st.markdown(f"**{sample.name}** {_OUTCOMES[result.outcome]}")
    for column, (label, data) in zip(st.columns(3), files.items(), strict=False):
        column.image(data, width="stretch", alt=f"{label} of the sample {sample.name}")
        column.caption(label)
    prediction = result.prediction
    if prediction.prob_malignant is None:
        blocking = prediction.checks[0]
        st.markdown(f"Not classified. {escape_markdown(blocking.message)}")
        return
    text = f"Estimated probability of malignancy **{prediction.prob_malignant:.2f}**."
    if result.pointing_hit is not None:
        hit = "in" if result.pointing_hit else "outside of"
        text += (
            f" Map maximum **{hit}** the lesion; {result.mass_in_lesion:.0%} of the evidence "
            "for malignant in it."
        )
    st.markdown(text)
