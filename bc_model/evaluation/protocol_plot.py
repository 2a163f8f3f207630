"""The picture of a protocol report: each protocol with its interval, beside what others publish.

Drawn with matplotlib's objects and never with pyplot, as `plots` is and for the same reason.
"""

from io import BytesIO
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Sheet
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bc_model.evaluation.alarms import TOO_GOOD
from bc_model.evaluation.protocol_report import ProtocolReport
from bc_model.evaluation.protocol_row import ProtocolRow

PANELS = {"balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy", "roc_auc": "ROC AUC"}

# After Okabe and Ito; shape and word say the same without the colour.
_HONEST, _LEAKY, _ALARM = "#0072B2", "#D55E00", "#A3123F"
_BANDS = {"image": ("#F3D9C6", "xx"), "folder": ("#D5E3EE", "//")}
_INK, _QUIET = "#262626", "#767676"
_DASHES = (0, (5, 3))
_DPI = 150
_ROW_IN, _FRAME_IN, _WIDTH_IN = 0.55, 2.1, 11.0


def protocols_png(report: ProtocolReport) -> bytes:
    """Draw the report as PNG; 1650 pixels wide, higher with more protocols.

    Parameters
    ----------
    report : ProtocolReport
        May be partial: a protocol without figures keeps its row and says so.
    """
    stream = BytesIO()
    FigureCanvasAgg(_draw(report)).print_png(stream)
    return stream.getvalue()


def protocols_svg(report: ProtocolReport) -> bytes:
    """Draw the same as SVG, with its letters as outlines."""
    stream = BytesIO()
    FigureCanvasSVG(_draw(report)).print_svg(stream, metadata={"Date": None})
    return stream.getvalue()


def _draw(report: ProtocolReport) -> Sheet:
    rows = report.rows
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    size = _WIDTH_IN, _FRAME_IN + _ROW_IN * len(rows)
    sheet = Sheet(figsize=size, dpi=_DPI, layout=layout, facecolor="white")
    panels = sheet.subplots(1, len(PANELS), sharey=True, squeeze=False)[0]
    low = _lowest(report)
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        _panel(axes, report, name, title, low)
    panels[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
    for tick, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set(color=_LEAKY if row.leaky else _INK, parse_math=False)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    part = "" if report.is_whole else " (not complete)"
    sheet.suptitle(
        f"One recipe, {len(rows)} split protocols{part}", x=0.01, ha="left", fontsize=12, color=_INK
    )
    sheet.legend(
        handles=_legend(report), loc="outside lower left", ncols=3, frameon=False, fontsize=9,
        labelcolor=_INK, handlelength=2.2,
    )  # fmt: skip
    return sheet


def _panel(axes: Axes, report: ProtocolReport, name: str, title: str, low: float) -> None:
    for band in report.bands:
        if band.figure == name:
            colour, hatch = _BANDS[band.protocol]
            axes.axvspan(band.low, band.high, facecolor=colour, edgecolor="white", hatch=hatch,
                         linewidth=0, alpha=0.8, zorder=0)  # fmt: skip
    axes.axvline(TOO_GOOD, color=_ALARM, linestyle=_DASHES, linewidth=1, zorder=1)
    for y, row in enumerate(report.rows):
        _row(axes, y, row, name, low)
    axes.set_xlim(low, 1.004)
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.tick_params(length=0, colors=_INK, labelsize=9)
    axes.grid(axis="x", color="#EBEBEB", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_color("#D0D0D0")


def _row(axes: Axes, y: int, row: ProtocolRow, name: str, low: float) -> None:
    figure = row.figures.get(name)
    if figure is None or figure.value is None:
        word = "no run yet" if not row.figures else "not defined"
        word = "cannot be made" if not row.runs else word
        axes.text(low, y, f"  {word}", va="center", fontsize=8, color=_QUIET, style="italic")
        return
    colour = _LEAKY if row.leaky else _HONEST
    if figure.low is not None and figure.high is not None:
        axes.plot([figure.low, figure.high], [y, y], color=colour, linewidth=2, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        for end in (figure.low, figure.high):
            axes.plot([end, end], [y - 0.1, y + 0.1], color=colour, linewidth=2, zorder=3)
    if name == "accuracy" and row.base_rate is not None:
        axes.plot(row.base_rate, y, marker="|", markersize=13, markeredgewidth=1.5, color=_QUIET,
                  zorder=2)  # fmt: skip
    axes.plot(figure.value, y, zorder=4, **_mark(row.leaky))
    alarm = name in row.alarms
    told = f"{figure.value:.3f}" + ("" if figure.low is not None else ", no interval")
    at = min(max(figure.value, low + 0.06 * (1 - low)), 1 - 0.09 * (1 - low))
    axes.text(
        at, y - 0.22, told + "  alarm" * alarm, ha="center", va="bottom", fontsize=8.5,
        color=_ALARM if alarm else _INK, fontweight="bold" if alarm else "normal", zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip


def _label(row: ProtocolRow) -> str:
    if not row.figures:
        return f"{row.words}\n{row.n_done} of {len(row.runs)} runs" if row.runs else row.words
    cases = f"{row.n_cases} cases" if row.n_cases else "cases unknown"
    return f"{row.words}\n{row.n:,} pictures, {cases}"


def _legend(report: ProtocolReport) -> list[Artist]:
    def mark(leaky: bool, words: str) -> Line2D:
        return Line2D([], [], **_mark(leaky), linewidth=2, label=words)

    drawn: dict[str, Artist] = {
        band.protocol: _patch(band.protocol, band.words) for band in report.bands
    }
    return [
        mark(True, "leaky, with its 95 % interval over cases"),
        mark(False, "not leaky, likewise"),
        Line2D([], [], color=_QUIET, marker="|", markersize=12, markeredgewidth=1.5,
               linestyle="none", label="always answering malignant"),
        Line2D([], [], color=_ALARM, linestyle=_DASHES, linewidth=1,
               label=f"alarm above {TOO_GOOD}"),
        *drawn.values(),
    ]  # fmt: skip


def _mark(leaky: bool) -> dict[str, Any]:
    colour = _LEAKY if leaky else _HONEST
    return {
        "marker": "D" if leaky else "o", "markersize": 8, "color": colour,
        "markerfacecolor": "white" if leaky else colour, "markeredgewidth": 2,
    }  # fmt: skip


def _patch(protocol: str, words: str) -> Patch:
    colour, hatch = _BANDS[protocol]
    return Patch(facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0, label=words)


def _lowest(report: ProtocolReport) -> float:
    """Return where the axes begin: a tenth at or below all that is drawn, 0.5 at most."""
    drawn = [0.5]
    for row in report.rows:
        drawn += [row.base_rate] if row.base_rate is not None else []
        for name in PANELS:
            figure = row.figures.get(name)
            drawn += [v for v in (figure.value, figure.low) if v is not None] if figure else []
    return max(0.0, int(10 * min(drawn)) / 10)
