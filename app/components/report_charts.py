"""Charts of a report: confusion, ROC, precision-recall, subgroups, reliability."""

import altair as alt
import pandas as pd

from bc_model.data.names import CLASSES
from bc_model.evaluation.by_case import Confusion
from bc_model.evaluation.by_group import Group
from bc_model.evaluation.reliability import Reliability
from bc_model.evaluation.report import Report

_GREY, _THRESHOLD, _TEAL = "#7b8a91", "#d55e00", "#1f8089"
# Each theme has its own color ramp; the text color follows the luminance of the cell.
_SHADE = alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], range="ramp"), legend=None)
_INK = alt.condition(
    "luminance(scale('color', datum.share)) < 0.179", alt.value("#ffffff"), alt.value("#000000")
)
_PREDICTED = alt.X(
    "predicted:N", title="Predicted class", sort=CLASSES, axis=alt.Axis(labelAngle=0, orient="top")
)
_GROUP_ROW_PX = 34


def majority_baseline(base_rate: float) -> tuple[str, float]:
    """Return the majority class and the accuracy of always predicting it."""
    return ("malignant", base_rate) if base_rate >= 0.5 else ("benign", 1 - base_rate)


def confusion_chart(confusion: Confusion) -> alt.LayerChart:
    """Draw a confusion matrix with counts and proportions of each true class."""
    rows = [
        cell | {"percent": f"{100 * cell['share']:.0f} % of {cell['truth']}"}
        for cell in _cells(confusion)
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=_PREDICTED, y=alt.Y("truth:N", title="True class", sort=CLASSES)
    )
    cells = base.mark_rect(cornerRadius=4).encode(
        color=_SHADE, tooltip=["truth", "predicted", "count", "percent"]
    )
    counts = base.mark_text(fontSize=24, fontWeight=600, dy=-8).encode(text="count:N", color=_INK)
    shares = base.mark_text(fontSize=12, dy=14).encode(text="percent:N", color=_INK)
    return alt.layer(cells, counts, shares).properties(height=260)


def confusion_in_words(confusion: Confusion) -> str:
    """Return a confusion matrix in words, as the text alternative of its chart."""
    (tn, fp), (fn, tp) = confusion
    return (
        f"Benign: {tn} predicted benign, {fp} malignant. Malignant: {fn} predicted benign, "
        f"{tp} malignant."
    )


def group_chart(groups: list[Group]) -> alt.LayerChart:
    """Draw the confusion matrix of each group, with a row for each true class."""
    rows = []
    for group in groups:
        found = [cell for cell in _cells(group.confusion) if cell["count"] != "none"]
        is_mixed = len(found) > len(CLASSES)
        for cell in found:
            name = f"{group.name}, {cell['truth']}" if is_mixed else group.name
            text = f"{cell['count']} ({100 * cell['share']:.0f} %)"
            rows.append(cell | {"group": name, "text": text})
    order = list(dict.fromkeys(row["group"] for row in rows))
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=_PREDICTED, y=alt.Y("group:N", title=None, sort=order, axis=alt.Axis(labelLimit=220))
    )
    cells = base.mark_rect(cornerRadius=3).encode(
        color=_SHADE, tooltip=["group", "truth", "predicted", "text"]
    )
    words = base.mark_text(fontSize=13).encode(text="text:N", color=_INK)
    return alt.layer(cells, words).properties(height=90 + _GROUP_ROW_PX * len(order))


def roc_chart(report: Report) -> alt.LayerChart:
    """Draw the ROC curve with the chance line and the point of the current threshold."""
    assert report.roc is not None
    curve = pd.DataFrame({"x": report.roc.fpr, "y": report.roc.tpr})
    specificity, sensitivity = (
        report.figures[name].value or 0.0 for name in ("specificity", "sensitivity")
    )
    chance = pd.DataFrame({"x": [0, 1], "y": [0, 1]})
    point = (1 - specificity, sensitivity)
    return _curve(curve, chance, point, "1 - specificity", "Sensitivity")


