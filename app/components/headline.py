"""The counts that stand above everything else said of a data set, and what was left out of it."""

import pandas as pd
import streamlit as st

from app.components.checks import show_checks
from app.components.readings import Reading
from bc_model.checks import check_from_json
from bc_model.words import many


def draw_headline(reading: Reading) -> None:
    """Draw pictures, cases, magnifications, and what to know before using them."""
    found = reading.found
    with st.grid(4, min_column_width=130):
        st.metric("Pictures", f"{found['pictures']:,}")
        st.metric("Cases", found["cases"] or "unknown")
        st.metric("Benign cases", found["benign_cases"] or "unknown")
        st.metric("Malignant cases", found["malignant_cases"] or "unknown")
    scales = sorted(found["by_magnification"].items(), key=lambda item: int(item[0].rstrip("X")))
    facts = ", ".join(f"{name} {count:,}" for name, count in scales)
    left_out = sum(found["rejected"].values())
    st.caption(f"Magnifications: {facts or 'unknown'}. Files left out: {left_out:,}.")


def draw_notes(reading: Reading) -> None:
    """Draw the checks of the dataset."""
    show_checks(map(check_from_json, reading.found["checks"]))


def draw_left_out(reading: Reading, name: str) -> None:
    """Draw the files that were left out with the reasons, folded away.

    Parameters
    ----------
    reading : Reading
    name : str
        What the downloaded list is called after.
    """
    counts = reading.found["rejected"]
    if not counts:
        return
    words = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    with st.expander(f"{sum(counts.values()):,} files left out: {words}", icon=":material/block:"):
        table = reading.manifest.rejected.sort_values(["reason", "path"])
        table = table[["reason", "path", "detail"]].set_axis(["Reason", "File", "Detail"], axis=1)
        st.dataframe(table, hide_index=True, alt="Files left out with the reason")
        st.download_button(
            "left-out.csv",
            lambda: table.to_csv(index=False),
            file_name=f"{name}-left-out.csv",
            key="save-left-out",
            icon=":material/download:",
        )


def pictures_in_words(rows: pd.DataFrame) -> str:
    """Say how many pictures some rows of a manifest or a split are, and of how many cases."""
    cases = rows.loc[rows["case"] != "", "case"].nunique()
    of = many(cases, "case") if cases or rows.empty else "unknown cases"
    return f"{many(len(rows), 'picture')} of {of}."
