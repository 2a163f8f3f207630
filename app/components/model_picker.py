"""Model selection, model description, and the loaded engine that all sessions share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.components.layout import escape_markdown, format_list
from app.components.selective import show_selective
from bc_model.checks import Severity
from bc_model.evaluation import (
    EvaluationReport,
    check_nested,
    cross_validation_report,
    is_cross_validated,
)
from bc_model.inference import (
    BUNDLED_MODELS_DIR,
    Bundle,
    describe_synthetic_training,
    list_bundles,
)
from bc_model.training import runs_dir
from bc_model.utils import Metric, format_count

if TYPE_CHECKING:
    from bc_model.inference import BatchingEngine

_METRIC_LABELS = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}


def select_model() -> Bundle | None:
    """Show the selection and return the model, None if there is none."""
    bundles, problems = list_bundles(runs_dir(), BUNDLED_MODELS_DIR)
    for problem in problems:
        st.warning(escape_markdown(problem), title="Model skipped")
    if not bundles:
        return None
    by_label = {bundle.label: bundle for bundle in reversed(bundles)}
    target = st.query_params.get("model")
    if target and target not in by_label:
        st.warning(
            f"Model '{escape_markdown(target)}' was not found. Another model is selected.",
        )
    labels = list(reversed(by_label))
    defaults = (i for i, label in enumerate(labels) if _is_default(by_label[label]))
    label = st.selectbox(
        "Model",
        labels,
        index=next(defaults, 0),
        key="model",
        bind="query-params",
        help="Models of finished runs, newest first, and the bundled model.",
    )
    if label not in by_label:
        return None
    return by_label[label]


def _is_default(bundle: Bundle) -> bool:
    """Return whether a model suits as the default: trained on tissue, with a real network."""
    card = bundle.card
    return not card.data.is_synthetic and card.architecture.backbone != "tiny"


def list_cross_validated() -> dict[str, Bundle]:
    """Return the bundled models with a cross-validation by display name.

    A model that cannot be opened is shown as a warning.
    """
    bundles, problems = list_bundles(None, BUNDLED_MODELS_DIR)
    for problem in problems:
        st.warning(escape_markdown(problem), title="Model skipped")
    return {f"{bundle.label} (bundled)": bundle for bundle in bundles if is_cross_validated(bundle)}


@st.cache_resource(max_entries=2, show_spinner="Computing metrics and intervals")
def _compute_cross_validation(bundle_key: str, _bundle: Bundle) -> EvaluationReport:
    return cross_validation_report(_bundle)


def report_cross_validation(bundle: Bundle) -> EvaluationReport:
    """Return the cross-validation report of a bundled model, computed once for all sessions."""
    return _compute_cross_validation(bundle.key, bundle)


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def _load_engine_once(bundle_key: str, _bundle: Bundle) -> BatchingEngine:
    # Imported late, so that the page appears before the first image needs an engine.
    from bc_model.inference import BatchingEngine, Engine

    return BatchingEngine(Engine(_bundle))


def load_engine(bundle: Bundle) -> BatchingEngine:
    """Return the engine of a bundle, loaded once for all sessions."""
    return _load_engine_once(bundle.key, bundle)


def show_training_data(bundle: Bundle) -> None:
    """Show the architecture and the training data of a model in one sentence."""
    card = bundle.card
    height, width = bundle.image_size
    magnifications = ", ".join(f"{m}X" for m in card.scale.magnifications)
    n_cases = len(card.data.training_cases)
    st.caption(
        escape_markdown(
            f"{card.architecture.backbone} on {width} x {height} px, trained on "
            f"{card.data.n_images.train:,} images of {n_cases or 'unknown'} cases at "
            f"{magnifications or 'unknown magnification'}."
        )
    )


def show_model_details(bundle: Bundle) -> None:
    """Show the limitations of a model in one line, and its metrics and limits on demand."""
    card, limitations = bundle.card, _list_limitations(bundle)
    if len(limitations) == 1:
        (sentence,) = limitations
        text = f"**Model limitations:** {escape_markdown(sentence)}"
        st.warning(text, icon=":material/warning:")
    elif limitations:
        titles = dict.fromkeys(map(escape_markdown, limitations.values()))
        st.warning(f"**Model limitations:** {'; '.join(titles)}.", icon=":material/warning:")
    with st.expander("Model details", icon=":material/info:"):
        st.markdown(format_list(limitations))
        if card.metrics.test:
            _show_test_metrics(bundle)
        st.markdown(escape_markdown(card.intended_use))
        st.markdown(escape_markdown(card.limits))
        if n_initial := len(card.data.initial_cases):
            st.markdown(f"The initial weights were trained on {format_count(n_initial, 'case')}.")
        for check in check_nested(card):
            st.markdown(escape_markdown(check.message))
        st.markdown(
            f"Threshold {bundle.threshold:.2f}: {escape_markdown(card.threshold.method)}. "
            f"Temperature: {escape_markdown(card.temperature.method)}."
        )
        if card.metrics.selective:
            show_selective(card.metrics.selective)


def _list_limitations(bundle: Bundle) -> dict[str, str]:
    """Return the sentence of each limitation with its short title."""
    card, limitations = bundle.card, {}
    if card.data.is_synthetic:
        limitations[describe_synthetic_training(card.data)] = "trained on synthetic images"
    if card.architecture.backbone == "tiny":
        limitations["The network has three layers and is for test runs only."] = "test network"
    if card.metrics.test is None:
        return limitations | {"The model has not been evaluated.": "not evaluated"}
    return limitations | {
        check.message: check.title[:1].lower() + check.title[1:]
        for check in card.metrics.test.checks
        if check.severity != Severity.INFO
    }


def _show_test_metrics(bundle: Bundle) -> None:
    """Show a Markdown table; a data frame would delay the first page by loading pandas."""
    test = bundle.card.metrics.test
    assert test is not None
    metrics = {title: test.metrics[name] for name, title in _METRIC_LABELS.items()}
    groups = [group for group in test.subgroups if group.kind == "magnification"]
    if len(groups) > 1:
        for group in groups:
            title = f"Balanced accuracy at {escape_markdown(group.name)}"
            metrics[title] = group.metrics["balanced_accuracy"]
    rows = [_format_row(title, metric) for title, metric in metrics.items()]
    head = ["| Metric | Value | 95 % CI | Images | Cases |", "| :-- | --: | :-- | --: | --: |"]
    has_test_subset = bundle.card.data.n_images.test  # 0 if the model was trained on all images.
    source = "Test subset" if has_test_subset else "Case-level cross-validation"
    st.markdown("\n".join([f"**{source}**", "", *head, *rows]))


def _format_row(title: str, metric: Metric) -> str:
    value = "not defined" if metric.value is None else f"{metric.value:.2f}"
    interval = "none" if metric.ci_low is None else f"{metric.ci_low:.2f} to {metric.ci_high:.2f}"
    return (
        f"| {title} | {value} | {interval} | {metric.n_images:,} | {metric.n_cases or 'unknown'} |"
    )