def pr_chart(report: Report) -> alt.LayerChart:
    """Draw precision over sensitivity, with the base rate as the chance line."""
    assert report.pr is not None
    curve = pd.DataFrame({"x": report.pr.recall, "y": report.pr.precision})
    chance = pd.DataFrame({"x": [0, 1], "y": [report.base_rate] * 2})
    (_, fp), (_, tp) = report.confusion
    point = (report.figures["sensitivity"].value or 0.0, tp / (tp + fp)) if tp + fp else None
    return _curve(curve, chance, point, "Sensitivity", "Precision")


def reliability_chart(found: Reliability) -> alt.LayerChart:
    """Draw the proportion of malignant images over the mean probability of each bin."""
    rows = pd.DataFrame(
        [
            {
                "probability": one.mean_prob,
                "malignant": one.observed.value,
                "low": one.observed.low,
                "high": one.observed.high,
                "images": one.observed.n,
                "cases": str(one.observed.n_cases or "unknown"),
            }
            for one in found.bins
        ]
    )
    x = _axis("probability", "Estimated probability of malignancy")
    y = _axis("malignant", "Proportion of malignant images", alt.Y)
    ends = pd.DataFrame({"probability": [0, 1], "malignant": [0, 1]})
    diagonal = alt.Chart(ends).mark_line(color=_GREY, strokeDash=[3, 3]).encode(x=x, y=y)
    base = alt.Chart(rows).encode(x=x)
    bars = base.mark_rule(strokeWidth=2, color=_TEAL).encode(y=alt.Y("low:Q"), y2="high:Q")
    dots = base.mark_point(filled=True, color=_TEAL, opacity=1).encode(
        y=y,
        size=alt.Size("images:Q", legend=None, scale=alt.Scale(range=[40, 260])),
        tooltip=[
            *(
                alt.Tooltip(f"{name}:Q", format=".2f")
                for name in ("probability", "malignant", "low", "high")
            ),
            "images",
            "cases",
        ],
    )
    return alt.layer(diagonal, bars, dots).properties(height=340)


def _curve(
    curve: pd.DataFrame,
    chance: pd.DataFrame,
    point: tuple[float, float] | None,
    x_title: str,
    y_title: str,
) -> alt.LayerChart:
    axes = {"x": _axis("x", x_title), "y": _axis("y", y_title, alt.Y)}
    ordered = alt.Chart(curve.assign(order=range(len(curve))))
    line = ordered.mark_line(strokeWidth=2.5, color=_TEAL).encode(order="order", **axes)
    diagonal = alt.Chart(chance).mark_line(color=_GREY, strokeDash=[3, 3]).encode(**axes)
    if point is None:
        return alt.layer(diagonal, line).properties(height=300)
    mark = (
        alt.Chart(pd.DataFrame([point], columns=["x", "y"]))
        .mark_point(size=110, filled=True, color=_THRESHOLD, opacity=1)
        .encode(
            **axes,
            tooltip=[
                alt.Tooltip("x:Q", title=x_title, format=".2f"),
                alt.Tooltip("y:Q", title=y_title, format=".2f"),
            ],
        )
    )
    return alt.layer(diagonal, line, mark).properties(height=300)


def _axis(name: str, title: str, kind: type[alt.X | alt.Y] = alt.X) -> alt.X | alt.Y:
    return kind(f"{name}:Q", title=title, scale=alt.Scale(domain=[0, 1]))


def _cells(confusion: Confusion) -> list[dict]:
    return [
        {
            "truth": truth,
            "predicted": predicted,
            "share": count / sum(counts) if sum(counts) else 0.0,
            "count": f"{count}" if sum(counts) else "none",
        }
        for truth, counts in zip(CLASSES, confusion, strict=True)
        for predicted, count in zip(CLASSES, counts, strict=True)
    ]
