"""Duplicates and near-duplicates of a dataset: counts, and pairs side by side."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.data.gallery import show_thumbnail
from app.components.dataset_cache import LoadedDataset
from app.components.layout import escape_markdown, make_fragment
from bc_model.data import (
    MAX_DISTANCE,
    Dataset,
    NearDuplicates,
    find_duplicates,
    find_near_duplicates,
    parse_name,
)

PAIRS_PER_PAGE = 6
RELATION_LABELS = {
    "other class": "Different classes",
    "other case": "Different cases",
    "case unknown": "Unknown case",
    "same case": "Same case",
}
_EXACT, _NEAR = "Duplicates", "Near-duplicates"
_DEFINITIONS = {
    _EXACT: "Identical pixels in two files; one file is excluded, or both if their classes differ.",
    _NEAR: f"At most {MAX_DISTANCE} of 64 bits of the image hash differ; no file is excluded.",
}


# The number of pairs is quadratic in the number of images, so the result is cached.
@st.cache_resource(max_entries=8, show_spinner="Comparing images")
def _find_duplicates(folder: str, fingerprint: str, _dataset: Dataset) -> dict[str, NearDuplicates]:
    return {
        _EXACT: find_duplicates(_dataset),
        _NEAR: find_near_duplicates(_dataset.images),
    }


@make_fragment
def show_duplicates(loaded: LoadedDataset) -> None:
    """Show the counts of both kinds, and the pairs of the selected kind."""
    found = _find_duplicates(str(loaded.dataset.root), loaded.fingerprint, loaded.dataset)
    st.dataframe(
        [
            {
                "Kind": kind,
                **{label: duplicates.counts[name] for name, label in RELATION_LABELS.items()},
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
        "Kind", list(found), default=default, key="duplicates-kind", required=True
    )
    kind = kind or default
    st.caption(_DEFINITIONS[kind])
    _show_pairs(loaded, found[kind])


def _show_pairs(loaded: LoadedDataset, duplicates: NearDuplicates) -> None:
    present = [name for name in RELATION_LABELS if duplicates.counts[name]]
    if not present:
        st.info("There are no pairs of this kind.", icon=":material/info:")
        return
    chosen = st.pills(
        "Relation",
        present,
        selection_mode="multi",
        default=present,
        format_func=lambda name: f"{RELATION_LABELS[name]}: {duplicates.counts[name]:,}",
        key=f"duplicates-relation-{'-'.join(present)}",
    )
    pairs = duplicates.pairs[duplicates.pairs["relation"].isin(chosen)]
    n_pages = -(-len(pairs) // PAIRS_PER_PAGE)
    if not n_pages:
        st.caption("Select at least one relation.")
        return
    page = st.pagination(n_pages, key="duplicates-page") if n_pages > 1 else 1
    first = (min(page, n_pages) - 1) * PAIRS_PER_PAGE
    by_path = loaded.dataset.images.set_index("path")["sha256"]
    with st.grid(2, min_column_width=300):
        for pair in pairs.iloc[first : first + PAIRS_PER_PAGE].to_dict("records"):
            with st.container(border=True):
                _show_pair(pair, loaded.dataset.root, by_path)
    n_listed, n_counted = len(duplicates.pairs), sum(duplicates.counts.values())
    if n_listed < n_counted:
        st.caption(f"{n_listed:,} of {n_counted:,} pairs are shown.")


def _show_pair(pair: dict, root: Path, sha256_by_path: pd.Series) -> None:
    relation = RELATION_LABELS[pair["relation"]]
    distance = f", {pair['distance']} bits differ" if pair["distance"] else ""
    st.markdown(f"**{relation}**{distance}")
    with st.grid(2, min_column_width=100, wrap=False):
        for path in (pair["path"], pair["other"]):
            with st.container(gap="xxsmall"):
                name = path.rpartition("/")[2]
                sha256 = sha256_by_path.get(path) or sha256_by_path.get(pair["path"])
                show_thumbnail(root / path, sha256, alt=name)
                st.caption(f"{escape_markdown(name)}  \n{_describe_path(path)}")


def _describe_path(path: str) -> str:
    """Return the class, case and magnification that a path contains."""
    name = parse_name(path.rpartition("/")[2])
    if name is None:
        return escape_markdown(path.rpartition("/")[0]) or "no folder"
    return f"{name.class_name}, case {name.case}, {name.magnification}X"
