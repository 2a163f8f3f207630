"""Choosing a model, and the one loaded engine that all sessions share."""

import streamlit as st

from app.components.frame import escape
from app.places import SHIPPED_MODELS, runs_folder
from bc_model.serving.bundle import Bundle
from bc_model.serving.catalogue import list_bundles
from bc_model.serving.engine import Engine


def choose_model() -> Bundle | None:
    """Draw the picker; None when there is no model yet."""
    bundles, problems = list_bundles(runs_folder(), SHIPPED_MODELS)
    for problem in problems:
        st.warning(escape(problem), title="A model was left out")
    if not bundles:
        return None
    by_name = {bundle.passport["name"]: bundle for bundle in reversed(bundles)}
    names = list(reversed(by_name))
    name = st.selectbox(
        "Model",
        names,
        key="model",
        bind="query-params",
        help="Models of finished runs, newest first.",
    )
    if name not in by_name:
        return None
    st.caption(describe(by_name[name]))
    return by_name[name]


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def _load_engine(bundle_key: str, _bundle: Bundle) -> Engine:
    return Engine(_bundle)


def engine_of(bundle: Bundle) -> Engine:
    """Return the engine of a bundle, loaded once for all sessions."""
    return _load_engine(bundle.key, bundle)


def describe(bundle: Bundle) -> str:
    """Say in two sentences what a model knows and how well it did."""
    passport = bundle.passport
    height, width = bundle.image_size
    magnifications = ", ".join(f"{m}X" for m in passport["scale"]["magnifications"])
    cases = len(passport["data"]["training_cases"])
    text = (
        f"{passport['architecture']['backbone']} on {width} x {height} px, learned from "
        f"{passport['data']['pictures']['train']} pictures of {cases or 'unknown'} cases at "
        f"{magnifications or 'unknown magnification'}."
    )
    figures = passport["metrics"].get("test", {}).get("figures", {})
    figure = figures.get("balanced_accuracy")
    if figure and figure["value"] is not None:
        text += f" Balanced accuracy on its test cases {figure['value']:.2f}"
        if figure["low"] is not None:
            text += f" (95 % interval {figure['low']:.2f} to {figure['high']:.2f})"
        text += f", {figure['n']} pictures of {figure['n_cases']} cases."
    if passport["data"]["leaky"]:
        text += " **Leaky protocol: this figure flatters.**"
    return text
