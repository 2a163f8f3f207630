"""The chart of a protocol comparison: a metric by protocol, with published ranges."""

from collections.abc import Iterable
from typing import Any

import altair as alt
import pandas as pd

from app.components.report_charts import majority_baseline
from bc_model.evaluation.alarms import TOO_GOOD
from bc_model.evaluation.literature import Band
from bc_model.evaluation.protocol_row import ProtocolRow
from bc_model.reporting.labels import support_words
from bc_model.utils.serialization import to_json

_LEAKY, _HONEST = "with leakage", "leakage-free"
# The palette of Okabe and Ito, with a lighter blue for the dark theme; shapes repeat the colors.
_COLOURS = {_LEAKY: "#d55e00", _HONEST: "#2b87cf"}
_SHAPES = {_LEAKY: "diamond", _HONEST: "circle"}
_BANDS = {"image": ("image-level", "#d55e00"), "folder": ("section-level", "#7b8a91")}
_GREY, _ALARM = "#7b8a91", "#d0406a"
_ROW_PX, _FRAME_PX, _LABELS_PX = 46, 100, 132


def protocol_chart(
    rows: list[ProtocolRow], bands: list[Band], name: str, title: str, *, low: float
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
    colour = _by_kind(alt.Color, _COLOURS)
    tips = [
        alt.Tooltip("words:N", title="split"),
        alt.Tooltip("value:Q", format=".3f", title=title),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("support:N", title="on"),
    ]
    base = alt.Chart(pd.DataFrame(points))
    bars = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q", y=y, color=colour, tooltip=tips
    )
    dots = base.mark_point(size=130, filled=True, opacity=1).encode(
        x=x, y=y, tooltip=tips, color=colour, shape=_by_kind(alt.Shape, _SHAPES)
    )
    numbers = base.mark_text(dy=-12, fontSize=11, fontWeight=600, color=_GREY).encode(
        x=x, y=y, text="text:N"
    )
    missing = base.mark_text(align="left", dx=6, color=_GREY, fontStyle="italic").encode(
        x=alt.value(0), y=y, text="missing:N"
    )
    layers = [*_published(bands, name, scale), _alarm_line(scale)]
    if name == "accuracy":
        layers.append(
            base.mark_tick(thickness=2, size=16, color=_GREY).encode(
                x=alt.X("baseline:Q", scale=scale),
                y=y,
                tooltip=[alt.Tooltip("baseline:Q", format=".3f", title="majority baseline")],
            )
        )
    return alt.layer(*layers, bars, dots, numbers, missing).properties(
        height=_FRAME_PX + _ROW_PX * len(rows), title=alt.Title(title, anchor="start", offset=14)
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
        values += [row.base_rate] if row.base_rate is not None else []
        for figure in (row.figures.get(name) for name in names):
            ends = [figure.value, figure.low] if figure else []
            values += [value for value in ends if value is not None]
    return max(0.0, int(10 * min(values)) / 10)


def _point(row: ProtocolRow, name: str) -> dict[str, Any]:
    figure = row.figures.get(name)
    point = {
        "label": f"{row.words}\n{_support(row)}", "words": row.words,
        "kind": _LEAKY if row.leaky else _HONEST,
        "value": None, "low": None, "high": None, "baseline": _baseline(row),
        "text": "", "missing": "", "interval": "none", "support": "",
    }  # fmt: skip
    if figure is None or figure.value is None:
        word = "not defined" if row.figures else "no finished run"
        return point | {"missing": word if row.runs else "not possible"}
    text = f"{figure.value:.3f}"
    if figure.low is None or figure.high is None:
        text += ", no interval"
    else:
        point |= {"low": figure.low, "high": figure.high,
                  "interval": f"{figure.low:.3f} to {figure.high:.3f}"}  # fmt: skip
    return point | {
        "value": figure.value,
        "text": text + (", alarm" if name in row.alarms else ""),
        "support": support_words(figure.n, figure.n_cases),
    }


def _baseline(row: ProtocolRow) -> float | None:
    return None if row.base_rate is None else majority_baseline(row.base_rate)[1]


def _support(row: ProtocolRow) -> str:
    if not row.figures:
        return f"{row.n_done} of {len(row.runs)} runs" if row.runs else ""
    return support_words(row.n, row.n_cases)


def _by_kind(channel: Any, values: dict[str, str]) -> Any:
    scale = alt.Scale(domain=list(values), range=list(values.values()))
    return channel("kind:N", scale=scale, legend=None)


def _published(bands: list[Band], name: str, scale: alt.Scale) -> list[alt.Chart]:
    layers = []
    for number, band in enumerate(one for one in bands if one.figure == name):
        label, colour = _BANDS[band.protocol]
        base = alt.Chart(pd.DataFrame([to_json(band) | {"label": label}]))
        layers.append(
            base.mark_rect(opacity=0.22, color=colour).encode(
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
            base.mark_text(align="right", fontSize=11, color=_GREY).encode(
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
