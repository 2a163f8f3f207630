"""Charts of runs and reports: learning curves, confusion matrix, ROC."""

import altair as alt
import pandas as pd

from bc_model.data.names import CLASSES
from bc_model.evaluation.report import Report

_GREY, _CUT_OFF = "#7b8a91", "#d55e00"
_TEAL = "#1f8089"
_SERIES = {"training": _TEAL, "validation": "#c97b12"}


def learning_curve(history: list[dict], figure: str, title: str) -> alt.LayerChart:
    """Draw one figure of training and validation over the epochs, with the phase boundary."""
    rows = [
        {"epoch": record["epoch"], "part": part, "value": record[prefix + figure]}
        for record in history
        for part, prefix in (("training", ""), ("validation", "val_"))
        if prefix + figure in record
    ]
    frame = pd.DataFrame(rows, columns=["epoch", "part", "value"])
    lines = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=28), strokeWidth=2)
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
        .mark_text(align="left", dx=5, dy=6, color=_GREY)
        .encode(x="epoch:Q", y=alt.value(0), text="label:N")
    )
    return alt.layer(rule, word, lines).properties(height=260)


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
        .mark_line(interpolate="step-after", strokeWidth=2, color=_GREY, point=True)
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


def confusion_chart(report: Report) -> alt.LayerChart:
    """Draw the confusion matrix: counts, and shares of each true class."""
    rows = []
    for truth, counts in zip(CLASSES, report.confusion, strict=True):
        for called, count in zip(CLASSES, counts, strict=True):
            share = count / sum(counts) if sum(counts) else 0.0
            text = f"{count}" if sum(counts) else "none"
            rows.append(
                {
                    "truth": truth,
                    "called": called,
                    "share": share,
                    "count": text,
                    "percent": f"{100 * share:.0f} % of {truth}",
                }
            )
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X(
            "called:N", title="Called", sort=CLASSES, axis=alt.Axis(labelAngle=0, orient="top")
        ),
        y=alt.Y("truth:N", title="Truth", sort=CLASSES),
    )
    ink = alt.condition("datum.share > 0.5", alt.value("#ffffff"), alt.value("#1b2a30"))
    cells = base.mark_rect(cornerRadius=4).encode(
        color=alt.Color(
            "share:Q",
            scale=alt.Scale(domain=[0, 1], range=["#e3eef0", "#0b6e75"]),
            legend=None,
        ),
        tooltip=["truth", "called", "count", "percent"],
    )
    counts = base.mark_text(fontSize=24, fontWeight=600, dy=-8).encode(text="count:N", color=ink)
    shares = base.mark_text(fontSize=12, dy=14).encode(text="percent:N", color=ink)
    return alt.layer(cells, counts, shares).properties(height=300)


def roc_chart(report: Report) -> alt.LayerChart:
    """Draw the ROC curve with the chance line and the point of the cut-off in use."""
    assert report.roc is not None
    curve = pd.DataFrame({"fpr": report.roc.fpr, "tpr": report.roc.tpr})
    curve["order"] = range(len(curve))
    axes = {
        "x": alt.X("fpr:Q", title="1 - specificity", scale=alt.Scale(domain=[0, 1])),
        "y": alt.Y("tpr:Q", title="Sensitivity", scale=alt.Scale(domain=[0, 1])),
    }
    line = (
        alt.Chart(curve).mark_line(strokeWidth=2.5, color="#1f8089").encode(order="order", **axes)
    )
    chance = pd.DataFrame({"fpr": [0, 1], "tpr": [0, 1]})
    diagonal = alt.Chart(chance).mark_line(color=_GREY, strokeDash=[3, 3]).encode(**axes)
    specificity, sensitivity = (
        report.figures[name].value or 0.0 for name in ("specificity", "sensitivity")
    )
    point = pd.DataFrame({"fpr": [1 - specificity], "tpr": [sensitivity]})
    mark = (
        alt.Chart(point)
        .mark_point(size=110, filled=True, color=_CUT_OFF, opacity=1)
        .encode(
            **axes,
            tooltip=[
                alt.Tooltip("fpr:Q", title="1 - specificity", format=".2f"),
                alt.Tooltip("tpr:Q", title="sensitivity", format=".2f"),
            ],
        )
    )
    return alt.layer(diagonal, line, mark).properties(height=300)
