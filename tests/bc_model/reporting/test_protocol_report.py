"""The files of a protocol comparison: JSON, CSV, Markdown and the chart."""

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from bc_model.checks import make_check
from bc_model.errors import RunError
from bc_model.evaluation.cross_validation import Spread
from bc_model.evaluation.published_results import published_ranges
from bc_model.experiments.protocols import REPORTED_METRICS, ProtocolComparison, ProtocolRow
from bc_model.reporting.plots import PROTOCOL_PANELS, figure_to_png, plot_protocols
from bc_model.reporting.protocol_report import protocols_to_csv, write_protocols
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import to_json

NO_RUN_DONE = make_check("BC241", n_done=0, n_failed=0, n_runs=1)


def protocol_report() -> ProtocolComparison:
    """Return a comparison with and without leakage, and with a protocol without runs."""

    def row(protocol: str, value: float, *, has_leakage: bool, **changes: object) -> ProtocolRow:
        metric = Metric(value, value - 0.05, value + 0.02, 96, 24, "bootstrap-t")
        metrics = dict.fromkeys(REPORTED_METRICS, metric)
        runs = {f"rep-{protocol}-{k}": "done" for k in range(2)}
        return ProtocolRow(
            protocol, has_leakage, "all 2 folds", runs, metrics=metrics, n_images=96, n_cases=24,
            n_benign_cases=12, n_malignant_cases=12, malignant_proportion=0.5, **changes,
        )  # fmt: skip

    spread = Spread(0.88, 0.92, 0.02, 2)
    rows = [
        row("image", 0.975, has_leakage=True, implausible=("roc_auc",)),
        row("folds", 0.9, has_leakage=True, spread=dict.fromkeys(REPORTED_METRICS, spread)),
        row("case", 0.7, has_leakage=False),
        ProtocolRow("folder", True, "", {"rep-folder-0": "queued"}, checks=(NO_RUN_DONE,)),
    ]  # fmt: skip
    ranges = [
        published_range for name in PROTOCOL_PANELS for published_range in published_ranges(name)
    ]
    return ProtocolComparison(
        "rep", "2026", {"data": "set", "backbone": "resnet50"}, rows, published_ranges=ranges
    )


def test_write_protocols_writes_readable_files(tmp_path: Path) -> None:
    report = protocol_report()
    write_protocols(report, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert {file.name for file in folder.iterdir()} == {
        "report.json", "metrics.csv", "report.md", "protocols.png", "protocols.svg",
    }  # fmt: skip
    assert json.loads((folder / "report.json").read_text()) == to_json(report)
    with Image.open(folder / "protocols.png") as image:
        assert image.width >= 1650
    root = ElementTree.parse(folder / "protocols.svg").getroot()
    assert root.tag.endswith("svg")
    text = (folder / "report.md").read_text()
    for expected in (
        f"| {report.rows[0].label} | all 2 folds", f"| {report.rows[2].label} | all 2",
        "Research use only",
        "## Published on BreakHis", "arXiv 2203.07707", "backbone resnet50", ", files 0.880",
    ):  # fmt: skip
        assert expected in text
    assert "\n\n\n" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(report.rows)
    assert len({line.count("|") for line in table}) == 1


def test_write_protocols_unwritable_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        write_protocols(protocol_report(), tmp_path / "file")


def test_protocols_csv_has_a_line_for_each_protocol_and_metric() -> None:
    report = protocol_report()
    lines = list(csv.DictReader(io.StringIO(protocols_to_csv(report))))
    assert len(lines) == 3 * len(REPORTED_METRICS) + 1
    (line,) = [x for x in lines if (x["protocol"], x["metric"]) == ("folds", "roc_auc")]
    metric = report.rows[1].metrics["roc_auc"]
    assert (float(line["value"]), float(line["ci_low"])) == (metric.value, metric.ci_low)
    assert (line["has_leakage"], line["n_cases"], line["runs_done"]) == ("true", "24", "2")
    assert (lines[-1]["value"], lines[-1]["note"]) == ("", NO_RUN_DONE.message)


def test_plot_protocols_marks_leakage_by_shape() -> None:
    report = protocol_report()
    figure = plot_protocols(report)
    for axes, name in zip(figure.axes, PROTOCOL_PANELS, strict=True):
        marks = {
            line.get_ydata()[0]: (line.get_marker(), line.get_xdata()[0])
            for line in axes.lines
            if line.get_marker() in ("D", "o")
        }
        for y, row in enumerate(report.rows[:3]):
            assert marks[y] == ("D" if row.has_leakage else "o", row.metrics[name].value)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[0] == f"{report.rows[0].label}\n96 images, 24 cases"
    assert labels[3].endswith("0 of 1 runs")


def test_plot_protocols_same_report_gives_same_bytes() -> None:
    first, second = (figure_to_png(plot_protocols(protocol_report())) for _ in range(2))
    assert first == second
