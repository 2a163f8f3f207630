"""Charts of a run: its learning curves."""

import altair as alt
import pandas as pd

_GREY = "#7b8a91"
_TEAL = "#1f8089"
MOST_MARKS = 60
_SERIES = {"training": _TEAL, "validation": "#c97b12"}


def learning_curve(history: list[dict], figure: str, title: str) -> alt.LayerChart:
    """Draw a metric of training and validation over the epochs, with the stage boundary."""
    rows = [
        {"epoch": record["epoch"], "part": part, "value": record[prefix + figure]}
        for record in history
        for part, prefix in (("training", ""), ("validation", "val_"))
        if prefix + figure in record
    ]
    frame = pd.DataFrame(rows, columns=["epoch", "part", "value"])
    lines = (
        alt.Chart(frame)
        .mark_line(point=_points(history), strokeWidth=2)
        .encode(
            x=alt.X(
                "epoch:Q",
                title="Epoch",
                axis=alt.Axis(tickMinStep=1, format="d"),
                scale=alt.Scale(zero=False, nice=False),
            ),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(_SERIES), range=list(_SERIES.values())),
                legend=alt.Legend(orient="top"),
            ),
            strokeDash=alt.StrokeDash(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(_SERIES), range=[[1, 0], [5, 3]]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["epoch", "part", alt.Tooltip("value:Q", format=".3f", title=title)],
        )
    )
    tuned = [record["epoch"] for record in history if record["phase"] == "finetune"]
    if not tuned or min(tuned) == 1:
        return alt.layer(lines).properties(height=260)
    boundary = pd.DataFrame({"epoch": [min(tuned) - 0.5], "label": ["fine-tuning"]})
    rule = alt.Chart(boundary).mark_rule(color=_GREY, strokeDash=[2, 3]).encode(x="epoch:Q")
    word = (
        alt.Chart(boundary)
        .mark_text(align="left", dx=-4, dy=-8, color=_GREY)  # Above the curves.
        .encode(x="epoch:Q", y=alt.value(0), text="label:N")
    )
    return alt.layer(rule, word, lines).properties(height=260)


def _points(history: list[dict]) -> alt.OverlayMarkDef | bool:
    """Return point marks for short histories; in long ones they would overlap."""
    return alt.OverlayMarkDef(size=28) if len(history) <= MOST_MARKS else False


def learning_rate_curve(history: list[dict]) -> alt.Chart:
    """Draw the learning rate over the epochs, on a logarithmic scale."""
    frame = pd.DataFrame(
        [
            {"epoch": r["epoch"], "rate": r["learning_rate"]}
            for r in history
            if "learning_rate" in r
        ],
        columns=["epoch", "rate"],
    )
    return (
        alt.Chart(frame)
        .mark_line(interpolate="step-after", strokeWidth=2, color=_GREY, point=_points(history))
        .encode(
            x=alt.X(
                "epoch:Q",
                title="Epoch",
                axis=alt.Axis(tickMinStep=1, format="d"),
                scale=alt.Scale(zero=False, nice=False),
            ),
            y=alt.Y(
                "rate:Q",
                title="Learning rate",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format=".0e", tickCount=3, grid=False),
            ),
            tooltip=["epoch", alt.Tooltip("rate:Q", format=".1e", title="Learning rate")],
        )
        .properties(height=260)
    )
