"""The charts of a report as drawings: confusion, ROC, precision-recall, reliability, cases."""

import numpy as np
import pandas as pd

from bc_model.data.names import CLASSES
from bc_model.evaluation.by_case import Confusion
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.reliability import Reliability
from bc_model.evaluation.result import PrCurve, RocCurve
from bc_model.export.drawing import (
    ACCENT,
    ACCENT_LIGHT,
    BENIGN,
    FAINT,
    GRID,
    INK,
    MALIGNANT,
    QUIET,
    Box,
    Dot,
    Drawing,
    Frame,
    Label,
    Line,
    Shape,
)
from bc_model.export.words import support_words

_SIZE = (400.0, 340.0)
_FIELD = (58.0, 44.0, 328.0, 244.0)
"""Left, top, width and height of the field between the axes; words stand above it."""


def confusion_drawing(confusion: Confusion, unit: str) -> Drawing:
    """Draw counts, and the share of each true class, whose shade the cell has.

    Parameters
    ----------
    confusion : tuple of two pairs of int
        Rows are the truth, columns the verdict.
    unit : {'pictures', 'cases'}
    """
    shapes: list[Shape] = []
    left, top, width, height = 92.0, 44.0, 148.0, 118.0
    for j, name in enumerate(CLASSES):
        shapes.append(
            Label(left + (j + 0.5) * (width + 6), 32, f"called {name}", 12, QUIET, "middle")
        )
    for i, row in enumerate(confusion):
        y = top + i * (height + 6)
        shapes.append(Label(left - 12, y + height / 2 + 4, CLASSES[i], 12, INK, "end", bold=True))
        for j, count in enumerate(row):
            share = count / sum(row) if sum(row) else 0.0
            x = left + j * (width + 6)
            ink = "#ffffff" if share > 0.6 else INK
            told = f"{100 * share:.1f} %" if sum(row) else f"no {unit}"
            shapes += [
                Box(x, y, width, height, _shade(share), 4),
                Label(x + width / 2, y + height / 2, f"{count:,}", 26, ink, "middle", bold=True),
                Label(x + width / 2, y + height / 2 + 24, told, 12, ink, "middle"),
            ]
    shapes.append(Label(left, 314, f"{unit}; % of the row", 11, QUIET))
    (tn, fp), (fn, tp) = confusion
    return Drawing(
        *_SIZE,
        tuple(shapes),
        f"Of the {tn + fp} benign {unit} {tn} are called benign and {fp} malignant; of the "
        f"{fn + tp} malignant {unit} {fn} are called benign and {tp} malignant.",
    )


def roc_drawing(curve: RocCurve, confusion: Confusion, area: Figure) -> Drawing:
    """Draw the ROC curve with chance, and the point where the model works."""
    frame = Frame(*_FIELD)
    frame.draw_axes("1 - specificity", "sensitivity")
    frame.draw_curve([(0, 0), (1, 1)], FAINT, 1.2, (4, 4))
    frame.draw_curve(list(zip(curve.fpr, curve.tpr, strict=True)))
    (tn, fp), (fn, tp) = confusion
    x, y = frame.at(fp / (tn + fp), tp / (fn + tp))
    frame.shapes.append(Dot(x, y, 6, MALIGNANT))
    _legend(frame, f"AUC {_told(area)}", "dashed: chance; dot: the cut-off in use")
    return Drawing(*_SIZE, tuple(frame.shapes), f"ROC curve; area {_told(area)}.")


def pr_drawing(curve: PrCurve, confusion: Confusion, base_rate: float, area: Figure) -> Drawing:
    """Draw precision against recall, with the base rate that a model without skill has."""
    frame = Frame(*_FIELD)
    frame.draw_axes("recall (sensitivity)", "precision")
    frame.draw_curve([(0, base_rate), (1, base_rate)], FAINT, 1.2, (4, 4))
    points = list(zip(curve.recall, curve.precision, strict=True))
    # To the left of the first cut-off there is no point; its precision is carried on.
    frame.draw_curve([(0.0, points[0][1]), *points])
    (_, fp), (fn, tp) = confusion
    if tp + fp:
        x, y = frame.at(tp / (fn + tp), tp / (tp + fp))
        frame.shapes.append(Dot(x, y, 6, MALIGNANT))
    words = f"average precision {_told(area)}"
    _legend(frame, words, "dashed: base rate; dot: the cut-off in use")
    return Drawing(*_SIZE, tuple(frame.shapes), f"Precision-recall curve; {words}.")


