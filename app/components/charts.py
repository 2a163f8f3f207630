"""Charts of a run: its learning curves."""

from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from bc_model.data import CLASSES
from bc_model.evaluation import TOO_GOOD, Confusion, Group, PublishedRange, Reliability, Report
from bc_model.experiments import ProtocolRow
from bc_model.reporting import support_words
from bc_model.utils import to_json

_GRAY = "#7b8a91"
_TEAL = "#1f8089"
MOST_MARKS = 60
_SERIES = {"training": _TEAL, "validation": "#c97b12"}


def learning_curve(history: list[dict], metric: str, title: str) -> alt.LayerChart:
    """Draw a metric of training and validation over the epochs, with the stage boundary."""
    rows = [
        {"epoch": record["epoch"], "subset": subset, "value": record[prefix + metric]}
        for record in history
        for subset, prefix in (("training", ""), ("validation", "val_"))
        if prefix + metric in record
    ]
    frame = pd.DataFrame(rows, columns=["epoch", "subset", "value"])
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
            tooltip=["epoch", "subset", alt.Tooltip("value:Q", format=".3f", title=title)],
        )
    )
    tuned = [record["epoch"] for record in history if record["phase"] == "finetune"]
    if not tuned or min(tuned) == 1:
        return alt.layer(lines).properties(height=260)
    boundary = pd.DataFrame({"epoch": [min(tuned) - 0.5], "label": ["fine-tuning"]})
    rule = alt.Chart(boundary).mark_rule(color=_GRAY, strokeDash=[2, 3]).encode(x="epoch:Q")
    word = (
        alt.Chart(boundary)
        .mark_text(align="left", dx=-4, dy=-8, color=_GRAY)  # Above the curves.
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
        .mark_line(interpolate="step-after", strokeWidth=2, color=_GRAY, point=_points(history))
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


_GRAY_REPORT_CHARTS, _THRESHOLD, _TEAL_REPORT_CHARTS = "#7b8a91", "#d55e00", "#1f8089"
# Each theme has its own color ramp; the text color follows the luminance of the cell.
_SHADE = alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], range="ramp"), legend=None)
_INK = alt.condition(
    "luminance(scale('color', datum.share)) < 0.179", alt.value("#ffffff"), alt.value("#000000")
)
_PREDICTED = alt.X(
    "predicted:N", title="Predicted class", sort=CLASSES, axis=alt.Axis(labelAngle=0, orient="top")
)
_GROUP_ROW_PX = 34


def majority_baseline(malignant_proportion: float) -> tuple[str, float]:
    """Return the majority class and the accuracy of always predicting it."""
    return (
        ("malignant", malignant_proportion)
        if malignant_proportion >= 0.5
        else ("benign", 1 - malignant_proportion)
    )


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
    proportions = base.mark_text(fontSize=12, dy=14).encode(text="percent:N", color=_INK)
    return alt.layer(cells, counts, proportions).properties(height=260)


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
        report.metrics[name].value or 0.0 for name in ("specificity", "sensitivity")
    )
    chance = pd.DataFrame({"x": [0, 1], "y": [0, 1]})
    point = (1 - specificity, sensitivity)
    return _curve(curve, chance, point, "1 - specificity", "Sensitivity")


