"""The charts of reports as matplotlib figures, with an alternative text for each chart.

The functions take their values from a report and compute no statistics. Figures are not managed by
pyplot, so several threads can draw at the same time. Sizes are those on paper: a narrow chart has
half of the text width of an A4 page, a wide one the full width.
"""

import threading
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

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
from matplotlib.text import Text
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from bc_model.data.breakhis import CLASSES
from bc_model.errors import RunError
from bc_model.evaluation.calibration import CalibrationResult
from bc_model.evaluation.checks import MAX_PLAUSIBLE
from bc_model.evaluation.metrics import majority_baseline
from bc_model.evaluation.report import EvaluationReport
from bc_model.evaluation.subgroups import Confusion
from bc_model.experiments.protocols import ProtocolComparison, ProtocolRow
from bc_model.reporting.labels import format_support
from bc_model.utils.io import write_files_atomic
from bc_model.utils.measurement import Metric

# Readers with every common form of color blindness can distinguish the two class colors.
BENIGN, MALIGNANT = "#0b6e75", "#c26a00"
PROTOCOL_PANELS = {
    "balanced_accuracy": "Balanced accuracy", "accuracy": "Accuracy", "roc_auc": "ROC AUC",
}  # fmt: skip
"""Metrics of `plot_protocols` with the titles of their panels."""

