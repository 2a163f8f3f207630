"""Altair charts: learning curves, evaluation reports, datasets, folds and split protocols.

Functions turn results of the library into charts. They do not compute metrics.
"""

from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from bc_model.data import CLASSES
from bc_model.evaluation import (
    MAX_PLAUSIBLE,
    CalibrationResult,
    Confusion,
    EvaluationReport,
    Faithfulness,
    PublishedRange,
    Subgroup,
    majority_baseline,
)
from bc_model.experiments import ProtocolRow
from bc_model.inference import SelectivePoint, ViewSpread
from bc_model.reporting import format_support

GRAY, TEAL, ORANGE = "#7b8a91", "#1f8089", "#c97b12"
# The palette of Okabe and Ito, with a lighter blue for the dark theme. Dashes and shapes repeat
# the colors for readers with a color vision deficiency.
BLUE, VERMILION, GREEN, PINK = "#2b87cf", "#d55e00", "#009e73", "#cc79a7"
CLASS_COLORS = {"benign": GRAY, "malignant": TEAL}
"""The lightness of both colors differs, so that color vision is not needed."""
CHART_HEIGHT_PX = 260
BAR_HEIGHT_PX = 26
LEGEND_AND_AXIS_PX = 120
"""Height of the legend and the axis, which the height of a chart includes."""
_LABEL_AXIS = alt.Axis(labelLimit=220, labelOverlap=False)
_TOP_LEGEND = alt.Legend(orient="top")
_LINE_LEGEND = alt.Legend(orient="top", symbolType="stroke", symbolSize=300)


MAX_EPOCHS_WITH_POINTS = 60
_SUBSET_COLORS = {"training": TEAL, "validation": ORANGE}
_RUN_COLORS = (BLUE, VERMILION, GREEN, PINK)
_RUN_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
_RUN_CHART_HEIGHT_PX = 280
_MIN_LABEL_GAP = 0.08
"""Proportion of the value range between the labels of curves that end together."""


def chart_learning_curve(history: list[dict], metric: str, title: str) -> alt.LayerChart:
    """Chart a metric of training and validation over the epochs, with the stage boundary."""
    rows = [
        {"epoch": record["epoch"], "subset": subset, "value": record[prefix + metric]}
        for record in history
        for subset, prefix in (("training", ""), ("validation", "val_"))
        if prefix + metric in record
    ]
    lines = (
        alt.Chart(pd.DataFrame(rows, columns=["epoch", "subset", "value"]))
        .mark_line(point=_points(history), strokeWidth=2)
        .encode(
            x=_epoch_axis(),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=_category(alt.Color, "subset", _SUBSET_COLORS, _LINE_LEGEND),
            strokeDash=_category(
                alt.StrokeDash,
                "subset",
                {"training": [1, 0], "validation": [5, 3]},
                _LINE_LEGEND,
            ),
            tooltip=["epoch", "subset", alt.Tooltip("value:Q", format=".3f", title=title)],
        )
    )
    tuned = [record["epoch"] for record in history if record["phase"] == "finetune"]
    if not tuned or min(tuned) == 1:
        return alt.layer(lines).properties(height=CHART_HEIGHT_PX)
    boundary = pd.DataFrame({"epoch": [min(tuned) - 0.5], "label": ["fine-tuning"]})
    rule = alt.Chart(boundary).mark_rule(color=GRAY, strokeDash=[2, 3]).encode(x="epoch:Q")
    label = (
        alt.Chart(boundary)
        .mark_text(align="left", dx=-4, dy=-8, color=GRAY)  # Above the curves.
        .encode(x="epoch:Q", y=alt.value(0), text="label:N")
    )
    return alt.layer(rule, label, lines).properties(height=CHART_HEIGHT_PX)


