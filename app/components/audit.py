"""What a data folder holds, shown before it is used."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.frame import escape, show_error
from bc_model.data.audit import audit_manifest, folder_fingerprint
from bc_model.data.manifest import read_manifest
from bc_model.data.names import CLASSES
from bc_model.errors import BcModelError


@st.cache_data(max_entries=16, show_spinner="Reading the pictures")
def _audit(folder: str, fingerprint: str) -> dict:
    return audit_manifest(read_manifest(Path(folder)))


def draw_audit(folder: Path) -> bool:
    """Draw the counts of a folder; False when it cannot be trained on."""
    try:
        found = _audit(str(folder), folder_fingerprint(folder))
    except BcModelError as error:
        show_error(error, title="This folder cannot be used")
        return False
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
    if missing := [name for name in CLASSES if name not in found["by_class"]]:
        st.error(
            f"There is no {missing[0]} picture in this folder; a classifier needs both classes.",
            title="One class only",
        )
        return False
    return True
