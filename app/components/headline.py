"""The key counts of a dataset, and the files that were excluded from it."""

import pandas as pd
import streamlit as st

from app.components.checks import show_checks
from app.components.readings import Reading
from bc_model.checks import check_from_json
from bc_model.words import many


def draw_headline(reading: Reading) -> None:
    """Draw the numbers of images, cases and excluded files, and the magnifications."""
    found = reading.found
    with st.grid(4, min_column_width=130):
        st.metric("Images", f"{found['pictures']:,}")
        st.metric(
            "Cases", found["cases"] or "unknown", help="A case: all images with one slide number."
        )
        st.metric("Benign cases", found["benign_cases"] or "unknown")
        st.metric("Malignant cases", found["malignant_cases"] or "unknown")
    scales = sorted(found["by_magnification"].items(), key=lambda item: int(item[0].rstrip("X")))
    facts = ", ".join(f"{name} {count:,}" for name, count in scales)
    excluded = sum(found["rejected"].values())
    st.caption(f"Magnifications: {facts or 'unknown'}. Excluded files: {excluded:,}.")


def draw_notes(reading: Reading) -> None:
    """Draw the checks of the dataset."""
    show_checks(map(check_from_json, reading.found["checks"]))


def draw_left_out(reading: Reading, name: str) -> None:
    """Draw the excluded files with their reasons, in an expander.

    Parameters
    ----------
    reading : Reading
    name : str
        Name of the dataset, for the file name of the download.
    """
    counts = reading.found["rejected"]
    if not counts:
        return
    words = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    with st.expander(f"{sum(counts.values()):,} files excluded: {words}", icon=":material/block:"):
        table = reading.manifest.rejected.sort_values(["reason", "path"])
        table = table[["reason", "path", "detail"]].set_axis(["Reason", "File", "Detail"], axis=1)
        st.dataframe(table, hide_index=True, alt="Excluded files with the reason")
        st.download_button(
            "Save excluded.csv",
            lambda: table.to_csv(index=False),
            file_name=f"{name}-excluded.csv",
            key="save-excluded",
            icon=":material/download:",
        )


def pictures_in_words(rows: pd.DataFrame) -> str:
    """Return the number of images and cases in the rows of an index or a split, in words."""
    cases = rows.loc[rows["case"] != "", "case"].nunique()
    of = many(cases, "case") if cases or rows.empty else "unknown cases"
    return f"{many(len(rows), 'image')} of {of}."
