"""Thumbnails of a dataset, filtered by class, subtype, magnification and case."""

from numbers import Integral
from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.data.summary import images_in_words
from app.components.dataset_cache import Reading
from app.components.layout import escape
from bc_model.data import UNKNOWN_SUBTYPE, cache_dir, make_thumbnail
from bc_model.errors import ImageError

IMAGES_A_PAGE = 24
SIDE_PX = 192
_ALL = "All"


@st.fragment
def draw_gallery(reading: Reading, dataset_name: str) -> None:
    """Draw the filters and one page of thumbnails.

    Each filter offers only values that the filters before it leave, so that no page is empty.
    """
    shown = _filtered(reading.dataset.images)
    st.caption(images_in_words(shown))
    pages = -(-len(shown) // IMAGES_A_PAGE)
    page = st.pagination(pages, key="gallery-page") if pages > 1 else 1
    first = (min(page, pages) - 1) * IMAGES_A_PAGE
    root = reading.dataset.root
    with st.grid(min_column_width=150):
        for row in shown.iloc[first : first + IMAGES_A_PAGE].to_dict("records"):
            with st.container(gap="xxsmall"):
                _draw_image(row, root, dataset_name)
    st.caption("Select a case below an image to classify that image.")


def small_image(path: Path, sha256: str, alt: str, caption: str | None = None) -> None:
    """Draw a thumbnail, or a message if the file is missing."""
    try:
        # Encoded bytes are cached on disk by pixel hash, so that nothing is hashed or scaled again.
        data = make_thumbnail(path, sha256, side_px=SIDE_PX, cache_dir=cache_dir())
    except ImageError as error:
        st.caption(f":material/broken_image: {escape(str(error))}")
        return
    st.image(data, caption=caption, alt=alt, width="stretch")


def _draw_image(row: dict, root: Path, dataset_name: str) -> None:
    path, kind, scale = row["path"], row["class"], row["magnification"]
    name = path.rpartition("/")[2]
    if row["subtype"] != UNKNOWN_SUBTYPE:
        kind += f", {row['subtype'].replace('_', ' ')}"
    small_image(root / path, row["sha256"], alt=f"{name}, {kind}")
    of_case = f"Case {row['case']}" + ("" if pd.isna(scale) else f", {scale}X")
    if st.button(
        of_case if row["case"] else escape(name[:24]),
        key=f"open:{path}",
        type="tertiary",
        help=f"Classify {escape(name)}",
    ):
        st.switch_page("views/diagnose.py", query_params={"image": f"{dataset_name}/{path}"})
    st.caption(kind)


def _filtered(images: pd.DataFrame) -> pd.DataFrame:
    with st.grid(4, min_column_width=140):
        for column in ("class", "subtype", "magnification", "case"):
            values = [_ALL, *sorted(images[column].dropna().unique(), key=_order)]
            chosen = st.selectbox(
                column.capitalize(), values, format_func=_in_words, key=f"gallery-{column}"
            )
            if chosen != _ALL:
                images = images[(images[column] == chosen).fillna(False)]
    return images


def _order(value: object) -> tuple:
    text = str(value)
    return (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)


def _in_words(value: object) -> str:
    if value == "":
        return "unknown"
    return f"{value}X" if isinstance(value, Integral) else str(value).replace("_", " ")
