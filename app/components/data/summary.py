"""The contents of a dataset: counts, checks, excluded files, and tables with charts."""

from collections.abc import Callable

import pandas as pd
import streamlit as st
from altair import Chart

from app.components.charts import chart_cases, chart_counts
from app.components.checks import show_checks
from app.components.dataset_cache import LoadedDataset
from bc_model.checks import check_from_json
from bc_model.data import count_images, find_class_revealing_sizes, tabulate_cases
from bc_model.utils import format_count, table_to_csv


def show_counts(loaded: LoadedDataset) -> None:
    """Show the numbers of images, cases and excluded files, and the magnifications."""
    counts = loaded.summary
    with st.grid(4, min_column_width=130):
        st.metric("Images", f"{counts['images']:,}")
        st.metric(
            "Cases", counts["cases"] or "unknown", help="A case: all images with one slide number."
        )
        st.metric("Benign cases", counts["benign_cases"] or "unknown")
        st.metric("Malignant cases", counts["malignant_cases"] or "unknown")
    magnifications = sorted(
        counts["by_magnification"].items(), key=lambda item: int(item[0].rstrip("X"))
    )
    images = ", ".join(f"{name} {count:,}" for name, count in magnifications)
    excluded = sum(counts["excluded"].values())
    st.caption(f"Magnifications: {images or 'unknown'}; excluded files: {excluded:,}.")


def show_dataset_checks(loaded: LoadedDataset) -> None:
    """Show the checks of the dataset."""
    show_checks(map(check_from_json, loaded.summary["checks"]))


def show_excluded(loaded: LoadedDataset, name: str) -> None:
    """Show the excluded files with their reasons, in an expander.

    Parameters
    ----------
    loaded : LoadedDataset
        The dataset.
    name : str
        Name of the dataset, for the file name of the download.
    """
    counts = loaded.summary["excluded"]
    if not counts:
        return
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    with st.expander(
        f"{sum(counts.values()):,} files excluded: {reasons}", icon=":material/block:"
    ):
        table = loaded.dataset.excluded.sort_values(["reason", "path"])
        table = table[["reason", "path", "detail"]].set_axis(["Reason", "File", "Detail"], axis=1)
        st.dataframe(table, hide_index=True, alt="Excluded files with the reason")
        st.download_button(
            "Save excluded.csv",
            lambda: table_to_csv(table),
            file_name=f"{name}-excluded.csv",
            key="save-excluded",
            icon=":material/download:",
            on_click="ignore",
        )


def count_in_words(rows: pd.DataFrame) -> str:
    """Return a sentence with the number of images and cases in rows of an index or a split."""
    n_cases = rows.loc[rows["case"] != "", "case"].nunique()
    cases = format_count(n_cases, "case") if n_cases or rows.empty else "unknown cases"
    return f"{format_count(len(rows), 'image')} of {cases}."


def show_tables(loaded: LoadedDataset) -> None:
    """Show the images and cases by subtype, magnification, case and size."""
    images = loaded.dataset.images
    st.header("By subtype", anchor=False)
    _show_table_and_chart(
        count_images(images, "class", "subtype"),
        lambda table: chart_counts(table, "subtype", "Subtype", paired=False),
        "Images of each subtype",
    )
    st.header("By magnification", anchor=False)
    by_magnification = count_images(images, "magnification", "class")
    _show_table_and_chart(
        by_magnification,
        lambda table: chart_counts(
            table.assign(magnification=table["magnification"].map(_name_magnification)),
            "magnification",
            "Magnification",
            paired=True,
        ),
        "Images of each magnification",
    )
    _show_cases(images)
    _show_sizes(images)


def _show_table_and_chart(
    table: pd.DataFrame, chart: Callable[[pd.DataFrame], Chart], alt: str
) -> None:
    left, right = st.columns(2, gap="large")
    left.dataframe(
        _rename_columns(table),
        hide_index=True,
        placeholder="unknown",
        column_config={"Magnification": st.column_config.NumberColumn(format="%dX")},
        alt=f"{alt}, with cases",
    )
    right.altair_chart(chart(table), alt=f"{alt}, as bars")


def _name_magnification(number: float) -> str:
    return "unknown" if pd.isna(number) else f"{int(number)}X"


def _rename_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with display names of columns and subtypes."""
    shown = table.rename(columns={name: str(name)[:1].upper() + str(name)[1:] for name in table})
    if "Subtype" in shown:
        shown["Subtype"] = shown["Subtype"].str.replace("_", " ")
    return shown


def _show_cases(images: pd.DataFrame) -> None:
    st.header("By case", anchor=False)
    table = tabulate_cases(images)
    if table.empty:
        st.caption(
            "The file names contain no case: a case-level split is not possible, and intervals are "
            "too narrow."
        )
        return
    st.altair_chart(chart_cases(table), alt=f"Images of each of {len(table)} cases, as bars")
    joined = table["group"] != table["case"]
    shown = _rename_columns(table.drop(columns="group"))
    if joined.any():
        shown["Grouped with"] = table["group"].where(joined, "")
    st.dataframe(shown, hide_index=True, alt="Each case with its subtype, sections and images")
    if joined.any():
        st.caption(
            "Cases with duplicate images stay in the same subset of every leakage-free split."
        )


def _show_sizes(images: pd.DataFrame) -> None:
    st.header("By size", anchor=False)
    sizes = count_images(images, "size", "class")
    revealing = find_class_revealing_sizes(images)["size"]
    shown = _rename_columns(sizes).rename(columns={"Size": "Size, px"})
    shown["Size, px"] = shown["Size, px"].str.replace("x", " x ")
    if len(revealing):
        shown["One class only"] = sizes["size"].isin(revealing)
    st.dataframe(shown, hide_index=True, alt="Images of each size and class")
    st.caption(
        "An image size that occurs in one class only can reveal the class, even after resizing."
        if len(revealing)
        else "No image size reveals the class."
    )
