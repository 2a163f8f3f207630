"""The charts of reports, as matplotlib figures: confusion matrices, curves, cases and groups.

Every function returns a figure that pyplot does not manage, so that several threads can draw at
the same time. The functions take their values from a report and compute no statistics. Sizes are
those on paper: a narrow chart fills half of the text width of an A4 page, a wide one all of it.
"""

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from bc_model.data.breakhis import CLASSES
from bc_model.errors import RunError
from bc_model.evaluation.calibration import Reliability
from bc_model.evaluation.checks import TOO_GOOD
from bc_model.evaluation.report import Report
from bc_model.evaluation.subgroups import Confusion
from bc_model.experiments.protocols import ProtocolComparison, ProtocolRow
from bc_model.reporting.labels import support_words
from bc_model.utils.io import write_together

if TYPE_CHECKING:
    from bc_model.utils.metric import Metric

# Readers with every common form of color blindness can distinguish the two class colors.
BENIGN, MALIGNANT = "#0b6e75", "#c26a00"
PROTOCOL_PANELS = {
    "balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy", "roc_auc": "ROC AUC",
}  # fmt: skip
WIDE_IN = 6.85
"""Width of a wide chart in inches: the text width of an A4 page."""

_NARROW_IN = 3.3
_INK, _QUIET, _FAINT, _GRID = "#1b2a30", "#5b6b73", "#8a9aa1", "#e3eaec"
_WARNING = "#a3123f"
# Light throughout, so that dark text has a contrast of at least 6 to 1 in every cell.
_SHADES = LinearSegmentedColormap.from_list("teal", ["#edf4f5", "#7dbabf"])
_DASHES = (0, (4, 3))
_PUBLISHED_STYLES = {"image": ("#f3d9c6", "xx"), "folder": ("#d5e3ee", "//")}
_DPI = 230
# Matplotlib has one global table of settings, which only one thread at a time may change.
_SETTINGS_LOCK = threading.Lock()


def figure_to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG image; equal figures give equal bytes."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    return stream.getvalue()


