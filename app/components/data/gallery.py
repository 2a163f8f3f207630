"""Thumbnails of a dataset, filtered by class, subtype, magnification and case."""

from numbers import Integral
from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.data.summary import count_in_words
from app.components.dataset_cache import LoadedDataset
from app.components.decoding import decode_image
from app.components.layout import escape_markdown, make_fragment
from bc_model.data import UNKNOWN_SUBTYPE, cache_dir, make_thumbnail, pixel_sha256, read_image
from bc_model.errors import BusyError, ImageError

IMAGES_PER_PAGE = 24
SIDE_PX = 192
_ALL = "All"


@make_fragment
def show_gallery(loaded: LoadedDataset, dataset_name: str) -> None:
    """Show the filters and one page of thumbnails; each filter narrows the ones after it."""
    shown = _filter_images(loaded.dataset.images)
    st.caption(f"{count_in_words(shown)} Select a case to classify its image.")
    n_pages = -(-len(shown) // IMAGES_PER_PAGE)
    page = st.pagination(n_pages, key="gallery-page") if n_pages > 1 else 1
    first = (min(page, n_pages) - 1) * IMAGES_PER_PAGE
    root = loaded.dataset.root
    with st.grid(min_column_width=150):
        for row in shown.iloc[first : first + IMAGES_PER_PAGE].to_dict("records"):
            with st.container(gap="xxsmall"):
                _show_image(row, root, dataset_name)


def show_thumbnail(path: Path, sha256: str | None, alt: str, caption: str | None = None) -> None:
    """Show a thumbnail, or a message if the file is missing.

    `sha256` is None for an image that is not in the index, because its labels conflict.
    """
    try:
        sha256 = sha256 or pixel_sha256(read_image(path, decode=decode_image))
        # Encoded bytes are cached on disk by pixel hash, so that nothing is hashed or scaled again.
        data = make_thumbnail(
            path, sha256, side_px=SIDE_PX, cache_dir=cache_dir(), decode=decode_image
        )
    except (ImageError, BusyError) as error:
        st.caption(f":material/broken_image: {escape_markdown(str(error))}")
        return
    st.image(data, caption=caption, alt=alt, width="stretch")


def _show_image(row: dict, root: Path, dataset_name: str) -> None:
    path, label, magnification = row["path"], row["class"], row["magnification"]
    name = path.rpartition("/")[2]
    if row["subtype"] != UNKNOWN_SUBTYPE:
        label += f", {row['subtype'].replace('_', ' ')}"
    show_thumbnail(root / path, row["sha256"], alt=f"{name}, {label}")
    case = f"Case {row['case']}" + ("" if pd.isna(magnification) else f", {magnification}X")
    if st.button(
        case if row["case"] else escape_markdown(name[:24]),
        key=f"open:{path}",
        type="tertiary",
        help=f"Classify {escape_markdown(name)}",
    ):
        st.switch_page("views/classify.py", query_params={"image": f"{dataset_name}/{path}"})
    st.caption(label)


def _filter_images(images: pd.DataFrame) -> pd.DataFrame:
    with st.grid(4, min_column_width=140):
        for column in ("class", "subtype", "magnification", "case"):
            values = [_ALL, *sorted(images[column].dropna().unique(), key=_sort_key)]
            chosen = st.selectbox(
                column.capitalize(), values, format_func=_format_value, key=f"gallery-{column}"
            )
            if chosen != _ALL:
                images = images[(images[column] == chosen).fillna(False)]
    return images


def _sort_key(value: object) -> tuple:
    text = str(value)
    return (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)


def _format_value(value: object) -> str:
    if value == "":
        return "unknown"
    return f"{value}X" if isinstance(value, Integral) else str(value).replace("_", " ")
