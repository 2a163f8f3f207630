"""The key counts of a dataset, and the files that were excluded from it."""

from collections.abc import Callable

import pandas as pd
import streamlit as st
from altair import Chart

from app.components.charts import case_bars, count_bars
from app.components.checks import show_checks
from app.components.dataset_cache import Reading
from bc_model.checks import check_from_json
from bc_model.data import count_images, find_class_revealing_sizes, tabulate_cases
from bc_model.utils import many


def draw_headline(reading: Reading) -> None:
    """Draw the numbers of images, cases and excluded files, and the magnifications."""
    found = reading.found
    with st.grid(4, min_column_width=130):
        st.metric("Images", f"{found['images']:,}")
        st.metric(
            "Cases", found["cases"] or "unknown", help="A case: all images with one slide number."
        )
        st.metric("Benign cases", found["benign_cases"] or "unknown")
        st.metric("Malignant cases", found["malignant_cases"] or "unknown")
    scales = sorted(found["by_magnification"].items(), key=lambda item: int(item[0].rstrip("X")))
    facts = ", ".join(f"{name} {count:,}" for name, count in scales)
    excluded = sum(found["excluded"].values())
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
    counts = reading.found["excluded"]
    if not counts:
        return
    words = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    with st.expander(f"{sum(counts.values()):,} files excluded: {words}", icon=":material/block:"):
        table = reading.dataset.excluded.sort_values(["reason", "path"])
        table = table[["reason", "path", "detail"]].set_axis(["Reason", "File", "Detail"], axis=1)
        st.dataframe(table, hide_index=True, alt="Excluded files with the reason")
        st.download_button(
            "Save excluded.csv",
            lambda: table.to_csv(index=False),
            file_name=f"{name}-excluded.csv",
            key="save-excluded",
            icon=":material/download:",
        )


def images_in_words(rows: pd.DataFrame) -> str:
    """Return the number of images and cases in the rows of an index or a split, in words."""
    cases = rows.loc[rows["case"] != "", "case"].nunique()
    of = many(cases, "case") if cases or rows.empty else "unknown cases"
    return f"{many(len(rows), 'image')} of {of}."


def draw_counts(reading: Reading) -> None:
    """Draw all counts of a dataset."""
    images = reading.dataset.images
    st.header("By subtype", anchor=False)
    _side_by_side(
        count_images(images, "class", "subtype"),
        lambda table: count_bars(table, "subtype", "Subtype", paired=False),
        "Images of each subtype",
    )
    st.header("By magnification", anchor=False)
    by_magnification = count_images(images, "magnification", "class")
    _side_by_side(
        by_magnification,
        lambda table: count_bars(
            table.assign(magnification=table["magnification"].map(_name_magnification)),
            "magnification",
            "Magnification",
            paired=True,
        ),
        "Images of each magnification",
    )
    _draw_cases(images)
    _draw_sizes(images)


def _side_by_side(table: pd.DataFrame, draw: Callable[[pd.DataFrame], Chart], alt: str) -> None:
    left, right = st.columns(2, gap="large")
    left.dataframe(
        _titled(table),
        hide_index=True,
        placeholder="unknown",
        column_config={"Magnification": st.column_config.NumberColumn(format="%dX")},
        alt=f"{alt}, with cases",
    )
    right.altair_chart(draw(table), alt=f"{alt}, as bars")


def _name_magnification(number: float) -> str:
    return "unknown" if pd.isna(number) else f"{int(number)}X"


def _titled(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with display names of columns and subtypes."""
    shown = table.rename(columns={name: str(name)[:1].upper() + str(name)[1:] for name in table})
    shown = shown.rename(columns={"Pictures": "Images"})
    if "Subtype" in shown:
        shown["Subtype"] = shown["Subtype"].str.replace("_", " ")
    return shown


def _draw_cases(images: pd.DataFrame) -> None:
    st.header("By case", anchor=False)
    table = tabulate_cases(images)
    if table.empty:
        st.caption(
            "The file names contain no case. A case-level split is not possible, and intervals are "
            "too narrow."
        )
        return
    st.altair_chart(case_bars(table), alt=f"Images of each of {len(table)} cases, as bars")
    joined = table["group"] != table["case"]
    shown = _titled(table.drop(columns="group"))
    if joined.any():
        shown["Grouped with"] = table["group"].where(joined, "")
    st.dataframe(shown, hide_index=True, alt="Each case with its subtype, sections and images")
    if joined.any():
        st.caption(
            "Cases with duplicate images stay in the same subset of every leakage-free split."
        )


def _draw_sizes(images: pd.DataFrame) -> None:
    st.header("By size", anchor=False)
    sizes = count_images(images, "size", "class")
    clues = find_class_revealing_sizes(images)["size"]
    shown = _titled(sizes).rename(columns={"Size": "Size, px"})
    if len(clues):
        shown["One class only"] = sizes["size"].isin(clues)
    st.dataframe(shown, hide_index=True, alt="Images of each size and class")
    st.caption(
        "An image size that occurs in one class only can reveal the class, even after resizing."
        if len(clues)
        else "No image size reveals the class."
    )
