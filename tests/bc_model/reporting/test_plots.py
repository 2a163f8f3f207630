"""The pictures of a report: right size, drawn for every kind of report, and what they say."""

import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from bc_model.evaluation import plots
from bc_model.evaluation.plots import confusion_png, roc_png
from bc_model.evaluation.report import Report, evaluate_predictions


def _report(
    *,
    classes: tuple[str, ...] = ("benign", "malignant"),
    protocol: str = "case",
    leaky: bool = False,
    spread: float = 0.5,
) -> Report:
    rng = np.random.default_rng(0)
    n = 60
    truth = [classes[i % len(classes)] for i in range(n)]
    base = np.where(np.array(truth) == "malignant", 0.7, 0.3)
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(n)],
            "sha256": "",
            "case": [f"{t[0]}{i % 5}" for i, t in enumerate(truth)],
            "class": truth,
            "magnification": 40,
            "prob_malignant": np.clip(base + spread * (rng.random(n) - 0.5), 0, 1),
        }
    )
    return evaluate_predictions(frame, protocol=protocol, leaky=leaky, n_resamples=100)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect every text that is on the picture when it is drawn."""
    seen: list[str] = []
    png = plots._png

    def spy(sheet: Any) -> bytes:
        data = png(sheet)
        seen.extend(t.get_text() for t in sheet.findobj(Text) if t.get_text())
        return data

    monkeypatch.setattr(plots, "_png", spy)
    return seen


def _size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("classes", [("benign", "malignant"), ("benign",), ("malignant",)])
def test_pictures_of_every_report(classes: tuple[str, ...]) -> None:
    report = _report(classes=classes)
    assert _size(confusion_png(report)) == (750, 690)
    assert _size(roc_png(report)) == (810, 810)


def test_confusion_says_counts_and_shares(words: list[str]) -> None:
    report = _report(spread=0.9)
    (tn, fp), _ = report.confusion
    confusion_png(report)
    assert str(tn) in words
    assert f"{100 * fp / (tn + fp):.1f} % of benign" in words
    assert {"Benign", "Malignant", "True class"} <= set(words)
    assert "Predicted class (malignant at 0.5 or above)" in words


def test_confusion_of_a_missing_class(words: list[str]) -> None:
    confusion_png(_report(classes=("benign",)))
    assert words.count("no pictures") == 2


def test_roc_says_area_interval_cases_and_threshold(words: list[str]) -> None:
    report = _report(spread=0.9)
    area = report.figures["roc_auc"]
    roc_png(report)
    assert area.low is not None
    legend = f"AUC {area.value:.3f}\n95 % interval {area.low:.3f}-{area.high:.3f}"
    assert f"{legend}\n60 pictures, 10 cases" in words
    assert {"Chance", "Threshold 0.5"} <= set(words)


def test_roc_without_interval_says_so(words: list[str]) -> None:
    roc_png(_report(spread=0.0))
    assert "AUC 1.000\nno interval\n60 pictures, 10 cases" in words


def test_roc_of_one_class_is_words(words: list[str]) -> None:
    roc_png(_report(classes=("malignant",)))
    assert "ROC curve not defined: only one class present" in words


def test_the_working_point_lies_on_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, Any]] = []
    plot = Axes.plot

    def spy(self: Axes, x: Any, y: Any, **style: Any) -> Any:
        drawn.append((x, y))
        return plot(self, [x] if np.isscalar(x) else x, [y] if np.isscalar(y) else y, **style)

    monkeypatch.setattr(Axes, "plot", spy)
    report = _report(spread=0.9)
    roc_png(report)
    x, y = drawn[-1]
    assert report.figures["sensitivity"].value == y
    assert 1 - report.figures["specificity"].value == pytest.approx(x)  # type: ignore[operator]
    assert report.roc is not None
    assert np.interp(x, report.roc.fpr, report.roc.tpr) >= y - 1e-12


def test_a_leaky_protocol_is_named_and_its_name_is_no_formula(words: list[str]) -> None:
    roc_png(_report(protocol="a $x^ b$", leaky=True))
    assert "ROC curve, protocol 'a $x^ b$' (leaky)" in words


def test_the_same_report_gives_the_same_bytes() -> None:
    assert confusion_png(_report()) == confusion_png(_report())


def test_pyplot_is_never_loaded() -> None:
    code = "import sys, bc_model.evaluation.plots; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
