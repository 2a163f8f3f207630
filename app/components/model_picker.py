"""Model selection, model description, and the loaded engine that all sessions share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.components.layout import escape, listed
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
from bc_model.reporting import format_support
from bc_model.training import runs_dir
from bc_model.utils import Metric, format_count

if TYPE_CHECKING:
    from bc_model.inference import BatchingEngine


def choose_model() -> Bundle | None:
    """Draw the selection and return the model, None if there is none."""
    bundles, problems = list_bundles(runs_dir(), BUNDLED_MODELS_DIR)
    for problem in problems:
        st.warning(escape(problem), title="Model skipped")
    if not bundles:
        return None
    by_label = {bundle.label: bundle for bundle in reversed(bundles)}
    target = st.query_params.get("model")
    if target and target not in by_label:
        st.warning(
            f"Model '{escape(target)}' was not found. Another model is selected.",
        )
    labels = list(reversed(by_label))
    label = st.selectbox(
        "Model",
        labels,
        index=next((i for i, one in enumerate(labels) if _may_open(by_label[one])), 0),
        key="model",
        bind="query-params",
        help="Models of finished runs, newest first, and the bundled model.",
    )
    if label not in by_label:
        return None
    _describe(by_label[label])
    return by_label[label]


def cross_validated_models() -> dict[str, Bundle]:
    """Return the bundled models with a cross-validation by display name.

    A model that cannot be opened is shown as a warning.
    """
    bundles, problems = list_bundles(None, BUNDLED_MODELS_DIR)
    for problem in problems:
        st.warning(escape(problem), title="Model skipped")
    return {f"{one.label} (bundled)": one for one in bundles if is_cross_validated(one)}


@st.cache_resource(max_entries=2, show_spinner="Computing metrics and intervals")
def _cross_validation_report(bundle_key: str, created: str, _bundle: Bundle) -> EvaluationReport:
    return cross_validation_report(_bundle)


def report_of_cross_validation(bundle: Bundle) -> EvaluationReport:
    """Return the cross-validation report of a bundled model, computed once for all sessions."""
    return _cross_validation_report(bundle.key, bundle.card.created, bundle)


def _may_open(bundle: Bundle) -> bool:
    """Return whether a model suits as the default: trained on tissue, with a real network."""
    card = bundle.card
    return not card.data.is_synthetic and card.architecture.backbone != "tiny"


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def _load_engine(bundle_key: str, _bundle: Bundle) -> BatchingEngine:
    # Imported late, so that the page appears before the first image needs an engine.
    from bc_model.inference import BatchingEngine, Engine

    return BatchingEngine(Engine(_bundle))


def engine_of(bundle: Bundle) -> BatchingEngine:
    """Return the engine of a bundle, loaded once for all sessions."""
    return _load_engine(bundle.key, bundle)


def _describe(bundle: Bundle) -> None:
    """Draw the training data, metrics and limitations of a model."""
    card = bundle.card
    height, width = bundle.image_size
    magnifications = ", ".join(f"{m}X" for m in card.scale.magnifications)
    cases = len(card.data.training_cases)
    words = (
        f"{card.architecture.backbone} on {width} x {height} px, trained on "
        f"{card.data.n_images.train:,} images of {cases or 'unknown'} cases at "
        f"{magnifications or 'unknown magnification'}."
    )
    if known := len(card.data.initial_cases):
        words += f" Its initial weights were trained on {format_count(known, 'case')}."
    test = card.metrics.test
    if test:
        named = ("sensitivity", "specificity", "balanced_accuracy")
        tested = card.data.n_images.test  # 0 for a model that was trained on all images.
        where = "Test metrics" if tested else "Case-level cross-validation"
        words += f" {where}: " + "; ".join(
            f"{name.replace('_', ' ')} {_in_words(test.metrics[name])}" for name in named
        )
        words += "."
        scales = [one for one in test.subgroups if one.kind == "magnification"]
        if len(scales) > 1:
            words += " Balanced accuracy at " + "; at ".join(
                f"{one.name} {_in_words(one.metrics['balanced_accuracy'])}" for one in scales
            )
            words += "."
    st.caption(escape(words))
    against = ["The model has not been evaluated."]
    if test:
        checks = test.checks
        against = [check.message for check in checks if check.severity != Severity.INFO]
    if card.data.is_synthetic:
        against.insert(0, describe_synthetic_training(card.data))
    if card.architecture.backbone == "tiny":
        against.insert(0, "The network has three layers and is for test runs only.")
    if against:
        st.warning(listed(against), title="Model limitations")
    with st.expander("Intended use and limits", icon=":material/info:"):
        st.markdown(escape(card.intended_use))
        st.markdown(escape(card.limits))
        for check in check_nested(card):
            st.markdown(escape(check.message))
        st.markdown(
            f"Threshold {bundle.threshold:.2f}: {escape(card.threshold.method)}. "
            f"Temperature: {escape(card.temperature.method)}."
        )


def _in_words(metric: Metric) -> str:
    if metric.value is None:
        return "not defined"
    interval = ""
    if metric.ci_low is not None:
        interval = f", 95 % {metric.ci_low:.2f} to {metric.ci_high:.2f}"
    return f"{metric.value:.2f} ({format_support(metric.n_images, metric.n_cases)}{interval})"
