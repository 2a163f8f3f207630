"""Bring in what the first picture will need while a person still looks for it."""

import importlib
import threading

import streamlit as st


@st.cache_resource
def warm_up() -> None:
    """Import the imaging libraries in the background, once for the whole server."""
    name = "app.components.answers"
    threading.Thread(target=importlib.import_module, args=(name,), daemon=True).start()
