"""Bring in what the first picture will need while a person still looks for it."""

import importlib
import threading

import streamlit as st

DELAY_S = 0.3


@st.cache_resource
def warm_up() -> None:
    """Import the imaging and inference libraries in the background, once for the whole server."""
    # Not at once: the browser has the first page to draw, and needs the processor for it.
    timer = threading.Timer(DELAY_S, _import)
    timer.daemon = True
    timer.start()


def _import() -> None:
    for name in ("app.components.answers", "bc_model.serving.engine", "openvino"):
        importlib.import_module(name)