def chart_learning_rate(history: list[dict]) -> alt.Chart:
    """Chart the learning rate over the epochs, on a logarithmic scale."""
    rows = [
        {"epoch": record["epoch"], "rate": record["learning_rate"]}
        for record in history
        if "learning_rate" in record
    ]
    return (
        alt.Chart(pd.DataFrame(rows, columns=["epoch", "rate"]))
        .mark_line(interpolate="step-after", strokeWidth=2, color=GRAY, point=_points(history))
        .encode(
            x=_epoch_axis(),
            y=alt.Y(
                "rate:Q",
                title="Learning rate",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format=".0e", tickCount=3, grid=False),
            ),
            tooltip=["epoch", alt.Tooltip("rate:Q", format=".1e", title="Learning rate")],
        )
        .properties(height=CHART_HEIGHT_PX)
    )


def chart_runs(
    histories: dict[str, list[dict]], metric: str, title: str, letters: list[str]
) -> alt.LayerChart:
    """Chart a metric of several runs over the epochs, with a letter at the end of each curve.

    Parameters
    ----------
    histories : dict of str to list of dict
        Run name to its epochs, at most four runs.
    metric : str
        Key of the epochs, such as 'val_loss'.
    title : str
        Title of the vertical axis.
    letters : list of str
        One for each run, in the same order.
    """
    names = dict(zip(histories, letters, strict=True))
    rows = [
        {"epoch": record["epoch"], "run": names[run], "name": run, "value": record[metric]}
        for run, history in histories.items()
        for record in history
        if metric in record
    ]
    frame = pd.DataFrame(rows, columns=["epoch", "run", "name", "value"])
    x = _epoch_axis(padding=12)
    color = _category(alt.Color, "run", dict(zip(letters, _RUN_COLORS, strict=False)))
    lines = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=22), strokeWidth=2)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=color,
            strokeDash=_category(
                alt.StrokeDash, "run", dict(zip(letters, _RUN_DASHES, strict=False))
            ),
            tooltip=[
                alt.Tooltip("name:N", title="Run"),
                alt.Tooltip("epoch:Q", title="Epoch"),
                alt.Tooltip("value:Q", format=".3f", title=title),
            ],
        )
    )
    labels = (
        alt.Chart(_place_labels(frame))
        .mark_text(align="left", dx=5, dy=-8, fontSize=14, fontWeight=700)
        .encode(x=x, y=alt.Y("label:Q"), text="run:N", color=color)
    )
    return alt.layer(lines, labels).properties(height=_RUN_CHART_HEIGHT_PX)


