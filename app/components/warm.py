"""Load the libraries for the first prediction while the user selects an image."""

import importlib
import threading

import streamlit as st

DELAY_S = 0.3


@st.cache_resource
def warm_up() -> None:
    """Import the imaging and inference libraries in the background, once per server."""
    # Delayed, so that the browser can use the processor to draw the first page.
    timer = threading.Timer(DELAY_S, _import)
    timer.daemon = True
    timer.start()


def _import() -> None:
    for name in ("app.components.answers", "bc_model.serving.engine", "openvino"):
        importlib.import_module(name)