def pr_chart(report: Report) -> alt.LayerChart:
    """Draw precision over sensitivity, with the base rate as the chance line."""
    assert report.pr is not None
    curve = pd.DataFrame({"x": report.pr.recall, "y": report.pr.precision})
    chance = pd.DataFrame({"x": [0, 1], "y": [report.malignant_proportion] * 2})
    (_, fp), (_, tp) = report.confusion
    point = (report.metrics["sensitivity"].value or 0.0, tp / (tp + fp)) if tp + fp else None
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
    diagonal = (
        alt.Chart(ends).mark_line(color=_GRAY_REPORT_CHARTS, strokeDash=[3, 3]).encode(x=x, y=y)
    )
    base = alt.Chart(rows).encode(x=x)
    bars = base.mark_rule(strokeWidth=2, color=_TEAL_REPORT_CHARTS).encode(
        y=alt.Y("low:Q"), y2="high:Q"
    )
    dots = base.mark_point(filled=True, color=_TEAL_REPORT_CHARTS, opacity=1).encode(
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
    line = ordered.mark_line(strokeWidth=2.5, color=_TEAL_REPORT_CHARTS).encode(
        order="order", **axes
    )
    diagonal = (
        alt.Chart(chance).mark_line(color=_GRAY_REPORT_CHARTS, strokeDash=[3, 3]).encode(**axes)
    )
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


CLASS_COLORS = {"benign": "#7b8a91", "malignant": "#1f8089"}
"""Gray and the accent: the lightness differs, so that color vision is not needed."""

_ROW_PX = 26
_AROUND_PX = 120
"""Height of the legend and the axis, which the height of a chart includes."""
_WORDS_AXIS = alt.Axis(labelLimit=220, labelOverlap=False)


def _by_class() -> alt.Color:
    return alt.Color(
        "class:N",
        title=None,
        scale=alt.Scale(domain=list(CLASSES), range=[CLASS_COLORS[name] for name in CLASSES]),
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
        As `bc_model.data.summary.tabulate_cases` returns it.
    """
    ordered = table.sort_values(["class", "images"], ascending=[True, False])
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
                    domain=domain, range=[CLASS_COLORS["malignant"], CLASS_COLORS["benign"]]
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


# The palette of Okabe and Ito, with a lighter blue for the dark theme; dashes repeat the colors.
COLORS = ("#2b87cf", "#d55e00", "#009e73", "#cc79a7")
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
HEIGHT_PX = 280
_LABEL_GAP_PROPORTION = (
    0.08  # Of the height, so that labels of curves with the same end do not overlap.
)


def overlaid_curves(
    histories: dict[str, list[dict]], metric: str, title: str, letters: list[str]
) -> alt.LayerChart:
    """Draw a metric of several runs over the epochs, with a letter at the end of each curve.

    Parameters
    ----------
    histories : dict of str to list of dict
        Run name to its epochs, at most four runs.
    figure : str
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
    x = alt.X(
        "epoch:Q",
        title="Epoch",
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(zero=False, nice=False, padding=12),
    )
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    color = alt.Color(
        "run:N", scale=alt.Scale(domain=letters, range=list(COLORS[: len(letters)])), legend=None
    )
    lines = (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=22), strokeWidth=2)
        .encode(
            x=x,
            y=y,
            color=color,
            strokeDash=alt.StrokeDash(
                "run:N",
                scale=alt.Scale(domain=letters, range=list(DASHES[: len(letters)])),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("name:N", title="run"),
                alt.Tooltip("epoch:Q", title="epoch"),
                alt.Tooltip("value:Q", format=".3f", title=title),
            ],
        )
    )
    ends = (
        alt.Chart(_ends(frame))
        .mark_text(align="left", dx=5, dy=-8, fontSize=14, fontWeight=700)
        .encode(x=x, y=alt.Y("label:Q"), text="run:N", color=color)
    )
    return alt.layer(lines, ends).properties(height=HEIGHT_PX)