def figure_to_svg(figure: Figure) -> bytes:
    """Return a figure as an SVG image with text as text; equal figures give equal bytes."""
    stream = BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _SETTINGS_LOCK, mpl.rc_context({"svg.hashsalt": "bc_model", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata=nothing)
    return stream.getvalue()


def write_plots(report: Report, folder: str | Path) -> None:
    """Write ``confusion.png`` and ``roc.png`` next to the files that `Report.write` writes.

    Parameters
    ----------
    report : Report
    folder : str or Path
        An existing folder.

    Raises
    ------
    RunError
        The folder cannot be written.
    """
    target = Path(folder)
    # People pass an image on without its report, so its title must state leakage.
    suffix = f"\nprotocol '{report.protocol}'" + (" (with leakage)" if report.has_leakage else "")
    figures = {
        "confusion.png": plot_confusion_matrix(
            report.confusion, title=f"Confusion matrix{suffix}", threshold=report.threshold
        ),
        "roc.png": plot_roc_curve(report, title=f"ROC curve{suffix}"),
    }
    try:
        write_together({target / name: figure_to_png(one) for name, one in figures.items()})
    except OSError as error:
        raise RunError(
            f"The plots cannot be written. Expected a writable folder, got '{target}' "
            f"({error.strerror or error}). Choose another folder."
        ) from error


def plot_confusion_matrix(
    confusion: Confusion,
    unit: str = "images",
    *,
    title: str = "",
    threshold: float | None = None,
) -> Figure:
    """Plot the counts of a confusion matrix, shaded by the proportion of the true class.

    Parameters
    ----------
    confusion : tuple of two pairs of int
        Rows are the true classes, columns the predicted classes.
    unit : {'images', 'cases'}
        The unit that is counted.
    title : str, default=''
        A title, for a chart without a document.
    threshold : float, optional
        The decision threshold, to be named on the axis.
    """
    figure, axes = _new_figure(_NARROW_IN, 2.95)
    counts = np.array(confusion)
    totals = counts.sum(axis=1, keepdims=True)
    # Shades of counts would make the majority class look like the better predicted one.
    proportions = counts / np.maximum(totals, 1)
    _shade_cells(axes, proportions)
    for (i, j), count in np.ndenumerate(counts):
        percent = f"{100 * proportions[i, j]:.1f} %" if totals[i, 0] else f"no {unit}"
        axes.text(j, i - 0.06, f"{count:,}", ha="center", color=_INK, fontsize=16, weight="bold")
        axes.text(j, i + 0.18, percent, ha="center", color=_INK, fontsize=8)
    axes.set_xticks([0, 1], list(CLASSES))
    axes.set_yticks([0, 1], list(CLASSES), rotation=90, va="center")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, color in zip(labels, (BENIGN, MALIGNANT), strict=True):
            label.set(color=color, fontweight="bold")
    # White lines separate two cells of the same shade.
    axes.axhline(0.5, color="white", linewidth=3)
    axes.axvline(0.5, color="white", linewidth=3)
    rule = "" if threshold is None else f" (malignant at {threshold:.3g} or above)"
    _label(axes, f"Predicted class{rule}", f"True class ({unit}, % of row)", title)
    axes.spines[:].set_visible(False)
    return figure


def plot_roc_curve(report: Report, *, title: str = "") -> Figure:
    """Plot the ROC curve of a report with the chance line and the decision threshold.

    With one class only, the chart states why there is no curve.
    """
    figure, axes = _new_figure(_NARROW_IN, 3.3)
    area = report.metrics["roc_auc"]
    chance: dict[str, Any] = {"color": _FAINT, "linestyle": _DASHES, "lw": 1.2}
    if report.roc is None:
        axes.plot([0, 1], [0, 1], **chance)
        axes.text(
            0.5, 0.5, f"ROC curve {area.text()}", ha="center", va="center", color=_INK, fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    else:
        RocCurveDisplay(fpr=np.array(report.roc.fpr), tpr=np.array(report.roc.tpr)).plot(
            ax=axes,
            # Above the frame, along which a perfect curve runs.
            curve_kwargs={"color": BENIGN, "lw": 2, "zorder": 4, "label": _area_label(area)},
            plot_chance_level=True,
            chance_level_kw={**chance, "label": "Chance"},
        )
        _mark_threshold(
            axes,
            1 - _defined(report.metrics["specificity"]),
            _defined(report.metrics["sensitivity"]),
            report.threshold,
        )
        _add_legend(axes, "lower right")
    _unit_axes(axes)
    _label(axes, "1 - specificity", "Sensitivity", title)
    return figure


def plot_precision_recall_curve(report: Report) -> Figure:
    """Plot the precision-recall curve of a report with the base rate and the threshold.

    Raises
    ------
    ValueError
        The report has one class only, so that there is no curve.
    """
    if report.pr is None:
        raise ValueError("A precision-recall curve needs images of both classes.")
    figure, axes = _new_figure(_NARROW_IN, 3.3)
    # No point exists left of the highest threshold; its precision is continued to there.
    recall = np.array([0.0, *report.pr.recall])
    precision = np.array([report.pr.precision[0], *report.pr.precision])
    PrecisionRecallDisplay(precision, recall, prevalence_pos_label=report.malignant_proportion).plot(
        ax=axes,
        curve_kwargs={
            "color": BENIGN, "lw": 2, "zorder": 4, "drawstyle": "default",
            "label": _value_label("Average precision", report.metrics["average_precision"]),
        },
        plot_chance_level=True,
        chance_level_kw={"color": _FAINT, "linestyle": _DASHES, "lw": 1.2, "label": "Base rate"},
    )  # fmt: skip
    (_, fp), (_, tp) = report.confusion
    if tp + fp:
        sensitivity = _defined(report.metrics["sensitivity"])
        _mark_threshold(axes, sensitivity, tp / (tp + fp), report.threshold)
    _add_legend(axes, "best")
    _unit_axes(axes)
    _label(axes, "Recall (sensitivity)", "Precision")
    return figure


def plot_calibration(calibration: Reliability) -> Figure:
    """Plot observed proportions against predicted probabilities, above the image counts."""
    figure, axes = _new_figure(_NARROW_IN, 3.7)
    bins = [one for one in calibration.bins if one.observed.value is not None]
    mean = np.array([one.mean_prob for one in bins])
    seen = np.array([_defined(one.observed) for one in bins])
    CalibrationDisplay(seen, mean, None).plot(
        ax=axes, ref_line=False, color=BENIGN, marker="o", markersize=6, linestyle="none",
        markeredgecolor="white", zorder=4, label="Observed proportion, 95 % CI",
    )  # fmt: skip
    for one in bins:
        if one.observed.low is not None and one.observed.high is not None:
            axes.vlines(one.mean_prob, one.observed.low, one.observed.high, color=BENIGN, lw=1.4)
    axes.plot([0, 1], [0, 1], color=_FAINT, linestyle=_DASHES, lw=1.2, label="Perfect calibration")
    most = max(one.observed.n for one in calibration.bins)
    axes.bar(
        [one.low for one in calibration.bins],
        [0.18 * one.observed.n / most for one in calibration.bins],
        width=[0.96 * (one.high - one.low) for one in calibration.bins],
        align="edge", color="#cfdfe1", zorder=1, label=f"Number of images, up to {most:,}",
    )  # fmt: skip
    _add_legend(axes, "upper center", bbox_to_anchor=(0.5, -0.17))
    _unit_axes(axes)
    _label(axes, "Estimated probability of malignancy", "Proportion of malignant images")
    return figure


def plot_cases(cases: pd.DataFrame, threshold: float) -> Figure:
    """Plot each case at the mean probability of its images, in one row for each true class.

    Parameters
    ----------
    cases : pandas.DataFrame
        The table that `case_table` returns.
    threshold : float
        The decision threshold.
    """
    figure, axes = _new_figure(WIDE_IN, 1.95)
    for y, (name, color) in enumerate(zip(CLASSES, (BENIGN, MALIGNANT), strict=True)):
        means = np.sort(cases.loc[cases["class"] == name, "mean_prob"].to_numpy(dtype=float))
        axes.plot(
            means, y + np.array(_offsets(means)), marker="o", markersize=5, linestyle="none",
            color=color, alpha=0.85, markeredgecolor="white", markeredgewidth=0.6, zorder=3,
            clip_on=False,
        )  # fmt: skip
    axes.axvline(threshold, color=_INK, linestyle=_DASHES, linewidth=1)
    axes.text(
        threshold, 1.03, f"threshold {threshold:.3g}", transform=axes.get_xaxis_transform(),
        ha="left" if threshold < 0.1 else "right" if threshold > 0.9 else "center",
        fontsize=7.5, color=_INK,
    )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(1.5, -0.5)
    axes.set_yticks([0, 1], list(CLASSES))
    for label, color in zip(axes.get_yticklabels(), (BENIGN, MALIGNANT), strict=True):
        label.set(color=color, fontweight="bold")
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _label(axes, "Mean estimated probability of malignancy over the images of a case", "")
    return figure


def plot_group_confusion(groups: list[tuple[str, Confusion]]) -> Figure:
    """Plot the confusion matrices of several groups, one row for each group.

    Parameters
    ----------
    groups : list of (str, confusion)
        Name and image counts of each group.
    """
    figure, axes = _new_figure(WIDE_IN, 0.75 + 0.26 * len(groups))
    counts = np.array([confusion for _, confusion in groups], dtype=float)
    totals = counts.sum(axis=2, keepdims=True)
    proportions = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    _shade_cells(axes, proportions.reshape(len(groups), 4))
    for (row, i, j), count in np.ndenumerate(counts):
        proportion = proportions[row, i, j]
        missing = np.isnan(proportion)
        axes.text(
            2 * i + j, row, "none" if missing else f"{int(count):,}  ({100 * proportion:.0f} %)",
            ha="center", va="center", fontsize=7.5,
            color=_QUIET if missing else _INK,
        )  # fmt: skip
    for y in np.arange(0.5, len(groups) - 1):
        axes.axhline(y, color="white", linewidth=3)
    for x, width in ((0.5, 3), (1.5, 10), (2.5, 3)):
        axes.axvline(x, color="white", linewidth=width)
    axes.set_xticks(range(4), [f"predicted {name}" for name in CLASSES] * 2)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.xaxis.tick_top()
    upper = axes.secondary_xaxis("top")
    upper.set_xticks([0.5, 2.5], [f"{name}\n" for name in CLASSES])
    for label, color in zip(upper.get_xticklabels(), (BENIGN, MALIGNANT), strict=True):
        label.set(color=color, fontweight="bold")
    upper.tick_params(length=0, pad=5, labelsize=8)
    upper.spines[:].set_visible(False)
    axes.spines[:].set_visible(False)
    return figure


def plot_group_metric(groups: "list[tuple[str, Metric]]") -> Figure:
    """Plot one metric of several groups, each with its interval, images and cases.

    Parameters
    ----------
    groups : list of (str, Figure)
        Name and metric of each group.
    """
    figure, axes = _new_figure(WIDE_IN, 0.55 + 0.24 * len(groups))
    for y, (_, metric) in enumerate(groups):
        if metric.value is None:
            axes.text(0.01, y, f"not defined: {metric.note}", va="center", fontsize=7.5,
                      color=_QUIET)  # fmt: skip
            continue
        if metric.low is not None and metric.high is not None:
            axes.hlines(y, metric.low, metric.high, color=BENIGN, linewidth=1.8, zorder=3)
        axes.plot(
            metric.value, y, marker="o", markersize=6, color=BENIGN, markeredgecolor="white",
            zorder=4, clip_on=False,
        )  # fmt: skip
        axes.text(
            1.02, y, support_words(metric.n, metric.n_cases), va="center", fontsize=7.5,
            color=_QUIET, transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def plot_protocols(report: ProtocolComparison) -> Figure:
    """Plot the metrics of each split protocol with intervals and published ranges.

    Parameters
    ----------
    report : ProtocolReport
        A partial report is allowed: a protocol without metrics keeps its row, with the reason.
    """
    rows = report.rows
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(11.0, 2.1 + 0.55 * len(rows)), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(PROTOCOL_PANELS), sharey=True, squeeze=False)[0]
    low = _lowest(report)
    for axes, (name, title) in zip(panels, PROTOCOL_PANELS.items(), strict=True):
        _plot_panel(axes, report, name, title, low)
    panels[0].set_yticks(range(len(rows)), [_protocol_label(row) for row in rows])
    for tick, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set(color=MALIGNANT if row.has_leakage else _INK, parse_math=False)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    state = "" if report.is_complete else " (not complete)"
    figure.suptitle(
        f"One configuration, {len(rows)} split protocols{state}",
        x=0.01, ha="left", fontsize=12, color=_INK,
    )  # fmt: skip
    figure.legend(
        handles=_protocol_legend(report), loc="outside lower left", ncols=3, frameon=False,
        fontsize=9, labelcolor=_INK, handlelength=2.2,
    )  # fmt: skip
    return figure


def describe_confusion_matrix(confusion: Confusion, unit: str) -> str:
    """Return the alternative text of `plot_confusion_matrix`."""
    (tn, fp), (fn, tp) = confusion
    return (
        f"Of {tn + fp} benign {unit}, {tn} are predicted benign and {fp} malignant. "
        f"Of {fn + tp} malignant {unit}, {fn} are predicted benign and {tp} malignant."
    )


def describe_curve(name: str, metric: "Metric") -> str:
    """Return the alternative text of a curve with the metric that summarizes it."""
    return f"{_value_label(name, metric)}."


def describe_calibration(calibration: Reliability) -> str:
    """Return the alternative text of `plot_calibration`."""
    points = "; ".join(
        f"predicted {one.mean_prob:.2f}, observed {one.observed.value:.2f}"
        for one in calibration.bins
        if one.observed.value is not None
    )
    return f"Calibration: {points}."


def describe_cases(cases: pd.DataFrame, threshold: float) -> str:
    """Return the alternative text of `plot_cases`."""
    wrong = int((cases["called"] != cases["class"]).sum())
    return (
        f"{len(cases)} cases by their mean probability. "
        f"{wrong} of them are on the incorrect side of the threshold {threshold:.3g}."
    )


def describe_group_confusion(groups: list[tuple[str, Confusion]]) -> str:
    """Return the alternative text of `plot_group_confusion`."""
    rows = []
    for name, ((tn, fp), (fn, tp)) in groups:
        rows.append(f"{name}: {tn} of {tn + fp} benign and {tp} of {fn + tp} malignant correct")
    return "; ".join(rows) + "."


def describe_group_metric(groups: "list[tuple[str, Metric]]") -> str:
    """Return the alternative text of `plot_group_metric`."""
    return "; ".join(_value_label(name, metric) for name, metric in groups) + "."


def _new_figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05)
    figure = Figure(figsize=(width_in, height_in), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(length=0, pad=4, colors=_INK, labelsize=8)
    axes.set_axisbelow(True)
    return figure, axes


def _shade_cells(axes: Axes, proportions: np.ndarray) -> None:
    """Draw a matrix from the top down, with cells at integer coordinates.

    The cells are vector shapes. `ConfusionMatrixDisplay` would embed a raster image into SVG, which
    the security policy of the HTML reports blocks.
    """
    rows, columns = proportions.shape
    axes.pcolormesh(
        np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, np.ma.masked_invalid(proportions),
        cmap=_SHADES, vmin=0, vmax=1,
    )  # fmt: skip
    axes.set_ylim(rows - 0.5, -0.5)


def _unit_axes(axes: Axes) -> None:
    """Set both axes to the range of a probability."""
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for line in axes.lines:
        line.set_clip_on(False)
    axes.spines[:].set_color("#c9d3d6")
    axes.grid(color=_GRID, linewidth=0.8)


def _label(axes: Axes, x: str, y: str, title: str = "") -> None:
    axes.set_xlabel(x, color=_INK, fontsize=8, labelpad=4)
    axes.set_ylabel(y, color=_INK, fontsize=8, labelpad=4)
    if title:
        # The name of a protocol comes from the user. It can contain a dollar sign.
        axes.set_title(title, loc="left", fontsize=8.5, color=_INK, pad=8, parse_math=False)


def _add_legend(
    axes: Axes, loc: Literal["best", "lower right", "upper center"], **where: Any
) -> None:
    axes.legend(
        loc=loc, fontsize=7, labelcolor=_INK, frameon=True, framealpha=0.85, edgecolor="none",
        handlelength=1.6, borderpad=0.3, **where,
    )  # fmt: skip


def _mark_threshold(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot(
        [x], [y], marker="o", markersize=8, linestyle="none", color=MALIGNANT,
        markeredgecolor="white", zorder=5, label=f"Threshold {threshold:.3g}",
    )  # fmt: skip


def _defined(metric: "Metric") -> float:
    assert metric.value is not None, "the caller has both classes"
    return metric.value


def _area_label(area: "Metric") -> str:
    """Return the legend of a ROC curve, one fact a line, as they would not fit into one."""
    if area.value is None:
        return "Model"
    interval = "no interval" if area.low is None else f"95 % CI {area.low:.3f}-{area.high:.3f}"
    return f"AUC {area.value:.3f}\n{interval}\n{support_words(area.n, area.n_cases)}"


def _value_label(name: str, metric: "Metric") -> str:
    if metric.value is None:
        return f"{name} not defined"
    if metric.low is None:
        return f"{name} {metric.value:.3f} (no interval)"
    return f"{name} {metric.value:.3f}\n(95 % CI {metric.low:.3f}-{metric.high:.3f})"


def _offsets(means: np.ndarray) -> list[float]:
    """Return vertical offsets that keep neighboring markers of a row apart.

    Parameters
    ----------
    means : ndarray of shape (n_cases,)
        Horizontal places in ascending order, in [0, 1].
    """
    steps = (0.0, -0.13, 0.13, -0.26, 0.26, -0.39, 0.39)
    last: dict[float, float] = {}
    found = []
    for x in means:
        free = [step for step in steps if x - last.get(step, -np.inf) >= 0.014]
        chosen = free[0] if free else min(steps, key=lambda step: last[step])
        last[chosen] = float(x)
        found.append(chosen)
    return found


def _plot_panel(axes: Axes, report: ProtocolComparison, name: str, title: str, low: float) -> None:
    for published_range in report.published_ranges:
        if published_range.metric == name:
            color, hatch = _PUBLISHED_STYLES[published_range.protocol]
            axes.axvspan(published_range.low, published_range.high, facecolor=color, edgecolor="white", hatch=hatch,
                         linewidth=0, alpha=0.8, zorder=0)  # fmt: skip
    axes.axvline(TOO_GOOD, color=_WARNING, linestyle=_DASHES, linewidth=1, zorder=1)
    for y, row in enumerate(report.rows):
        _plot_protocol(axes, y, row, name, low)
    axes.set_xlim(low, 1.004)
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.tick_params(length=0, colors=_INK, labelsize=9)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_color("#c9d3d6")


def _plot_protocol(axes: Axes, y: int, row: ProtocolRow, name: str, low: float) -> None:
    metric = row.metrics.get(name)
    if metric is None or metric.value is None:
        reason = "no run yet" if not row.metrics else "not defined"
        reason = "not possible" if not row.runs else reason
        axes.text(low, y, f"  {reason}", va="center", fontsize=8, color=_QUIET, style="italic")
        return
    style = _protocol_marker(row.has_leakage)
    if metric.low is not None and metric.high is not None:
        axes.errorbar(
            metric.value, y, xerr=[[metric.value - metric.low], [metric.high - metric.value]],
            color=style["color"], linewidth=2, capsize=4, capthick=2, fmt="none", zorder=3,
        )  # fmt: skip
    if name == "accuracy" and row.malignant_proportion is not None:
        axes.plot(row.malignant_proportion, y, marker="|", markersize=13, markeredgewidth=1.5, color=_QUIET,
                  zorder=2)  # fmt: skip
    axes.plot(metric.value, y, zorder=4, **style)
    warns = name in row.implausible
    text = f"{metric.value:.3f}" + ("" if metric.low is not None else ", no interval")
    # The text stays inside the frame.
    x = min(max(metric.value, low + 0.06 * (1 - low)), 1 - (0.17 if warns else 0.09) * (1 - low))
    axes.text(
        x, y - 0.22, text + "  warning" * warns, ha="center", va="bottom", fontsize=8.5,
        color=_WARNING if warns else _INK, fontweight="bold" if warns else "normal", zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip


def _protocol_label(row: ProtocolRow) -> str:
    if not row.metrics:
        return f"{row.label}\n{row.n_done} of {len(row.runs)} runs" if row.runs else row.label
    return f"{row.label}\n{support_words(row.n_images, row.n_cases)}"


def _protocol_legend(report: ProtocolComparison) -> list[Artist]:
    published: dict[str, Artist] = {}
    for published_range in report.published_ranges:
        color, hatch = _PUBLISHED_STYLES[published_range.protocol]
        published[published_range.protocol] = Patch(
            facecolor=color,
            edgecolor="white",
            hatch=hatch,
            linewidth=0,
            label=published_range.words,
        )
    return [
        Line2D([], [], **_protocol_marker(True), linewidth=2,
               label="with leakage, 95 % CI over cases"),
        Line2D([], [], **_protocol_marker(False), linewidth=2,
               label="leakage-free, 95 % CI over cases"),
        Line2D([], [], color=_QUIET, marker="|", markersize=12, markeredgewidth=1.5,
               linestyle="none", label="majority baseline: always malignant"),
        Line2D([], [], color=_WARNING, linestyle=_DASHES, linewidth=1,
               label=f"warning above {TOO_GOOD}"),
        *published.values(),
    ]  # fmt: skip


def _protocol_marker(has_leakage: bool) -> dict[str, Any]:
    # The shape distinguishes the two kinds as well, for prints in gray.
    color = MALIGNANT if has_leakage else BENIGN
    return {
        "marker": "D" if has_leakage else "o", "markersize": 8, "color": color,
        "markerfacecolor": "white" if has_leakage else color, "markeredgewidth": 2,
    }  # fmt: skip


def _lowest(report: ProtocolComparison) -> float:
    """Return where the axes begin: a tenth at or below every value, 0.5 at most."""
    return max(0.0, int(10 * min([0.5, *_plotted(report)])) / 10)


def _plotted(report: ProtocolComparison) -> Iterator[float]:
    for row in report.rows:
        if row.malignant_proportion is not None:
            yield row.malignant_proportion
        for name in PROTOCOL_PANELS:
            metric = row.metrics.get(name)
            if metric is not None:
                yield from (v for v in (metric.value, metric.low) if v is not None)