_WIDE_IN, _NARROW_IN = 6.85, 3.3
_INK, _QUIET, _FAINT, _GRID, _FRAME = "#1b2a30", "#5b6b73", "#8a9aa1", "#e3eaec", "#c9d3d6"
_WARNING = "#a3123f"
# All shades are light, so that dark text has a contrast of at least 6 to 1 in every cell.
_SHADES = LinearSegmentedColormap.from_list("teal", ["#edf4f5", "#7dbabf"])
_DASHES = (0, (4, 3))
_REFERENCE_LINE: dict[str, Any] = {"color": _FAINT, "linestyle": _DASHES, "lw": 1.2}
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
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _SETTINGS_LOCK, mpl.rc_context({"svg.hashsalt": "bc_model", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata=no_metadata)
    return stream.getvalue()


def write_plots(report: EvaluationReport, folder: str | Path) -> None:
    """Write ``confusion.png`` and ``roc.png`` of a report into an existing folder.

    Raises
    ------
    RunError
        The files cannot be written.
    """
    target = Path(folder)
    # An image can be shared without its report, so its title must state leakage.
    suffix = f"\nprotocol '{report.protocol}'" + (" (with leakage)" if report.has_leakage else "")
    figures = {
        "confusion.png": plot_confusion_matrix(
            report.confusion, title=f"Confusion matrix{suffix}", threshold=report.threshold
        ),
        "roc.png": plot_roc_curve(report, title=f"ROC curve{suffix}"),
    }
    try:
        write_files_atomic({target / name: figure_to_png(fig) for name, fig in figures.items()})
    except OSError as error:
        raise RunError(
            f"The plots cannot be written. Expected a writable folder, got '{target}' "
            f"({error.strerror or error}). Choose another folder."
        ) from error


def plot_confusion_matrix(
    confusion: Confusion, unit: str = "images", *, title: str = "", threshold: float | None = None
) -> Figure:
    """Plot the counts of a confusion matrix, shaded by the proportion of the true class.

    A chart outside of a document needs a title and names the decision threshold.
    """
    figure, axes = _new_figure(_NARROW_IN, 2.95)
    counts = np.array(confusion)
    totals = counts.sum(axis=1, keepdims=True)
    # With shades of counts, the majority class would look better predicted.
    proportions = counts / np.maximum(totals, 1)
    _shade_cells(axes, proportions)
    for (i, j), count in np.ndenumerate(counts):
        percent = f"{100 * proportions[i, j]:.1f} %" if totals[i, 0] else f"no {unit}"
        axes.text(j, i - 0.06, f"{count:,}", ha="center", color=_INK, fontsize=16, weight="bold")
        axes.text(j, i + 0.18, percent, ha="center", color=_INK, fontsize=8)
    axes.set_xticks([0, 1], list(CLASSES))
    axes.set_yticks([0, 1], list(CLASSES), rotation=90, va="center")
    _color_class_labels(axes.get_xticklabels())
    _color_class_labels(axes.get_yticklabels())
    rule = "" if threshold is None else f" (malignant at {threshold:.3g} or above)"
    _label(axes, f"Predicted class{rule}", f"True class ({unit}, % of row)", title)
    axes.spines[:].set_visible(False)
    return figure


def plot_roc_curve(report: EvaluationReport, *, title: str = "") -> Figure:
    """Plot the ROC curve of a report with the chance line and the decision threshold.

    If the images have one class only, the chart states why there is no curve.
    """
    figure, axes = _new_figure(_NARROW_IN, 3.3)
    area = report.metrics["roc_auc"]
    if report.roc is None:
        style: dict[str, Any] = {"ha": "center", "color": _INK, "fontsize": 8}
        axes.text(0.5, 0.5, f"ROC curve {area.text()}", **style)
    else:
        interval = "no interval"
        if area.ci_low is not None:
            interval = f"95 % CI {area.ci_low:.3f}-{area.ci_high:.3f}"
        support = format_support(area.n_images, area.n_cases)
        label = f"AUC {area.value:.3f}\n{interval}\n{support}"
        RocCurveDisplay(fpr=np.array(report.roc.fpr), tpr=np.array(report.roc.tpr)).plot(
            ax=axes,
            # The curve is above the frame, because a perfect curve runs along it.
            curve_kwargs={"color": BENIGN, "lw": 2, "zorder": 4, "label": label},
            plot_chance_level=True,
            chance_level_kw={**_REFERENCE_LINE, "label": "Chance"},
        )
        false_positive_rate = 1 - _value(report.metrics["specificity"])
        sensitivity = _value(report.metrics["sensitivity"])
        _mark_threshold(axes, false_positive_rate, sensitivity, report.threshold)
        _add_legend(axes, loc="lower right")
    _style_unit_axes(axes)
    _label(axes, "1 - specificity", "Sensitivity", title)
    return figure


def plot_precision_recall_curve(report: EvaluationReport) -> Figure:
    """Plot the precision-recall curve of images of both classes, with base rate and threshold."""
    assert report.pr is not None, "The caller has images of both classes."
    figure, axes = _new_figure(_NARROW_IN, 3.3)
    # The curve starts at recall 0 with the precision of the highest threshold.
    recall = np.array([0.0, *report.pr.recall])
    precision = np.array([report.pr.precision[0], *report.pr.precision])
    label = _format_metric("Average precision", report.metrics["average_precision"])
    base_rate = report.malignant_proportion
    PrecisionRecallDisplay(precision, recall, prevalence_pos_label=base_rate).plot(
        ax=axes,
        curve_kwargs={
            "color": BENIGN, "lw": 2, "zorder": 4, "drawstyle": "default", "label": label,
        },
        plot_chance_level=True,
        chance_level_kw={**_REFERENCE_LINE, "label": "Base rate"},
    )  # fmt: skip
    (_, fp), (_, tp) = report.confusion
    if tp + fp:
        sensitivity = _value(report.metrics["sensitivity"])
        _mark_threshold(axes, sensitivity, tp / (tp + fp), report.threshold)
    _add_legend(axes, loc="best")
    _style_unit_axes(axes)
    _label(axes, "Recall (sensitivity)", "Precision")
    return figure


def plot_calibration(calibration: CalibrationResult) -> Figure:
    """Plot observed proportions against predicted probabilities, above the image counts."""
    figure, axes = _new_figure(_NARROW_IN, 3.7)
    bins = [group for group in calibration.bins if group.observed.value is not None]
    mean = np.array([group.mean_prob for group in bins])
    observed = np.array([_value(group.observed) for group in bins])
    CalibrationDisplay(observed, mean, None).plot(
        ax=axes, ref_line=False, color=BENIGN, marker="o", markersize=6, linestyle="none",
        markeredgecolor="white", zorder=4, label="Observed proportion, 95 % CI",
    )  # fmt: skip
    for x, metric in ((group.mean_prob, group.observed) for group in bins):
        if metric.ci_low is not None and metric.ci_high is not None:
            axes.vlines(x, metric.ci_low, metric.ci_high, color=BENIGN, lw=1.4)
    axes.plot([0, 1], [0, 1], **_REFERENCE_LINE, label="Perfect calibration")
    n_max = max(group.observed.n_images for group in calibration.bins)
    axes.bar(
        [group.prob_low for group in calibration.bins],
        [0.18 * group.observed.n_images / n_max for group in calibration.bins],
        width=[0.96 * (group.prob_high - group.prob_low) for group in calibration.bins],
        align="edge", color="#cfdfe1", zorder=1, label=f"Number of images, up to {n_max:,}",
    )  # fmt: skip
    _add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    _style_unit_axes(axes)
    _label(axes, "Estimated probability of malignancy", "Proportion of malignant images")
    return figure


def plot_cases(cases: pd.DataFrame, threshold: float) -> Figure:
    """Plot the mean probability of each case in `case_table`, in one row per true class."""
    figure, axes = _new_figure(_WIDE_IN, 1.95)
    for y, (name, color) in enumerate(zip(CLASSES, (BENIGN, MALIGNANT), strict=True)):
        means = np.sort(cases.loc[cases["class"] == name, "mean_prob"].to_numpy(dtype=float))
        axes.plot(
            means, y + np.array(_spread_markers(means)), marker="o", markersize=5, color=color,
            linestyle="none", alpha=0.85, markeredgecolor="white", markeredgewidth=0.6, zorder=3,
            clip_on=False,
        )  # fmt: skip
    axes.axvline(threshold, color=_INK, linestyle=_DASHES, linewidth=1)
    axes.text(
        threshold, 1.03, f"threshold {threshold:.3g}", transform=axes.get_xaxis_transform(),
        ha="left" if threshold < 0.1 else "right" if threshold > 0.9 else "center",
        fontsize=7.5, color=_INK,
    )  # fmt: skip
    _style_rows(axes, list(CLASSES))
    _color_class_labels(axes.get_yticklabels())
    _label(axes, "Mean estimated probability of malignancy over the images of a case", "")
    return figure


def plot_group_confusion(groups: list[tuple[str, Confusion]]) -> Figure:
    """Plot the confusion matrices of named groups, one row per group."""
    figure, axes = _new_figure(_WIDE_IN, 0.75 + 0.26 * len(groups))
    counts = np.array([confusion for _, confusion in groups], dtype=float)
    totals = counts.sum(axis=2, keepdims=True)
    proportions = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    _shade_cells(axes, proportions.reshape(len(groups), 4))
    for (row, i, j), count in np.ndenumerate(counts):
        proportion = proportions[row, i, j]
        is_missing = np.isnan(proportion)
        text = "none" if is_missing else f"{int(count):,}  ({100 * proportion:.0f} %)"
        color = _QUIET if is_missing else _INK
        axes.text(2 * i + j, row, text, ha="center", va="center", fontsize=7.5, color=color)
    axes.axvline(1.5, color="white", linewidth=10)
    axes.set_xticks(range(4), [f"predicted {name}" for name in CLASSES] * 2)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.xaxis.tick_top()
    upper = axes.secondary_xaxis("top")
    upper.set_xticks([0.5, 2.5], [f"{name}\n" for name in CLASSES])
    _color_class_labels(upper.get_xticklabels())
    upper.tick_params(length=0, pad=5, labelsize=8)
    upper.spines[:].set_visible(False)
    axes.spines[:].set_visible(False)
    return figure


def plot_group_metric(groups: list[tuple[str, Metric]]) -> Figure:
    """Plot one metric of named groups, each with its interval, images and cases."""
    figure, axes = _new_figure(_WIDE_IN, 0.55 + 0.24 * len(groups))
    small: dict[str, Any] = {"va": "center", "fontsize": 7.5, "color": _QUIET}
    for y, (_, metric) in enumerate(groups):
        if metric.value is None:
            axes.text(0.01, y, f"not defined: {metric.note}", **small)
            continue
        if metric.ci_low is not None and metric.ci_high is not None:
            axes.hlines(y, metric.ci_low, metric.ci_high, color=BENIGN, linewidth=1.8, zorder=3)
        axes.plot(
            metric.value, y, marker="o", markersize=6, color=BENIGN, markeredgecolor="white",
            zorder=4, clip_on=False,
        )  # fmt: skip
        support = format_support(metric.n_images, metric.n_cases)
        axes.text(1.02, y, support, transform=axes.get_yaxis_transform(), **small)
    _style_rows(axes, [name for name, _ in groups])
    return figure


def plot_protocols(report: ProtocolComparison) -> Figure:
    """Plot the metrics of each split protocol with intervals and published ranges.

    A protocol without metrics keeps its row, with the reason.
    """
    rows = report.rows
    figure = _new_canvas(11.0, 2.1 + 0.55 * len(rows), pad_in=0.1)
    panels = figure.subplots(1, len(PROTOCOL_PANELS), sharey=True, squeeze=False)[0]
    start = _axis_start(report)
    for axes, (name, title) in zip(panels, PROTOCOL_PANELS.items(), strict=True):
        _plot_panel(axes, report, name, title, start)
    panels[0].set_yticks(range(len(rows)), [_protocol_label(row) for row in rows])
    for tick, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        tick.set(color=MALIGNANT if row.has_leakage else _INK, parse_math=False)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    state = "" if report.is_complete else " (not complete)"
    title = f"One configuration, {len(rows)} split protocols{state}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=_INK)
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


def describe_curve(name: str, metric: Metric) -> str:
    """Return the alternative text of a curve with the metric that summarizes it."""
    return f"{_format_metric(name, metric)}."


def describe_calibration(calibration: CalibrationResult) -> str:
    """Return the alternative text of `plot_calibration`."""
    points = "; ".join(
        f"predicted {group.mean_prob:.2f}, observed {group.observed.value:.2f}"
        for group in calibration.bins
        if group.observed.value is not None
    )
    return f"Calibration: {points}."


def describe_cases(cases: pd.DataFrame, threshold: float) -> str:
    """Return the alternative text of `plot_cases`."""
    n_incorrect = int((cases["predicted_class"] != cases["class"]).sum())
    return (
        f"{len(cases)} cases by their mean probability. "
        f"{n_incorrect} of them are on the incorrect side of the threshold {threshold:.3g}."
    )


def describe_group_confusion(groups: list[tuple[str, Confusion]]) -> str:
    """Return the alternative text of `plot_group_confusion`."""
    rows = (
        f"{name}: {tn} of {tn + fp} benign and {tp} of {fn + tp} malignant correct"
        for name, ((tn, fp), (fn, tp)) in groups
    )
    return "; ".join(rows) + "."


def describe_group_metric(groups: list[tuple[str, Metric]]) -> str:
    """Return the alternative text of `plot_group_metric`."""
    return "; ".join(_format_metric(name, metric) for name, metric in groups) + "."


def _new_canvas(width_in: float, height_in: float, *, pad_in: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=pad_in, h_pad=pad_in)
    figure = Figure(figsize=(width_in, height_in), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _new_figure(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    figure = _new_canvas(width_in, height_in, pad_in=0.05)
    axes = figure.add_subplot()
    axes.tick_params(length=0, pad=4, colors=_INK, labelsize=8)
    axes.set_axisbelow(True)
    return figure, axes


def _shade_cells(axes: Axes, proportions: np.ndarray) -> None:
    """Draw a matrix from the top down, with cells at integer coordinates."""
    # `ConfusionMatrixDisplay` would embed a raster image, which the policy of HTML reports blocks.
    rows, columns = proportions.shape
    axes.pcolormesh(
        np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, np.ma.masked_invalid(proportions),
        cmap=_SHADES, vmin=0, vmax=1, edgecolors="white", linewidth=3,
    )  # fmt: skip
    axes.set_ylim(rows - 0.5, -0.5)


def _style_unit_axes(axes: Axes) -> None:
    """Set both axes to the range of a probability."""
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for line in axes.lines:
        line.set_clip_on(False)
    axes.spines[:].set_color(_FRAME)
    axes.grid(color=_GRID, linewidth=0.8)


def _style_rows(axes: Axes, names: list[str]) -> None:
    """Set the x axis to the range of a probability and name the rows."""
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _color_class_labels(labels: Iterable[Text]) -> None:
    for label, color in zip(labels, (BENIGN, MALIGNANT), strict=True):
        label.set(color=color, fontweight="bold")


def _label(axes: Axes, x: str, y: str, title: str = "") -> None:
    axes.set_xlabel(x, color=_INK, fontsize=8, labelpad=4)
    axes.set_ylabel(y, color=_INK, fontsize=8, labelpad=4)
    if title:
        # The name of a protocol comes from the user. It can contain a dollar sign.
        axes.set_title(title, loc="left", fontsize=8.5, color=_INK, pad=8, parse_math=False)


def _add_legend(axes: Axes, **location: Any) -> None:
    axes.legend(
        fontsize=7, labelcolor=_INK, frameon=True, framealpha=0.85, edgecolor="none",
        handlelength=1.6, borderpad=0.3, **location,
    )  # fmt: skip


def _mark_threshold(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot(
        [x], [y], marker="o", markersize=8, linestyle="none", color=MALIGNANT,
        markeredgecolor="white", zorder=5, label=f"Threshold {threshold:.3g}",
    )  # fmt: skip


def _value(metric: Metric) -> float:
    assert metric.value is not None, "The caller has images of both classes."
    return metric.value


def _format_metric(name: str, metric: Metric) -> str:
    if metric.value is None:
        return f"{name} not defined"
    if metric.ci_low is None:
        return f"{name} {metric.value:.3f} (no interval)"
    return f"{name} {metric.value:.3f}\n(95 % CI {metric.ci_low:.3f}-{metric.ci_high:.3f})"


def _spread_markers(means: np.ndarray) -> list[float]:
    """Return vertical offsets that separate neighboring markers at ascending positions."""
    steps = (0.0, -0.13, 0.13, -0.26, 0.26, -0.39, 0.39)
    last: dict[float, float] = {}
    offsets = []
    for x in means:
        free = [step for step in steps if x - last.get(step, -np.inf) >= 0.014]
        chosen = free[0] if free else min(steps, key=lambda step: last[step])
        last[chosen] = float(x)
        offsets.append(chosen)
    return offsets


def _plot_panel(
    axes: Axes, report: ProtocolComparison, name: str, title: str, start: float
) -> None:
    for published in report.published_ranges:
        if published.metric == name:
            color, hatch = _PUBLISHED_STYLES[published.protocol]
            axes.axvspan(
                published.lowest, published.highest, facecolor=color, edgecolor="white",
                hatch=hatch, linewidth=0, alpha=0.8, zorder=0,
            )  # fmt: skip
    axes.axvline(MAX_PLAUSIBLE, color=_WARNING, linestyle=_DASHES, linewidth=1, zorder=1)
    for y, row in enumerate(report.rows):
        _plot_protocol(axes, y, row, name, start)
    axes.set_xlim(start, 1.004)
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.tick_params(length=0, colors=_INK, labelsize=9)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_color(_FRAME)


def _plot_protocol(axes: Axes, y: int, row: ProtocolRow, name: str, start: float) -> None:
    metric = row.metrics.get(name)
    if metric is None or metric.value is None:
        reason = "no run yet" if not row.metrics else "not defined"
        reason = "not possible" if not row.runs else reason
        axes.text(start, y, f"  {reason}", va="center", fontsize=8, color=_QUIET, style="italic")
        return
    style = _protocol_marker(row.has_leakage)
    if metric.ci_low is not None and metric.ci_high is not None:
        limits = [[metric.value - metric.ci_low], [metric.ci_high - metric.value]]
        axes.errorbar(
            metric.value, y, xerr=limits, color=style["color"], linewidth=2, capsize=4, capthick=2,
            fmt="none", zorder=3,
        )  # fmt: skip
    if name == "accuracy" and row.malignant_proportion is not None:
        axes.plot(majority_baseline(row.malignant_proportion)[1], y, **_BASELINE_MARKER, zorder=2)
    axes.plot(metric.value, y, zorder=4, **style)
    warns = name in row.implausible
    text = f"{metric.value:.3f}" + ("" if metric.ci_low is not None else ", no interval")
    # The text must stay inside the frame.
    width = 1 - start
    x = min(max(metric.value, start + 0.06 * width), 1 - (0.17 if warns else 0.09) * width)
    axes.text(
        x, y - 0.22, text + "  warning" * warns, ha="center", va="bottom", fontsize=8.5,
        color=_WARNING if warns else _INK, fontweight="bold" if warns else "normal", zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip


def _protocol_label(row: ProtocolRow) -> str:
    if not row.metrics:
        return f"{row.label}\n{row.n_done} of {len(row.runs)} runs" if row.runs else row.label
    return f"{row.label}\n{format_support(row.n_images, row.n_cases)}"


def _protocol_legend(report: ProtocolComparison) -> list[Artist]:
    ranges: dict[str, Artist] = {}
    for published in report.published_ranges:
        color, hatch = _PUBLISHED_STYLES[published.protocol]
        ranges[published.protocol] = Patch(
            facecolor=color, edgecolor="white", hatch=hatch, linewidth=0, label=published.label
        )
    warning = f"warning above {MAX_PLAUSIBLE}"
    markers = (
        (_protocol_marker(True) | {"linewidth": 2}, "with leakage, 95 % CI over cases"),
        (_protocol_marker(False) | {"linewidth": 2}, "leakage-free, 95 % CI over cases"),
        (_BASELINE_MARKER | {"linestyle": "none"}, "majority baseline"),
        ({"color": _WARNING, "linestyle": _DASHES, "linewidth": 1}, warning),
    )  # fmt: skip
    return [*(Line2D([], [], label=label, **style) for style, label in markers), *ranges.values()]


_BASELINE_MARKER: dict[str, Any] = {
    "marker": "|", "markersize": 13, "markeredgewidth": 1.5, "color": _QUIET,
}  # fmt: skip


def _protocol_marker(has_leakage: bool) -> dict[str, Any]:
    # The shape distinguishes the two kinds as well, for prints in gray.
    color = MALIGNANT if has_leakage else BENIGN
    return {
        "marker": "D" if has_leakage else "o", "markersize": 8, "color": color,
        "markerfacecolor": "white" if has_leakage else color, "markeredgewidth": 2,
    }  # fmt: skip


def _axis_start(report: ProtocolComparison) -> float:
    """Return the start of the metric axes: a tenth below every value, and at most 0.5."""
    metrics = [row.metrics.get(name) for row in report.rows for name in PROTOCOL_PANELS]
    values = [value for m in metrics if m is not None for value in (m.value, m.ci_low)]
    values += [row.malignant_proportion for row in report.rows]
    lowest = min(0.5, *(value for value in values if value is not None), 0.5)
    return max(0.0, int(10 * lowest) / 10)
