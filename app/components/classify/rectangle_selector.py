"""Select a rectangle on an image: a custom component."""

import base64
from pathlib import Path

import numpy as np
import streamlit as st

from bc_model.gradcam import encode_jpeg

_HTML = """
<div class="area" tabindex="0" role="application">
  <img draggable="false"><div class="box" hidden></div>
</div>
"""
_CSS = """
.area { position: relative; cursor: crosshair; touch-action: none; border-radius: 0.5rem;
  overflow: hidden; user-select: none; }
.area:focus-visible { outline: 2px solid #2a8f98; outline-offset: 2px; }
img { display: block; width: 100%; }
.box { position: absolute; border: 2px solid #fff; outline: 2px solid #000;
  box-sizing: border-box; pointer-events: none; }
"""
_component = st.components.v2.component(
    "rectangle_selector",
    html=_HTML,
    css=_CSS,
    js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
)

Rectangle = tuple[float, float, float, float]


def select_rectangle(pixels: np.ndarray, *, alt: str, key: str, version: int) -> Rectangle | None:
    """Show an image on which a rectangle can be dragged, and return it.

    The arrow keys move the rectangle, with Shift they resize it, and Escape removes it.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 3), uint8
        The image at the size of its display.
    alt : str
        Description of the image.
    key : str
        Key of the component.
    version : int
        The rectangle is removed when it changes.

    Returns
    -------
    tuple of float or None
        Left, top, right and bottom side as proportions of the image.
    """
    encoded = base64.b64encode(encode_jpeg(pixels)).decode()
    result = _component(
        data={
            "image": f"data:image/jpeg;base64,{encoded}",
            "alt": alt,
            "label": "Drag a rectangle. Arrow keys move it, Shift resizes, Escape removes it.",
            "version": version,
        },
        key=f"{key}-{version}",
        on_rectangle_change=lambda: None,
    )
    found = result.rectangle
    if not isinstance(found, list) or len(found) != 4:
        return None
    left, top, right, bottom = (min(1.0, max(0.0, float(side))) for side in found)
    return (left, top, right, bottom) if left < right and top < bottom else None
