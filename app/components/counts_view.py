"""Pictures of a set by class, subtype, magnification, case and size: tables, with charts beside."""

from collections.abc import Callable

import pandas as pd
import streamlit as st
from altair import Chart

from app.components.count_charts import case_bars, count_bars
from app.components.readings import Reading
from bc_model.data.counts import case_table, count_pictures, size_clues


def draw_counts(reading: Reading) -> None:
    """Draw all counts of a set."""
    pictures = reading.manifest.pictures
    st.header("By subtype", anchor=False)
    _side_by_side(
        count_pictures(pictures, "class", "subtype"),
        lambda table: count_bars(table, "subtype", "Subtype", paired=False),
        "Pictures of each subtype",
    )
    st.header("By magnification", anchor=False)
    by_magnification = count_pictures(pictures, "magnification", "class")
    numbers = by_magnification["magnification"]
    by_magnification["magnification"] = [
        "unknown" if pd.isna(number) else f"{number}X" for number in numbers
    ]
    _side_by_side(
        by_magnification,
        lambda table: count_bars(table, "magnification", "Magnification", paired=True),
        "Pictures of each magnification",
    )
    _draw_cases(pictures)
    _draw_sizes(pictures)


def _side_by_side(table: pd.DataFrame, draw: Callable[[pd.DataFrame], Chart], alt: str) -> None:
    left, right = st.columns(2, gap="large")
    left.dataframe(_titled(table), hide_index=True, alt=f"{alt}, with cases")
    right.altair_chart(draw(table), alt=f"{alt}, as bars")


def _titled(table: pd.DataFrame) -> pd.DataFrame:
    """Give columns and subtypes the form in which they are read."""
    shown = table.rename(columns={name: str(name)[:1].upper() + str(name)[1:] for name in table})
    if "Subtype" in shown:
        shown["Subtype"] = shown["Subtype"].str.replace("_", " ")
    return shown


def _draw_cases(pictures: pd.DataFrame) -> None:
    st.header("By case", anchor=False)
    table = case_table(pictures)
    if table.empty:
        st.caption(
            "The names say no case. A split by case cannot be made, and intervals will be too "
            "narrow."
        )
        return
    st.altair_chart(case_bars(table), alt=f"Pictures of each of {len(table)} cases, as bars")
    joined = table["group"] != table["case"]
    shown = _titled(table.drop(columns="group"))
    if joined.any():
        shown["Kept with"] = table["group"].where(joined, "")
    st.dataframe(shown, hide_index=True, alt="Each case with its subtype, sections and pictures")
    if joined.any():
        st.caption("Cases that hold one picture in common are kept together in every honest split.")


def _draw_sizes(pictures: pd.DataFrame) -> None:
    st.header("By size", anchor=False)
    sizes = count_pictures(pictures, "size", "class")
    clues = size_clues(pictures)["size"]
    shown = _titled(sizes).rename(columns={"Size": "Size, px"})
    shown["Clue"] = ["in one class only" if size in set(clues) else "" for size in sizes["size"]]
    if not len(clues):
        shown = shown.drop(columns="Clue")
    st.dataframe(shown, hide_index=True, alt="Pictures of each size and class")
    st.caption(
        "A size that occurs in one class only tells the class. All pictures are brought to one "
        "size before a model sees them, but sharpness or proportions may still tell."
        if len(clues)
        else "No size gives a class away."
    )