def _place_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last point of each run, with `label` moved up to avoid overlaps."""
    ends = frame.sort_values("epoch").groupby("run").tail(1).sort_values("value")
    gap = _MIN_LABEL_GAP * (frame["value"].max() - frame["value"].min())
    # Only letters with similar horizontal positions can overlap.
    near = 0.05 * max(1, ends["epoch"].max() - frame["epoch"].min()) if len(ends) else 0
    placed: list[tuple[float, float]] = []
    for epoch, value in zip(ends["epoch"], ends["value"], strict=True):
        neighbors = [label for other, label in placed if abs(other - epoch) <= near]
        placed.append((epoch, max(value, max(neighbors, default=value - gap) + gap)))
    return ends.assign(label=[label for _, label in placed])


def _points(history: list[dict]) -> alt.OverlayMarkDef | bool:
    """Return point marks for short histories; in long ones they would overlap."""
    return alt.OverlayMarkDef(size=28) if len(history) <= MAX_EPOCHS_WITH_POINTS else False


def _epoch_axis(**scale: Any) -> alt.X:
    return alt.X(
        "epoch:Q",
        title="Epoch",
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(zero=False, nice=False, **scale),
    )


def _category(
    channel: Any, field: str, values: dict[str, Any], legend: alt.Legend | None = None
) -> Any:
    """Return a channel that maps each value of a field to a color, dash or shape."""
    scale = alt.Scale(domain=list(values), range=list(values.values()))
    return channel(f"{field}:N", title=None, scale=scale, legend=legend)


# Each theme has its own color ramp; the text color follows the luminance of the cell.
_CELL_COLOR = alt.Color("proportion:Q", scale=alt.Scale(domain=[0, 1], range="ramp"), legend=None)
_CELL_TEXT_COLOR = alt.condition(
    "luminance(scale('color', datum.proportion)) < 0.179",
    alt.value("#ffffff"),
    alt.value("#000000"),
)
_PREDICTED_AXIS = alt.X(
    "predicted:N", title="Predicted class", sort=CLASSES, axis=alt.Axis(labelAngle=0, orient="top")
)
_GROUP_HEIGHT_PX = 34


def chart_confusion(confusion: Confusion) -> alt.LayerChart:
    """Chart a confusion matrix with counts and proportions of each true class."""
    rows = [
        cell | {"percent": f"{100 * cell['proportion']:.0f} % of {cell['truth']}"}
        for cell in _list_cells(confusion)
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=_PREDICTED_AXIS, y=alt.Y("truth:N", title="True class", sort=CLASSES)
    )
    cells = base.mark_rect(cornerRadius=4).encode(
        color=_CELL_COLOR, tooltip=["truth", "predicted", "count", "percent"]
    )
    counts = base.mark_text(fontSize=24, fontWeight=600, dy=-8).encode(
        text="count:N", color=_CELL_TEXT_COLOR
    )
    proportions = base.mark_text(fontSize=12, dy=14).encode(
        text="percent:N", color=_CELL_TEXT_COLOR
    )
    return alt.layer(cells, counts, proportions).properties(height=CHART_HEIGHT_PX)


def describe_confusion(confusion: Confusion) -> str:
    """Return a confusion matrix as a sentence, the text alternative of its chart."""
    (tn, fp), (fn, tp) = confusion
    return (
        f"Benign: {tn} predicted benign, {fp} malignant. Malignant: {fn} predicted benign, "
        f"{tp} malignant."
    )


def chart_groups(groups: list[Subgroup]) -> alt.LayerChart:
    """Chart the confusion matrix of each group, with a row for each true class."""
    rows = []
    for group in groups:
        cells = [cell for cell in _list_cells(group.confusion) if cell["count"] != "none"]
        has_both_classes = len(cells) > len(CLASSES)
        for cell in cells:
            name = f"{group.name}, {cell['truth']}" if has_both_classes else group.name
            text = f"{cell['count']} ({100 * cell['proportion']:.0f} %)"
            rows.append(cell | {"group": name, "text": text})
    order = list(dict.fromkeys(row["group"] for row in rows))
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=_PREDICTED_AXIS,
        y=alt.Y("group:N", title=None, sort=order, axis=alt.Axis(labelLimit=220)),
    )
    shades = base.mark_rect(cornerRadius=3).encode(
        color=_CELL_COLOR, tooltip=["group", "truth", "predicted", "text"]
    )
    texts = base.mark_text(fontSize=13).encode(text="text:N", color=_CELL_TEXT_COLOR)
    return alt.layer(shades, texts).properties(height=90 + _GROUP_HEIGHT_PX * len(order))


def chart_roc(report: EvaluationReport) -> alt.LayerChart:
    """Chart the ROC curve with the chance line and the point of the current threshold."""
    assert report.roc is not None
    curve = pd.DataFrame({"x": report.roc.fpr, "y": report.roc.tpr})
    specificity, sensitivity = (
        report.metrics[name].value or 0.0 for name in ("specificity", "sensitivity")
    )
    chance = pd.DataFrame({"x": [0, 1], "y": [0, 1]})
    point = (1 - specificity, sensitivity)
    return _chart_curve(curve, chance, point, "1 - specificity", "Sensitivity")


def chart_precision_recall(report: EvaluationReport) -> alt.LayerChart:
    """Chart precision over sensitivity, with the malignant proportion as the chance line."""
    assert report.pr is not None
    curve = pd.DataFrame({"x": report.pr.recall, "y": report.pr.precision})
    chance = pd.DataFrame({"x": [0, 1], "y": [report.malignant_proportion] * 2})
    (_, fp), (_, tp) = report.confusion
    point = (report.metrics["sensitivity"].value or 0.0, tp / (tp + fp)) if tp + fp else None
    return _chart_curve(curve, chance, point, "Sensitivity", "Precision")


def chart_reliability(reliability: CalibrationResult) -> alt.LayerChart:
    """Chart the proportion of malignant images over the mean probability of each bin."""
    rows = pd.DataFrame(
        [
            {
                "probability": bin_.mean_prob,
                "malignant": bin_.observed.value,
                "ci_low": bin_.observed.ci_low,
                "ci_high": bin_.observed.ci_high,
                "images": bin_.observed.n_images,
                "cases": str(bin_.observed.n_cases or "unknown"),
            }
            for bin_ in reliability.bins
        ]
    )
    x = _unit_axis("probability", "Estimated probability of malignancy")
    y_title = "Proportion of malignant images"
    y = _unit_axis("malignant", y_title, alt.Y)
    ends = pd.DataFrame({"probability": [0, 1], "malignant": [0, 1]})
    diagonal = alt.Chart(ends).mark_line(color=GRAY, strokeDash=[3, 3]).encode(x=x, y=y)
    base = alt.Chart(rows).encode(x=x)
    bars = base.mark_rule(strokeWidth=2, color=TEAL).encode(
        y=alt.Y("ci_low:Q", title=y_title), y2="ci_high:Q"
    )
    dots = base.mark_point(filled=True, color=TEAL, opacity=1).encode(
        y=y,
        size=alt.Size("images:Q", legend=None, scale=alt.Scale(range=[40, 260])),
        tooltip=[
            *(
                alt.Tooltip(f"{name}:Q", format=".2f", title=title)
                for name, title in (
                    ("probability", "Mean probability"),
                    ("malignant", "Malignant"),
                    ("ci_low", "CI low"),
                    ("ci_high", "CI high"),
                )
            ),
            alt.Tooltip("images:Q", title="Images"),
            alt.Tooltip("cases:N", title="Cases"),
        ],
    )
    return alt.layer(diagonal, bars, dots).properties(height=340)


def chart_selective(
    curve: tuple[SelectivePoint, ...], marks: dict[str, tuple[float, float]]
) -> alt.LayerChart:
    """Chart the error rate against the proportion of images with a class, with its intervals.

    Parameters
    ----------
    curve : tuple of SelectivePoint
        Result of `risk_coverage`.
    marks : dict of str to (float, float)
        Label to the coverage and the risk of an uncertain range, at most two.
    """
    titles = {
        "coverage": "Proportion of images with a class",
        "risk": "Error rate of these images",
    }
    rows = pd.DataFrame(
        [
            {
                "coverage": point.coverage, "risk": point.risk, "ci_low": point.ci_low,
                "ci_high": point.ci_high, "images": point.n_images, "cases": point.n_cases,
            }
            for point in curve
        ]
    )  # fmt: skip
    # A wide interval at a small coverage would flatten the curve.
    top = min(1.0, max(0.3, 1.2 * float(rows.loc[rows["coverage"] >= 0.3, "ci_high"].max())))
    y_scale = alt.Scale(domain=[0, top], clamp=True)
    x = _unit_axis("coverage", titles["coverage"])
    y = alt.Y("risk:Q", title=titles["risk"], scale=y_scale)
    base = alt.Chart(rows).encode(x=x)
    interval = base.mark_area(opacity=0.2, color=TEAL, clip=True).encode(
        y=alt.Y("ci_low:Q", title=titles["risk"], scale=y_scale), y2="ci_high:Q"
    )
    line = base.mark_line(strokeWidth=2.5, color=TEAL, point=alt.OverlayMarkDef(size=20)).encode(
        y=y,
        order="coverage:Q",
        tooltip=[
            alt.Tooltip("coverage:Q", format=".2f", title=titles["coverage"]),
            alt.Tooltip("risk:Q", format=".3f", title=titles["risk"]),
            alt.Tooltip("ci_low:Q", format=".3f", title="CI low"),
            alt.Tooltip("ci_high:Q", format=".3f", title="CI high"),
            alt.Tooltip("images:Q", format=",", title="Images"),
            alt.Tooltip("cases:Q", title="Cases"),
        ],
    )
    layers = [interval, line]
    if marks:
        points = [
            {"coverage": coverage, "risk": risk, "range": name}
            for name, (coverage, risk) in marks.items()
        ]
        shapes = dict(zip(marks, ("circle", "diamond"), strict=False))
        colors = dict(zip(marks, (VERMILION, BLUE), strict=False))
        layers.append(
            alt.Chart(pd.DataFrame(points))
            .mark_point(size=130, filled=True, opacity=1)
            .encode(
                x=x,
                y=y,
                color=_category(alt.Color, "range", colors, _TOP_LEGEND),
                shape=_category(alt.Shape, "range", shapes, _TOP_LEGEND),
                tooltip=[
                    alt.Tooltip("range:N", title="Range"),
                    alt.Tooltip("coverage:Q", format=".2f", title=titles["coverage"]),
                    alt.Tooltip("risk:Q", format=".3f", title=titles["risk"]),
                ],
            )
        )
    return alt.layer(*layers).properties(height=300)


_STRIP_HEIGHT_PX = LEGEND_AND_AXIS_PX + 36


def chart_views(spread: ViewSpread, uncertain_band: tuple[float, float] | None) -> alt.LayerChart:
    """Chart the probability of each view on a line from 0 to 1, with threshold and range."""
    rows = pd.DataFrame(
        [
            {
                "view": view, "probability": probability,
                "class": CLASSES[int(probability >= spread.threshold)],
            }
            for view, probability in spread.prob_malignant.items()
        ]
    )  # fmt: skip
    x = _unit_axis("probability", "Estimated probability of malignancy")
    colors = {"benign": BLUE, "malignant": VERMILION}
    layers = []
    if uncertain_band is not None:
        low, high = uncertain_band
        layers.append(
            alt.Chart(pd.DataFrame([{"probability": low, "high": high}]))
            .mark_rect(opacity=0.25, color=GRAY)
            .encode(x=x, x2="high:Q")
        )
    layers.append(
        alt.Chart(pd.DataFrame([{"probability": spread.threshold}]))
        .mark_rule(color=GRAY, strokeDash=[3, 3], strokeWidth=2)
        .encode(x=x)
    )
    layers.append(
        alt.Chart(rows)
        .mark_tick(thickness=3, size=34, opacity=0.9)
        .encode(
            x=x,
            color=_category(alt.Color, "class", colors, _TOP_LEGEND),
            tooltip=[
                alt.Tooltip("view:N", title="View"),
                alt.Tooltip("probability:Q", format=".3f", title="Probability"),
            ],
        )
    )
    return alt.layer(*layers).properties(height=_STRIP_HEIGHT_PX)


def chart_faithfulness(result: Faithfulness) -> alt.LayerChart:
    """Chart the deletion and the insertion curve of a map and of a center blob.

    Parameters
    ----------
    result : Faithfulness
        Result of the trust test.
    """
    rows = [
        {"map": name, "way": way, "proportion": proportion, "evidence": value}
        for name, curve in (("this map", result.curve), ("center", result.center))
        for way, values in (("removed", curve.deletion), ("shown first", curve.insertion))
        for proportion, value in zip(result.proportions, values, strict=True)
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X(
            "proportion:Q",
            title="Proportion of the image, marked regions first",
            axis=alt.Axis(format="%", tickCount=5, grid=False),
        ),
        y=alt.Y("evidence:Q", title="Margin for the class", axis=alt.Axis(tickCount=4)),
        color=alt.Color(
            "way:N",
            title=None,
            scale=alt.Scale(domain=["removed", "shown first"], range=[VERMILION, BLUE]),
            legend=alt.Legend(orient="top"),
        ),
        strokeDash=alt.StrokeDash(
            "map:N",
            title=None,
            scale=alt.Scale(domain=["this map", "center"], range=[[1, 0], [4, 4]]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=[
            "map", "way", alt.Tooltip("proportion:Q", format=".0%"),
            alt.Tooltip("evidence:Q", format=".2f"),
        ],
    )  # fmt: skip
    zero = alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=GRAY, opacity=0.5)
    return alt.layer(zero.encode(y="y:Q"), base.mark_line(strokeWidth=2)).properties(height=220)


def _chart_curve(
    curve: pd.DataFrame,
    chance: pd.DataFrame,
    point: tuple[float, float] | None,
    x_title: str,
    y_title: str,
) -> alt.LayerChart:
    axes = {"x": _unit_axis("x", x_title), "y": _unit_axis("y", y_title, alt.Y)}
    ordered = alt.Chart(curve.assign(order=range(len(curve))))
    layers = [
        alt.Chart(chance).mark_line(color=GRAY, strokeDash=[3, 3]).encode(**axes),
        ordered.mark_line(strokeWidth=2.5, color=TEAL).encode(order="order", **axes),
    ]
    if point is not None:
        threshold = alt.Chart(pd.DataFrame([point], columns=["x", "y"])).mark_point(
            size=110, filled=True, color=VERMILION, opacity=1
        )
        tooltip = [
            alt.Tooltip(f"{name}:Q", title=title, format=".2f")
            for name, title in (("x", x_title), ("y", y_title))
        ]
        layers.append(threshold.encode(**axes, tooltip=tooltip))
    return alt.layer(*layers).properties(height=300)


def _unit_axis(name: str, title: str, kind: type[alt.X | alt.Y] = alt.X) -> alt.X | alt.Y:
    return kind(f"{name}:Q", title=title, scale=alt.Scale(domain=[0, 1]))


def _list_cells(confusion: Confusion) -> list[dict]:
    return [
        {
            "truth": truth,
            "predicted": predicted,
            "proportion": count / sum(counts) if sum(counts) else 0.0,
            "count": f"{count}" if sum(counts) else "none",
        }
        for truth, counts in zip(CLASSES, confusion, strict=True)
        for predicted, count in zip(CLASSES, counts, strict=True)
    ]


def chart_counts(table: pd.DataFrame, column: str, title: str, *, paired: bool) -> alt.Chart:
    """Chart the number of images of each value of a column as bars.

    Parameters
    ----------
    table : DataFrame
        The column, class, images, cases.
    column, title : str
        The column of the values, and its title.
    paired : bool
        Whether values occur in both classes; each value then has two bars.
    """
    table = table.assign(label=table[column].astype(str).str.replace("_", " "))
    if not paired:
        in_both = table["label"].duplicated(keep=False)
        table["label"] = table["label"].where(~in_both, table["label"] + ", " + table["class"])
    n_bars = len(table) if not paired else 2 * table["label"].nunique()
    order = list(dict.fromkeys(table["label"]))
    return (
        alt.Chart(table)
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            x=alt.X("images:Q", title="Images", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("label:N", title=None, sort=order, axis=_LABEL_AXIS),
            yOffset=alt.YOffset("class:N", sort=list(CLASSES)) if paired else alt.Undefined,
            color=_category(alt.Color, "class", CLASS_COLORS, _TOP_LEGEND),
            tooltip=[
                alt.Tooltip("label:N", title=title),
                alt.Tooltip("class:N", title="Class"),
                alt.Tooltip("images:Q", title="Images", format=","),
                alt.Tooltip("cases:Q", title="Cases"),
            ],
        )
        .properties(height=BAR_HEIGHT_PX * n_bars + LEGEND_AND_AXIS_PX)
    )


def chart_cases(table: pd.DataFrame) -> alt.Chart:
    """Chart the number of images of each case, the largest first.

    Parameters
    ----------
    table : DataFrame
        Case, class, subtype, images.
    """
    ordered = table.sort_values(["class", "images"], ascending=[True, False])
    return (
        alt.Chart(ordered.assign(label=ordered["subtype"].str.replace("_", " ")))
        .mark_bar()
        .encode(
            x=alt.X(
                "case:N",
                title="Case, by class and size",
                sort=list(ordered["case"]),
                axis=alt.Axis(labels=False, ticks=False),
            ),
            y=alt.Y("images:Q", title="Images", axis=alt.Axis(tickMinStep=1)),
            color=_category(alt.Color, "class", CLASS_COLORS, _TOP_LEGEND),
            tooltip=[
                alt.Tooltip("case:N", title="Case"),
                alt.Tooltip("label:N", title="Subtype"),
                alt.Tooltip("images:Q", title="Images"),
            ],
        )
        .properties(height=CHART_HEIGHT_PX)
    )


def chart_fold_leakage(table: pd.DataFrame) -> alt.Chart:
    """Chart the proportion of test images whose case is also in training, by fold file.

    Parameters
    ----------
    table : DataFrame
        fold (label), images ('all' or 'benign'), proportion (0 to 1), counts (label).
    """
    colors = {"all": TEAL, "benign": GRAY}
    return (
        alt.Chart(table)
        .mark_bar(cornerRadiusEnd=3)
        .encode(
            x=alt.X(
                "proportion:Q",
                title="Test images with their case in training",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=alt.Y("fold:N", title=None, sort=None, axis=_LABEL_AXIS),
            yOffset=alt.YOffset("images:N", sort=list(colors)),
            color=_category(alt.Color, "images", colors, _TOP_LEGEND),
            tooltip=[
                alt.Tooltip("fold:N", title="File"),
                alt.Tooltip("images:N", title="Images"),
                alt.Tooltip("proportion:Q", title="Proportion", format=".1%"),
                alt.Tooltip("counts:N", title="Counts"),
            ],
        )
        .properties(height=2 * BAR_HEIGHT_PX * table["fold"].nunique() + LEGEND_AND_AXIS_PX)
    )


_WITH_LEAKAGE, _LEAKAGE_FREE = "with leakage", "leakage-free"
_LEAKAGE_COLORS = {_WITH_LEAKAGE: VERMILION, _LEAKAGE_FREE: BLUE}
_LEAKAGE_SHAPES = {_WITH_LEAKAGE: "diamond", _LEAKAGE_FREE: "circle"}
_PUBLISHED_RANGES = {"image": ("image-level", VERMILION), "folder": ("section-level", GRAY)}
_WARNING_COLOR = "#d0406a"
_PROTOCOL_HEIGHT_PX, _PROTOCOL_FRAME_PX, _PROTOCOL_LABEL_PX = 46, 100, 132


def chart_protocols(
    rows: list[ProtocolRow],
    published_ranges: list[PublishedRange],
    name: str,
    title: str,
    *,
    axis_minimum: float,
) -> alt.LayerChart:
    """Chart one metric with a row for each protocol.

    Parameters
    ----------
    rows : list of ProtocolRow
        The protocols; one without the metric has a row with the reason.
    published_ranges : list of PublishedRange
        Published ranges; those of other metrics are ignored.
    name, title : str
        Key and title of the metric.
    axis_minimum : float
        Lower end of the axis; the upper end is 1.
    """
    points = [_describe_protocol(row, name) for row in rows]
    scale = alt.Scale(domain=[axis_minimum, 1.0], nice=False)
    x = alt.X("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=6, format=".1f"))
    y = alt.Y(
        "label:N",
        title=None,
        sort=[point["label"] for point in points],
        axis=alt.Axis(
            labelExpr="split(datum.label, '\\n')", labelLimit=180, ticks=False, domain=False,
            minExtent=_PROTOCOL_LABEL_PX, maxExtent=_PROTOCOL_LABEL_PX, labelOffset=-6,
        ),
    )  # fmt: skip
    color = _category(alt.Color, "leakage", _LEAKAGE_COLORS)
    tooltip = [
        alt.Tooltip("protocol:N", title="Split"),
        alt.Tooltip("value:Q", format=".3f", title=title),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("support:N", title="Test data"),
    ]
    base = alt.Chart(pd.DataFrame(points))
    bars = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("ci_low:Q", scale=scale), x2="ci_high:Q", y=y, color=color, tooltip=tooltip
    )
    dots = base.mark_point(size=130, filled=True, opacity=1).encode(
        x=x,
        y=y,
        tooltip=tooltip,
        color=color,
        shape=_category(alt.Shape, "leakage", _LEAKAGE_SHAPES),
    )
    numbers = base.mark_text(
        align="right", dx=6, dy=-12, fontSize=11, fontWeight=600, color=GRAY
    ).encode(x=x, y=y, text="text:N")
    missing = base.mark_text(align="left", dx=6, color=GRAY, fontStyle="italic").encode(
        x=alt.value(0), y=y, text="missing:N"
    )
    layers = [*_chart_ranges(published_ranges, name, scale), _chart_plausibility_limit(scale)]
    if name == "accuracy":
        layers.append(
            base.mark_tick(thickness=2, size=16, color=GRAY).encode(
                x=alt.X("baseline:Q", scale=scale),
                y=y,
                tooltip=[alt.Tooltip("baseline:Q", format=".3f", title="Majority baseline")],
            )
        )
    return alt.layer(*layers, bars, dots, numbers, missing).properties(
        height=_PROTOCOL_FRAME_PX + _PROTOCOL_HEIGHT_PX * len(rows),
        title=alt.Title(title, anchor="start", offset=14),
    )


def find_axis_minimum(rows: list[ProtocolRow], names: Iterable[str]) -> float:
    """Return the lower end of the axes: at most 0.5, and at or below all values in tenths.

    Parameters
    ----------
    rows : list of ProtocolRow
        The protocols.
    names : iterable of str
        Keys of the metrics.
    """
    names = list(names)
    values: list[float | None] = [0.5]
    for row in rows:
        values.append(row.malignant_proportion)
        for metric in filter(None, map(row.metrics.get, names)):
            values += [metric.value, metric.ci_low]
    return max(0.0, int(10 * min(value for value in values if value is not None)) / 10)


def _describe_protocol(row: ProtocolRow, name: str) -> dict[str, Any]:
    """Return the values and labels of one row of a protocol chart."""
    if row.metrics:
        support = format_support(row.n_images, row.n_cases)
    else:
        support = f"{row.n_done} of {len(row.runs)} runs" if row.runs else ""
    malignant = row.malignant_proportion
    point = {
        "label": f"{row.label}\n{support}", "protocol": row.label,
        "leakage": _WITH_LEAKAGE if row.has_leakage else _LEAKAGE_FREE,
        "value": None, "ci_low": None, "ci_high": None,
        "baseline": None if malignant is None else majority_baseline(malignant)[1],
        "text": "", "missing": "", "interval": "none", "support": "",
    }  # fmt: skip
    metric = row.metrics.get(name)
    if metric is None or metric.value is None:
        reason = "not defined" if row.metrics else "no finished run"
        return point | {"missing": reason if row.runs else "not possible"}
    text = f"{metric.value:.3f}"
    if metric.ci_low is None or metric.ci_high is None:
        text += ", no interval"
    else:
        interval = f"{metric.ci_low:.3f} to {metric.ci_high:.3f}"
        point |= {"ci_low": metric.ci_low, "ci_high": metric.ci_high, "interval": interval}
    return point | {
        "value": metric.value,
        "text": text + (", warning" if name in row.implausible else ""),
        "support": format_support(metric.n_images, metric.n_cases),
    }


def _chart_ranges(ranges: list[PublishedRange], name: str, scale: alt.Scale) -> list[alt.Chart]:
    layers = []
    for number, published in enumerate(row for row in ranges if row.metric == name):
        label, color = _PUBLISHED_RANGES[published.protocol]
        ends = {"lowest": published.lowest, "highest": published.highest}
        base = alt.Chart(pd.DataFrame([ends | {"source": published.label, "label": label}]))
        layers.append(
            base.mark_rect(opacity=0.22, color=color).encode(
                x=alt.X("lowest:Q", scale=scale),
                x2="highest:Q",
                tooltip=[
                    alt.Tooltip("source:N", title="Published range"),
                    alt.Tooltip("lowest:Q", format=".3f", title="Lowest"),
                    alt.Tooltip("highest:Q", format=".3f", title="Highest"),
                ],
            )
        )
        # The labels are above each other, because two ranges can be close on a narrow screen.
        layers.append(
            base.mark_text(align="right", fontSize=11, color=GRAY).encode(
                x=alt.X("highest:Q", scale=scale), y=alt.value(-19 + 12 * number), text="label:N"
            )
        )
    return layers


def _chart_plausibility_limit(scale: alt.Scale) -> alt.Chart:
    frame = pd.DataFrame({"value": [MAX_PLAUSIBLE], "label": [f"warning above {MAX_PLAUSIBLE}"]})
    return (
        alt.Chart(frame)
        .mark_rule(strokeDash=[5, 3], color=_WARNING_COLOR, strokeWidth=1.5)
        .encode(x=alt.X("value:Q", scale=scale), tooltip=[alt.Tooltip("label:N", title=" ")])
    )