def reliability_drawing(found: Reliability) -> Drawing:
    """Draw what was seen against what was said, with intervals, and how many pictures said it."""
    frame = Frame(*_FIELD)
    frame.draw_axes("estimated probability of malignancy", "share that is malignant")
    most = max(one.observed.n for one in found.bins)
    for one in found.bins:
        x, y = frame.at(one.low, 0)
        height = 44 * one.observed.n / most
        width = (one.high - one.low) * frame.width
        frame.shapes.append(Box(x + 1.5, y - height, width - 3, height, ACCENT_LIGHT))
    frame.draw_curve([(0, 0), (1, 1)], FAINT, 1.2, (4, 4))
    words = f"expected calibration error {found.ece:.3f}"
    _legend(frame, words, f"by chance alone {found.ece_by_chance:.3f} or more; dashed: honest")
    told = []
    for one in found.bins:
        seen = one.observed
        if seen.value is None or seen.low is None or seen.high is None:
            continue
        ends = [(one.mean_prob, seen.low), (one.mean_prob, seen.high)]
        frame.draw_curve(ends, ACCENT, 1.6)
        frame.shapes.append(Dot(*frame.at(one.mean_prob, seen.value), 5, ACCENT))
        told.append(f"{one.mean_prob:.2f} said, {seen.value:.2f} seen")
    return Drawing(*_SIZE, tuple(frame.shapes), "Reliability: " + "; ".join(told) + ".")


def cases_drawing(cases: pd.DataFrame, threshold: float) -> Drawing:
    """Draw each case as a dot at the mean probability of its pictures, by its true class.

    Parameters
    ----------
    cases : pandas.DataFrame
        As `case_table` returns it.
    threshold : float
    """
    width, height = 820.0, 190.0
    left, field = 92.0, 704.0
    shapes: list[Shape] = []
    for k in range(6):
        x = left + field * k / 5
        shapes += [
            Line(((x, 14), (x, 140)), GRID),
            Label(x, 158, f"{k / 5:.1f}", 10.5, QUIET, "middle"),
        ]
    cut = left + field * threshold
    shapes.append(Line(((cut, 8), (cut, 140)), INK, 1.2, (4, 3)))
    shapes.append(Label(cut + 5, 16, f"cut-off {threshold:.2f}", 10.5, INK))
    for lane, (name, colour) in enumerate(zip(CLASSES, (BENIGN, MALIGNANT), strict=True)):
        middle = 48 + 62 * lane
        shapes.append(Label(left - 12, middle + 4, name, 12, colour, "end", bold=True))
        means = np.sort(cases.loc[cases["class"] == name, "mean_prob"].to_numpy(dtype=float))
        xs = left + field * means
        shapes += [
            Dot(float(x), middle + offset, 5, colour, 0.85)
            for x, offset in zip(xs, _apart(xs), strict=True)
        ]
    title = "mean estimated probability of malignancy of a case's pictures"
    shapes.append(Label(left + field / 2, 180, title, 11.5, QUIET, "middle"))
    wrong = int((cases["called"] != cases["class"]).sum())
    return Drawing(
        width,
        height,
        tuple(shapes),
        f"{len(cases)} cases by their mean probability; {wrong} lie on the wrong side of the "
        f"cut-off {threshold:.2f}.",
    )


