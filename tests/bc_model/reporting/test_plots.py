"""Charts of reports: sizes, texts, positions of the markers, and determinism."""

import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from bc_model.errors import RunError
from bc_model.evaluation.subgroups import case_table
from bc_model.reporting import plots
from bc_model.utils.measurement import Metric
from tests.bc_model.reporting.examples import predictions, report


def texts(figure: Figure) -> list[str]:
    """Return every text that a figure shows after rendering."""
    plots.figure_to_png(figure)
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def marker(axes: Axes, color: str) -> tuple[float, float]:
    """Return the position of the only marker of a color."""
    (line,) = [x for x in axes.lines if x.get_marker() == "o" and x.get_color() == color]
    ((x, y),) = line.get_xydata()
    return float(x), float(y)


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("one_class", [False, True])
def test_write_plots_writes_both_images(one_class: bool, tmp_path: Path) -> None:
    plots.write_plots(report(predictions(one_class=one_class)), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["confusion.png", "roc.png"]
    assert size((tmp_path / "confusion.png").read_bytes()) == (759, 678)
    assert size((tmp_path / "roc.png").read_bytes()) == (759, 759)


def test_write_plots_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        plots.write_plots(report(), tmp_path / "missing")


def test_plot_confusion_matrix_shows_counts_and_percentages() -> None:
    figure = plots.plot_confusion_matrix(((3, 1), (0, 0)), "cases", title="a $x^ b", threshold=0.25)
    assert {
        "3", "75.0 %", "1", "25.0 %", "no cases", "benign", "malignant", "a $x^ b",
        "Predicted class (malignant at 0.25 or above)", "True class (cases, % of row)",
    } <= set(texts(figure))  # fmt: skip


def test_plot_roc_curve_shows_area_interval_and_threshold() -> None:
    example = report()
    area = example.metrics["roc_auc"]
    figure = plots.plot_roc_curve(example)
    legend = f"AUC {area.value:.3f}\n95 % CI {area.ci_low:.3f}-{area.ci_high:.3f}\n"
    assert any(text.startswith(legend) for text in texts(figure))
    assert {"Chance", "Threshold 0.5"} <= set(texts(figure))


def test_plot_roc_curve_of_one_class_states_the_reason() -> None:
    figure = plots.plot_roc_curve(report(predictions(one_class=True)))
    assert "ROC curve not defined: only one class present" in texts(figure)


def test_threshold_marker_is_on_its_curve() -> None:
    example = report()
    assert example.roc is not None
    (tn, fp), (fn, tp) = example.confusion
    x, y = marker(plots.plot_roc_curve(example).axes[0], plots.MALIGNANT)
    assert (x, y) == pytest.approx((fp / (tn + fp), tp / (fn + tp)))
    assert np.interp(x, example.roc.fpr, example.roc.tpr) >= y - 1e-12
    x, y = marker(plots.plot_precision_recall_curve(example).axes[0], plots.MALIGNANT)
    assert (x, y) == pytest.approx((tp / (fn + tp), tp / (tp + fp)))


def test_plot_calibration_shows_every_bin() -> None:
    calibration = report().calibration
    axes = plots.plot_calibration(calibration).axes[0]
    (points,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert points.get_xdata().tolist() == [group.mean_prob for group in calibration.bins]
    assert len(axes.patches) == len(calibration.bins)
    assert plots.describe_calibration(calibration).count("observed") == len(calibration.bins)


def test_plot_cases_keeps_markers_apart() -> None:
    table = predictions()
    cases = case_table(table, 0.5)
    axes = plots.plot_cases(cases, 0.5).axes[0]
    positions = [tuple(position) for line in axes.lines[:2] for position in line.get_xydata()]
    assert len(positions) == len(cases)
    for k, (x, y) in enumerate(positions):
        assert all(y != other[1] or abs(x - other[0]) >= 0.014 for other in positions[:k])


def test_plot_group_confusion_marks_a_missing_class() -> None:
    groups = [("papillary", ((0, 0), (1, 3)))]
    assert texts(plots.plot_group_confusion(groups)).count("none") == 2
    assert plots.describe_group_confusion(groups) == (
        "papillary: 0 of 0 benign and 3 of 4 malignant correct."
    )


@pytest.mark.parametrize(
    ("n_cases", "expected"), [(0, "14 images, cases unknown"), (1, "14 images, 1 case")]
)
def test_plot_group_metric_shows_support(n_cases: int, expected: str) -> None:
    groups = [("papillary", Metric(0.5, 0.4, 0.6, 14, n_cases, ""))]
    assert expected in texts(plots.plot_group_metric(groups))


def test_plot_group_metric_undefined_states_the_reason() -> None:
    groups = [("papillary", Metric(None, None, None, 14, 1, "", "only one class present"))]
    assert "not defined: only one class present" in texts(plots.plot_group_metric(groups))


def test_figures_of_several_threads_have_the_same_bytes() -> None:
    example = report()

    def draw(_: int) -> tuple[bytes, bytes]:
        figure = plots.plot_roc_curve(example)
        return plots.figure_to_png(figure), plots.figure_to_svg(figure)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(8)))) == 1


def test_figures_are_not_managed_by_pyplot() -> None:
    code = (
        "import sys; from bc_model.reporting import plots; "
        "plots.plot_confusion_matrix(((1, 2), (3, 4))); import matplotlib.pyplot as plt; "
        "sys.exit(len(plt.get_fignums()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
