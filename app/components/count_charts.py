"""Charts of image counts: by subtype, by magnification, by case."""

import altair as alt
import pandas as pd

from bc_model.data.names import CLASSES

CLASS_COLOURS = {"benign": "#7b8a91", "malignant": "#1f8089"}
"""Gray and the accent: the lightness differs, so that color vision is not needed."""

_ROW_PX = 26
_AROUND_PX = 120
"""Height of the legend and the axis, which the height of a chart includes."""
_WORDS_AXIS = alt.Axis(labelLimit=220, labelOverlap=False)


def _by_class() -> alt.Color:
    return alt.Color(
        "class:N",
        title=None,
        scale=alt.Scale(domain=list(CLASSES), range=[CLASS_COLOURS[name] for name in CLASSES]),
        legend=alt.Legend(orient="top"),
    )


def count_bars(table: pd.DataFrame, column: str, title: str, *, paired: bool) -> alt.Chart:
    """Draw the number of images of each value of a column as bars.

    Parameters
    ----------
    table : DataFrame
        The column, class, pictures, cases.
    column, title : str
    paired : bool
        Whether values occur in both classes; each value then has two bars.
    """
    table = table.assign(shown=table[column].astype(str).str.replace("_", " "))
    if not paired:
        both = table["shown"].duplicated(keep=False)
        table["shown"] = table["shown"].where(~both, table["shown"] + ", " + table["class"])
    rows = len(table) if not paired else 2 * table["shown"].nunique()
    return (
        alt.Chart(table)
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            x=alt.X("pictures:Q", title="Images", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y(
                "shown:N", title=None, sort=list(dict.fromkeys(table["shown"])), axis=_WORDS_AXIS
            ),
            yOffset=alt.YOffset("class:N", sort=list(CLASSES)) if paired else alt.Undefined,
            color=_by_class(),
            tooltip=[
                alt.Tooltip("shown:N", title=title),
                alt.Tooltip("class:N", title="Class"),
                alt.Tooltip("pictures:Q", title="Images", format=","),
                alt.Tooltip("cases:Q", title="Cases"),
            ],
        )
        .properties(height=_ROW_PX * rows + _AROUND_PX)
    )


def case_bars(table: pd.DataFrame) -> alt.Chart:
    """Draw the number of images of each case, the largest first.

    Parameters
    ----------
    table : DataFrame
        As `bc_model.data.counts.case_table` returns it.
    """
    ordered = table.sort_values(["class", "pictures"], ascending=[True, False])
    return (
        alt.Chart(ordered.assign(shown=ordered["subtype"].str.replace("_", " ")))
        .mark_bar()
        .encode(
            x=alt.X(
                "case:N",
                title="Case, by class and size",
                sort=list(ordered["case"]),
                axis=alt.Axis(labels=False, ticks=False),
            ),
            y=alt.Y("pictures:Q", title="Images", axis=alt.Axis(tickMinStep=1)),
            color=_by_class(),
            tooltip=[
                alt.Tooltip("case:N", title="Case"),
                alt.Tooltip("shown:N", title="Subtype"),
                alt.Tooltip("pictures:Q", title="Images"),
            ],
        )
        .properties(height=260)
    )


def leak_bars(table: pd.DataFrame) -> alt.Chart:
    """Draw the proportion of test images with a section of their slide in training, by fold file.

    Parameters
    ----------
    table : DataFrame
        fold (words), which ('all' or 'benign'), share (0 to 1), counts (words).
    """
    domain = ["all", "benign"]
    return (
        alt.Chart(table)
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            x=alt.X(
                "share:Q",
                title="Test images with a section of their slide in training",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=alt.Y("fold:N", title=None, sort=None, axis=_WORDS_AXIS),
            yOffset=alt.YOffset("which:N", sort=domain),
            color=alt.Color(
                "which:N",
                title=None,
                scale=alt.Scale(
                    domain=domain, range=[CLASS_COLOURS["malignant"], CLASS_COLOURS["benign"]]
                ),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("fold:N", title="File"),
                alt.Tooltip("which:N", title="Images"),
                alt.Tooltip("share:Q", title="Proportion", format=".1%"),
                alt.Tooltip("counts:N", title="Counts"),
            ],
        )
        .properties(height=2 * _ROW_PX * table["fold"].nunique() + _AROUND_PX)
    )