def confusions_drawing(rows: list[tuple[str, Confusion]]) -> Drawing:
    """Draw the confusion matrices of several groups below each other, a row each.

    Parameters
    ----------
    rows : list of (str, confusion)
        Name and counts of pictures.
    """
    left, top, step, cell, seam = 210.0, 46.0, 30.0, 140.0, 14.0
    places = [left, left + cell + 3, left + 2 * cell + 3 + seam, left + 3 * cell + 6 + seam]
    shapes: list[Shape] = []
    for i, truth in enumerate(CLASSES):
        middle = places[2 * i] + cell + 1.5
        shapes.append(Label(middle, 14, truth, 12, INK, "middle", bold=True))
        for j, called in enumerate(CLASSES):
            place = places[2 * i + j] + cell / 2
            shapes.append(Label(place, 34, f"called {called}", 11, QUIET, "middle"))
    told = []
    for k, (name, confusion) in enumerate(rows):
        y = top + step * k
        shapes.append(Label(left - 14, y + 17, name, 12, INK, "end"))
        for i, row in enumerate(confusion):
            for j, count in enumerate(row):
                x, whole = places[2 * i + j], sum(row)
                if whole == 0:
                    shapes.append(Label(x + cell / 2, y + 17, "none", 11, FAINT, "middle"))
                    continue
                share = count / whole
                ink = "#ffffff" if share > 0.6 else INK
                text = f"{count:,}  ({100 * share:.0f} %)"
                shapes += [
                    Box(x, y, cell, step - 4, _shade(share), 3),
                    Label(x + cell / 2, y + 17, text, 11.5, ink, "middle"),
                ]
        (tn, fp), (fn, tp) = confusion
        told.append(f"{name}: {tn} of {tn + fp} benign and {tp} of {fn + tp} malignant right")
    return Drawing(820.0, top + step * len(rows) + 4, tuple(shapes), "; ".join(told) + ".")


def intervals_drawing(rows: list[tuple[str, Figure]]) -> Drawing:
    """Draw figures of several groups below each other, each with its interval."""
    width, step, left, field = 820.0, 26.0, 210.0, 420.0
    height = 40 + step * len(rows)
    shapes: list[Shape] = []
    for k in range(6):
        x = left + field * k / 5
        shapes += [
            Line(((x, 8), (x, height - 30)), GRID),
            Label(x, height - 12, f"{k / 5:.1f}", 10.5, QUIET, "middle"),
        ]
    for i, (name, figure) in enumerate(rows):
        y = 24 + step * i
        shapes.append(Label(left - 14, y + 4, name, 12, INK, "end"))
        if figure.value is None:
            shapes.append(Label(left + 6, y + 4, f"not defined: {figure.note}", 11, QUIET))
            continue
        if figure.low is not None and figure.high is not None:
            ends = ((left + field * figure.low, y), (left + field * figure.high, y))
            shapes.append(Line(ends, ACCENT, 2.0))
        shapes.append(Dot(left + field * figure.value, y, 5, ACCENT))
        support = support_words(figure.n, figure.n_cases)
        shapes.append(Label(left + field + 16, y + 4, support, 11, QUIET))
    told = "; ".join(f"{name} {_told(figure)}" for name, figure in rows)
    return Drawing(width, height, tuple(shapes), told + ".")


def _apart(xs: np.ndarray) -> list[float]:
    """Return offsets that keep dots in a lane from covering each other: 0, up, down, further."""
    steps = (0.0, -11.0, 11.0, -22.0, 22.0)
    last: dict[float, float] = {}
    found = []
    for x in xs:
        free = [step for step in steps if x - last.get(step, -np.inf) >= 10]
        chosen = free[0] if free else min(steps, key=lambda step: last[step])
        last[chosen] = float(x)
        found.append(chosen)
    return found


def _legend(frame: Frame, main: str, quiet: str) -> None:
    frame.shapes.append(Label(frame.x, 14, main, 11.5, INK, bold=True))
    frame.shapes.append(Label(frame.x, 31, quiet, 10.5, QUIET))


def _told(figure: Figure) -> str:
    if figure.value is None:
        return "not defined"
    if figure.low is None:
        return f"{figure.value:.3f} (no interval)"
    return f"{figure.value:.3f} (95 % {figure.low:.3f}-{figure.high:.3f})"


def _shade(share: float) -> str:
    """Mix white and the accent, as light as the share is small."""
    light, deep = (0xED, 0xF4, 0xF5), (0x0B, 0x6E, 0x75)
    mixed = (round(a + (b - a) * share) for a, b in zip(light, deep, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
