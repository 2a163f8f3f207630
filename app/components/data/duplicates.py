"""Duplicates and near-duplicates of a dataset: counts, and pairs side by side."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.data.gallery import small_image
from app.components.dataset_cache import Reading
from app.components.layout import escape
from bc_model.data import (
    MAX_DISTANCE,
    Dataset,
    NearDuplicates,
    find_duplicates,
    find_near_duplicates,
    parse_name,
    pixel_sha256,
    read_image,
)
from bc_model.errors import ImageError

PAIRS_A_PAGE = 6
RELATION_WORDS = {
    "other class": "Different classes",
    "other case": "Different cases",
    "case unknown": "Unknown case",
    "same case": "Same case",
}
_EXACT, _NEAR = "Duplicates", "Near-duplicates"
_MEANING = {
    _EXACT: "Identical pixels under two names: one image of each pair is excluded, both if their "
    "classes differ.",
    _NEAR: f"At most {MAX_DISTANCE} of 64 bits of the image hash differ; near-duplicates are not "
    "excluded.",
}


# The number of pairs is quadratic in the number of images, so the result is cached.
@st.cache_resource(max_entries=8, show_spinner="Comparing images")
def _duplicates_of(folder: str, fingerprint: str, _dataset: Dataset) -> dict[str, NearDuplicates]:
    return {
        _EXACT: find_duplicates(_dataset),
        _NEAR: find_near_duplicates(_dataset.images),
    }


@st.fragment
def draw_duplicates(reading: Reading) -> None:
    """Draw the counts of both kinds, and the pairs of the selected kind."""
    found = _duplicates_of(str(reading.dataset.root), reading.fingerprint, reading.dataset)
    st.dataframe(
        [
            {
                "Kind": kind,
                **{words: duplicates.counts[name] for name, words in RELATION_WORDS.items()},
            }
            for kind, duplicates in found.items()
        ],
        hide_index=True,
        alt="Pairs of duplicates and near-duplicates, by the relation of their cases",
    )
    if not any(len(duplicates.pairs) for duplicates in found.values()):
        st.success("No duplicates or near-duplicates were found.", icon=":material/verified:")
        return
    default = _NEAR if len(found[_NEAR].pairs) else _EXACT
    kind = st.segmented_control(
        "Kind", list(found), default=default, key="twins-kind", required=True
    )
    kind = kind or default
    st.caption(_MEANING[kind])
    _draw_pairs(reading, found[kind])


def _draw_pairs(reading: Reading, duplicates: NearDuplicates) -> None:
    present = [name for name in RELATION_WORDS if duplicates.counts[name]]
    if not present:
        st.info("There are no pairs of this kind.", icon=":material/info:")
        return
    chosen = st.pills(
        "Relation",
        present,
        selection_mode="multi",
        default=present,
        format_func=lambda name: f"{RELATION_WORDS[name]}: {duplicates.counts[name]:,}",
        key=f"twins-relation-{'-'.join(present)}",
    )
    pairs = duplicates.pairs[duplicates.pairs["relation"].isin(chosen)]
    pages = -(-len(pairs) // PAIRS_A_PAGE)
    if not pages:
        st.caption("Select at least one relation.")
        return
    page = st.pagination(pages, key="twins-page") if pages > 1 else 1
    first = (min(page, pages) - 1) * PAIRS_A_PAGE
    by_path = reading.dataset.images.set_index("path")["sha256"]
    with st.grid(2, min_column_width=300):
        for pair in pairs.iloc[first : first + PAIRS_A_PAGE].to_dict("records"):
            with st.container(border=True):
                _draw_pair(pair, reading.dataset.root, by_path)
    listed, counted = len(duplicates.pairs), sum(duplicates.counts.values())
    if listed < counted:
        st.caption(f"{listed:,} of {counted:,} pairs are shown.")


def _draw_pair(pair: dict, root: Path, sha256_by_path: pd.Series) -> None:
    words = RELATION_WORDS[pair["relation"]]
    distance = f", {pair['distance']} bits differ" if pair["distance"] else ""
    st.markdown(f"**{words}**{distance}")
    with st.grid(2, min_column_width=100, wrap=False):
        for path in (pair["path"], pair["other"]):
            with st.container(gap="xxsmall"):
                name = path.rpartition("/")[2]
                sha256 = sha256_by_path.get(path) or sha256_by_path.get(pair["path"])
                small_image(root / path, sha256 or _hash(root / path), alt=name)
                st.caption(f"{escape(name)}  \n{_said_by(path)}")


def _hash(path: Path) -> str:
    """Return the hash of an image that is not in the index because its labels conflict."""
    try:
        return pixel_sha256(read_image(path))
    except ImageError:
        return "0" * 64  # `small_image` shows the error.


def _said_by(path: str) -> str:
    """Return class, case and magnification of a path in words."""
    name = parse_name(path.rpartition("/")[2])
    if name is None:
        return escape(path.rpartition("/")[0]) or "no folder"
    return f"{name.class_name}, case {name.case}, {name.magnification}X"
