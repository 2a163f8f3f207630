"""Pictures of a report as PNG bytes: the confusion matrix and the ROC curve.

Drawn with matplotlib's objects and never with pyplot, whose global state a server with several
threads must not share.
"""

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Sheet
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bc_model.data.names import CLASSES
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.result import Report

# Told apart by readers with every common form of colour blindness (Okabe and Ito).
BENIGN = "#0072B2"
MALIGNANT = "#D55E00"

_INK = "#262626"
_QUIET = "#767676"
_CURVE = "#2F5D86"
# Light to the end, so that one dark ink reads well on every cell (8 to 1 on the deepest).
_SHADES = LinearSegmentedColormap.from_list("calm", ["#F4F7FA", "#9DC0E1"])
_DPI = 150


def confusion_png(report: Report) -> bytes:
    """Draw the confusion matrix: counts, and the share of each true class.

    The shade follows the share of the row and not the count, or the larger class would look the
    better recognised one.

    Parameters
    ----------
    report : Report

    Returns
    -------
    bytes
        A PNG of 750 x 690 pixels.
    """
    sheet, axes = _sheet(5.0, 4.6)
    totals = [sum(row) for row in report.confusion]
    shares = [
        [cell / total if total else 0.0 for cell in row]
        for row, total in zip(report.confusion, totals, strict=True)
    ]
    axes.imshow(shares, cmap=_SHADES, vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(report.confusion):
        for j, count in enumerate(row):
            share = f"{100 * shares[i][j]:.1f} % of {CLASSES[i]}" if totals[i] else "no pictures"
            axes.text(j, i - 0.06, f"{count:,}", ha="center", va="center", color=_INK, fontsize=20)
            axes.text(j, i + 0.16, share, ha="center", va="center", color=_INK, fontsize=10)
    axes.set_xticks([0, 1], ["Benign", "Malignant"])
    axes.set_yticks([0, 1], ["Benign", "Malignant"], rotation=90, va="center")
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        for tick, colour in zip(ticks, (BENIGN, MALIGNANT), strict=True):
            tick.set(color=colour, fontweight="bold")
    # A white seam keeps two cells of one shade apart.
    axes.axhline(0.5, color="white", linewidth=3)
    axes.axvline(0.5, color="white", linewidth=3)
    _label(
        axes,
        title=_title("Confusion matrix", report),
        x=f"Predicted class (malignant at {report.threshold:.3g} or above)",
        y="True class",
    )
    for side in axes.spines.values():
        side.set_visible(False)
    return _png(sheet)


def roc_png(report: Report) -> bytes:
    """Draw the ROC curve with its area, the chance line and the point where the model works.

    Parameters
    ----------
    report : Report

    Returns
    -------
    bytes
        A PNG of 810 x 810 pixels. With one class only it says that there is no curve.
    """
    sheet, axes = _sheet(5.4, 5.4)
    axes.plot([0, 1], [0, 1], linestyle=(0, (4, 4)), color=_QUIET, linewidth=1, label="Chance")
    area = report.figures["roc_auc"]
    if report.roc is None:
        axes.text(
            0.5,
            0.5,
            f"ROC curve {area.text()}",
            ha="center",
            va="center",
            color=_INK,
            bbox={"facecolor": "white", "edgecolor": "none"},
        )
    else:
        axes.plot(
            report.roc.fpr,
            report.roc.tpr,
            color=_CURVE,
            linewidth=2,
            label=_area(area),
            clip_on=False,
            # Above the frame, which a perfect curve runs along.
            zorder=4,
        )
        (tn, fp), (fn, tp) = report.confusion
        axes.plot(
            fp / (tn + fp),
            tp / (fn + tp),
            marker="o",
            markersize=9,
            linestyle="none",
            color=MALIGNANT,
            markeredgecolor="white",
            clip_on=False,
            zorder=5,
            label=f"Threshold {report.threshold:.3g}",
        )
        axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=_INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    _label(
        axes,
        title=_title("ROC curve", report),
        x="Benign pictures called malignant (1 - specificity)",
        y="Malignant pictures called malignant (sensitivity)",
    )
    for side in axes.spines.values():
        side.set_color("#D0D0D0")
    axes.grid(color="#EBEBEB", linewidth=0.8)
    axes.set_axisbelow(True)
    return _png(sheet)


def _area(area: Figure) -> str:
    """Name the curve in the legend, one fact a line: it would not fit in one."""
    if area.value is None:
        return "Model"
    interval = (
        "no interval" if area.low is None else f"95 % interval {area.low:.3f}-{area.high:.3f}"
    )
    cases = f"{area.n_cases} cases" if area.n_cases else "cases unknown"
    return f"AUC {area.value:.3f}\n{interval}\n{area.n:,} pictures, {cases}"


def _title(what: str, report: Report) -> str:
    # A picture is passed on without its report: what flatters must say so itself.
    return f"{what}, protocol '{report.protocol}'" + (" (leaky)" if report.leaky else "")


def _sheet(width_in: float, height_in: float) -> tuple[Sheet, Axes]:
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    sheet = Sheet(figsize=(width_in, height_in), dpi=_DPI, layout=layout, facecolor="white")
    axes = sheet.add_subplot()
    axes.tick_params(length=0, pad=7, colors=_INK, labelsize=10)
    return sheet, axes


def _label(axes: Axes, *, title: str, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_INK, labelpad=6)
    axes.set_ylabel(y, color=_INK, labelpad=6)
    # A protocol's name is a word of the user's and may hold a dollar sign: no formulas in it.
    axes.set_title(title, loc="left", fontsize=11, color=_INK, pad=10, parse_math=False)


def _png(sheet: Sheet) -> bytes:
    stream = BytesIO()
    FigureCanvasAgg(sheet).print_png(stream)
    return stream.getvalue()