def _ends(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last point of each run, with `label` moved up to avoid overlaps."""
    ends = frame.sort_values("epoch").groupby("run").tail(1).sort_values("value")
    gap = _LABEL_GAP_PROPORTION * (frame["value"].max() - frame["value"].min())
    last_epochs = ends["epoch"]
    # Only letters with similar horizontal positions can overlap.
    near = 0.05 * max(1, last_epochs.max() - frame["epoch"].min()) if len(ends) else 0
    placed: list[tuple[float, float]] = []
    for epoch, value in zip(last_epochs, ends["value"], strict=True):
        beside = [label for other, label in placed if abs(other - epoch) <= near]
        placed.append((epoch, max(value, max(beside, default=value - gap) + gap)))
    return ends.assign(label=[label for _, label in placed])


_WITH_LEAKAGE, _LEAKAGE_FREE = "with leakage", "leakage-free"
# The palette of Okabe and Ito, with a lighter blue for the dark theme; shapes repeat the colors.
_COLORS = {_WITH_LEAKAGE: "#d55e00", _LEAKAGE_FREE: "#2b87cf"}
_SHAPES = {_WITH_LEAKAGE: "diamond", _LEAKAGE_FREE: "circle"}
_PUBLISHED_RANGES = {"image": ("image-level", "#d55e00"), "folder": ("section-level", "#7b8a91")}
_GRAY_PROTOCOL_CHART, _ALARM = "#7b8a91", "#d0406a"
_ROW_PX_PROTOCOL_CHART, _FRAME_PX, _LABELS_PX = 46, 100, 132


def protocol_chart(
    rows: list[ProtocolRow],
    published_ranges: list[PublishedRange],
    name: str,
    title: str,
    *,
    low: float,
) -> alt.LayerChart:
    """Draw one metric with a row for each protocol.

    Parameters
    ----------
    rows : list of ProtocolRow
        The protocols; one without the metric has a row with the reason.
    bands : list of Band
        Published ranges; those of other metrics are ignored.
    name, title : str
        Key and title of the metric.
    low : float
        Lower end of the axis; the upper end is 1.
    """
    points = [_point(row, name) for row in rows]
    scale = alt.Scale(domain=[low, 1.0], nice=False)
    x = alt.X("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=6, format=".1f"))
    y = alt.Y(
        "label:N",
        title=None,
        sort=[point["label"] for point in points],
        axis=alt.Axis(
            labelExpr="split(datum.label, '\\n')", labelLimit=180, ticks=False, domain=False,
            minExtent=_LABELS_PX, maxExtent=_LABELS_PX, labelOffset=-6,
        ),
    )  # fmt: skip
    color = _by_kind(alt.Color, _COLORS)
    tips = [
        alt.Tooltip("words:N", title="split"),
        alt.Tooltip("value:Q", format=".3f", title=title),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("support:N", title="on"),
    ]
    base = alt.Chart(pd.DataFrame(points))
    bars = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q", y=y, color=color, tooltip=tips
    )
    dots = base.mark_point(size=130, filled=True, opacity=1).encode(
        x=x, y=y, tooltip=tips, color=color, shape=_by_kind(alt.Shape, _SHAPES)
    )
    numbers = base.mark_text(
        dy=-12, fontSize=11, fontWeight=600, color=_GRAY_PROTOCOL_CHART
    ).encode(x=x, y=y, text="text:N")
    missing = base.mark_text(
        align="left", dx=6, color=_GRAY_PROTOCOL_CHART, fontStyle="italic"
    ).encode(x=alt.value(0), y=y, text="missing:N")
    layers = [*_published(published_ranges, name, scale), _alarm_line(scale)]
    if name == "accuracy":
        layers.append(
            base.mark_tick(thickness=2, size=16, color=_GRAY_PROTOCOL_CHART).encode(
                x=alt.X("baseline:Q", scale=scale),
                y=y,
                tooltip=[alt.Tooltip("baseline:Q", format=".3f", title="majority baseline")],
            )
        )
    return alt.layer(*layers, bars, dots, numbers, missing).properties(
        height=_FRAME_PX + _ROW_PX_PROTOCOL_CHART * len(rows),
        title=alt.Title(title, anchor="start", offset=14),
    )


def lowest(rows: list[ProtocolRow], names: Iterable[str]) -> float:
    """Return the lower end of the axes: at most 0.5, and at or below all values in tenths.

    Parameters
    ----------
    rows : list of ProtocolRow
    names : iterable of str
        Keys of the metrics.
    """
    values = [0.5]
    for row in rows:
        values += [row.malignant_proportion] if row.malignant_proportion is not None else []
        for metric in (row.metrics.get(name) for name in names):
            ends = [metric.value, metric.low] if metric else []
            values += [value for value in ends if value is not None]
    return max(0.0, int(10 * min(values)) / 10)


def _point(row: ProtocolRow, name: str) -> dict[str, Any]:
    metric = row.metrics.get(name)
    point = {
        "label": f"{row.words}\n{_support(row)}", "words": row.words,
        "kind": _WITH_LEAKAGE if row.has_leakage else _LEAKAGE_FREE,
        "value": None, "low": None, "high": None, "baseline": _baseline(row),
        "text": "", "missing": "", "interval": "none", "support": "",
    }  # fmt: skip
    if metric is None or metric.value is None:
        word = "not defined" if row.metrics else "no finished run"
        return point | {"missing": word if row.runs else "not possible"}
    text = f"{metric.value:.3f}"
    if metric.low is None or metric.high is None:
        text += ", no interval"
    else:
        point |= {"low": metric.low, "high": metric.high,
                  "interval": f"{metric.low:.3f} to {metric.high:.3f}"}  # fmt: skip
    return point | {
        "value": metric.value,
        "text": text + (", alarm" if name in row.alarms else ""),
        "support": support_words(metric.n, metric.n_cases),
    }


def _baseline(row: ProtocolRow) -> float | None:
    return (
        None if row.malignant_proportion is None else majority_baseline(row.malignant_proportion)[1]
    )


def _support(row: ProtocolRow) -> str:
    if not row.metrics:
        return f"{row.n_done} of {len(row.runs)} runs" if row.runs else ""
    return support_words(row.n, row.n_cases)


def _by_kind(channel: Any, values: dict[str, str]) -> Any:
    scale = alt.Scale(domain=list(values), range=list(values.values()))
    return channel("kind:N", scale=scale, legend=None)


def _published(
    published_ranges: list[PublishedRange], name: str, scale: alt.Scale
) -> list[alt.Chart]:
    layers = []
    for number, published_range in enumerate(one for one in published_ranges if one.metric == name):
        label, color = _PUBLISHED_RANGES[published_range.protocol]
        base = alt.Chart(pd.DataFrame([to_json(published_range) | {"label": label}]))
        layers.append(
            base.mark_rect(opacity=0.22, color=color).encode(
                x=alt.X("low:Q", scale=scale),
                x2="high:Q",
                tooltip=[
                    alt.Tooltip("words:N", title="range"),
                    alt.Tooltip("low:Q", format=".3f"),
                    alt.Tooltip("high:Q", format=".3f"),
                ],
            )
        )
        # The labels are above each other, because two ranges can be close on a narrow screen.
        layers.append(
            base.mark_text(align="right", fontSize=11, color=_GRAY_PROTOCOL_CHART).encode(
                x=alt.X("high:Q", scale=scale), y=alt.value(-19 + 12 * number), text="label:N"
            )
        )
    return layers


def _alarm_line(scale: alt.Scale) -> alt.Chart:
    frame = pd.DataFrame({"at": [TOO_GOOD], "label": [f"alarm above {TOO_GOOD}"]})
    return (
        alt.Chart(frame)
        .mark_rule(strokeDash=[5, 3], color=_ALARM, strokeWidth=1.5)
        .encode(x=alt.X("at:Q", scale=scale), tooltip=[alt.Tooltip("label:N", title=" ")])
    )
