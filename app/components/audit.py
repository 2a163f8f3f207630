"""What a data folder holds, shown before it is used."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.frame import escape, show_error
from bc_model.data.audit import audit_manifest, folder_fingerprint
from bc_model.data.manifest import Manifest, read_manifest
from bc_model.data.names import CLASSES
from bc_model.data.splits import count_leaks, make_split, summarise_parts
from bc_model.errors import BcModelError

FEW_CASES = 3


@st.cache_data(max_entries=8, show_spinner="Reading the pictures")
def _manifest(folder: str, fingerprint: str) -> Manifest:
    return read_manifest(Path(folder))


def draw_audit(
    folder: Path, protocol: str, n_folds: int, *, fold: int = 0, seed: int = 0
) -> dict[str, dict[str, int]] | None:
    """Draw what a folder holds and how it would be split.

    Returns
    -------
    dict or None
        As `summarise_parts` counts; None when it cannot be trained on.
    """
    try:
        manifest = _manifest(str(folder), folder_fingerprint(folder))
    except (BcModelError, OSError) as error:
        show_error(error, title="This folder cannot be used")
        return None
    _draw_counts(audit_manifest(manifest))
    try:
        split = make_split(manifest, protocol, n_folds=n_folds, fold=fold, seed=seed)
    except BcModelError as error:
        show_error(error, title="This data cannot be split so")
        return None
    parts = summarise_parts(split)
    _draw_parts(parts)
    leak = count_leaks(split)
    if leak.test_pictures:
        st.caption(
            f":material/warning: Leak: {leak.test_pictures} of {leak.n_test} test pictures have "
            "their case in training, too."
        )
    return parts


def _draw_parts(parts: dict[str, dict[str, int]]) -> None:
    words = "; ".join(
        f"{part} {counts['pictures']} pictures"
        + (
            f" ({counts['benign_cases']} benign and {counts['malignant_cases']} malignant cases)"
            if counts["cases"]
            else ""
        )
        for part, counts in parts.items()
    )
    st.caption(f"Split: {words}.")
    few = min(parts[part][f"{c}_cases"] for part in ("validation", "test") for c in CLASSES)
    if 0 < few < FEW_CASES:
        st.caption(
            f":material/info: A part with {few} {'case' if few == 1 else 'cases'} of a class: the "
            "choice of the best epoch and the test figures hang on very few patients."
        )


def _draw_counts(found: dict) -> None:
    pictures, cases, benign, malignant = st.columns(4)
    pictures.metric("Pictures", f"{found['pictures']:,}")
    cases.metric("Cases", found["cases"] or "unknown")
    benign.metric("Benign cases", found["benign_cases"] or "unknown")
    malignant.metric("Malignant cases", found["malignant_cases"] or "unknown")
    facts = ", ".join(f"{name} {count}" for name, count in found["by_magnification"].items())
    left_out = sum(found["rejected"].values())
    st.caption(f"Magnifications: {facts or 'unknown'}. Files left out: {left_out}.")
    if left_out:
        with st.expander(f"{left_out} files left out, and why"):
            st.dataframe(
                pd.DataFrame(found["rejected_files"]),
                hide_index=True,
                alt="Files left out with the reason",
            )
    for sentence in found["warnings"]:
        st.caption(f":material/info: {escape(sentence)}")
