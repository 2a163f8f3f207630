"""A report of four protocols from predictions made here: pooled, averaged, compared, alarmed."""

import csv
import dataclasses
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bc_model.data.protocols import LEAKY_PROTOCOLS
from bc_model.data.splits import write_split
from bc_model.errors import RunError
from bc_model.evaluation.protocol_files import protocols_csv, protocols_markdown, write_protocols
from bc_model.evaluation.protocol_plot import PANELS, _draw, protocols_png
from bc_model.evaluation.protocol_report import (
    ProtocolReport,
    is_one_recipe,
    summarise_protocols,
)
from bc_model.evaluation.protocol_row import FIGURES
from bc_model.evaluation.report import evaluate_predictions
from bc_model.training.report_study import note_file
from bc_model.training.run_folder import RunFolder
from bc_model.training.settings import TrainSettings
from bc_model.training.study_file import Member, Study
from bc_model.utils.serialization import dumps, loads, read_record

BASE = TrainSettings(data="set", n_folds=3)
N_CASES = 24
FILES = {"/f/a.txt": range(12), "/f/b.txt": range(6, 18)}


def all_pictures(quality: float, seed: int) -> pd.DataFrame:
    """Return four predictions of each of 24 cases, odd ones malignant; fold of a case is n % 3."""
    rng = np.random.default_rng(seed)
    case = np.repeat(np.arange(N_CASES), 4)
    malignant = case % 2 == 1
    effect = rng.normal(0, 0.1, N_CASES)[case] + rng.normal(0, 0.12, case.size)
    return pd.DataFrame(
        {
            "path": [f"p{i:03d}.png" for i in range(case.size)], "sha256": "",
            "magnification": 200, "case": [f"c{n:02d}" for n in case],
            "class": np.where(malignant, "malignant", "benign"),
            "prob_malignant": np.clip(0.5 + quality * (malignant - 0.5) + effect, 0, 1),
            "number": case,
        }
    )  # fmt: skip


QUALITY = {"image": 0.4, "folds": 0.35, "folds-clean": 0.25, "case": 0.2}


def in_test(settings: TrainSettings) -> pd.Series:
    table = all_pictures(QUALITY[settings.protocol], 0)
    if settings.folds_file:
        return table["number"].isin(FILES[settings.folds_file])
    return table["number"] // 2 % 3 == settings.fold


def member(protocol: str, fold: int = 0, file: str = "", **how: object) -> Member:
    settings = dataclasses.replace(BASE, protocol=protocol, fold=fold, folds_file=file, **how)
    label = f"{protocol}-{Path(file).stem if file else f'fold{fold}'}"
    return Member(f"rep-{label}", label, protocol, settings)


STUDY = Study(
    "rep", "2026-11-25",
    (
        *(member("image", fold) for fold in range(3)),
        *(member(protocol, file=file) for protocol in ("folds", "folds-clean") for file in FILES),
        *(member("case", fold) for fold in range(3)),
    ),
)  # fmt: skip


def finish(
    folder: Path, one: Member, quality: float | None = None, rows: pd.Series | None = None
) -> RunFolder:
    """Make a run of a study that is done."""
    protocol = one.settings.protocol
    table = all_pictures(quality or QUALITY[protocol], one.fold + len(one.label))
    rows = in_test(one.settings) if rows is None else rows
    run = RunFolder.create(folder / one.run)
    run.write_config({"settings": one.settings.as_dict(), "data_sha256": "d"})
    evaluate_predictions(
        table[rows].drop(columns="number"), protocol=protocol,
        leaky=protocol in LEAKY_PROTOCOLS, n_resamples=100,
    ).write(run.evaluation_folder)  # fmt: skip
    # Under a leaky protocol the first test case stands in training as well.
    part = np.where(rows, "test", "train")
    if protocol in LEAKY_PROTOCOLS:
        part[np.flatnonzero(rows)[0]] = "train"
    split = table.assign(part=part, group=table["case"], protocol=protocol)
    write_split(split.drop(columns=["number", "prob_malignant"]), run.split_file)
    run.write_status("done")
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all ten runs done; only read it."""
    folder = tmp_path_factory.mktemp("runs")
    for one in STUDY.members:
        finish(folder, one)
    return folder


@pytest.fixture(scope="module")
def report(whole: Path) -> ProtocolReport:
    return summarise_protocols(STUDY, whole)


@pytest.fixture(scope="module")
def folder(report: ProtocolReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of the report."""
    out = tmp_path_factory.mktemp("out") / "deep/er"
    write_protocols(report, out)
    return out


def rows_of(report: ProtocolReport) -> dict[str, object]:
    return {row.protocol: row for row in report.rows}


def test_folds_are_pooled(report: ProtocolReport) -> None:
    row = rows_of(report)["case"]
    parts = [
        all_pictures(0.2, m.fold + len(m.label))[in_test(m.settings)]
        for m in STUDY.members
        if m.settings.protocol == "case"
    ]
    pool = pd.concat(parts)
    truth, called = pool["class"] == "malignant", pool["prob_malignant"] >= 0.5
    for name, expected in (
        ("accuracy", accuracy_score(truth, called)),
        ("balanced_accuracy", balanced_accuracy_score(truth, called)),
        ("roc_auc", roc_auc_score(truth, pool["prob_malignant"])),
        ("recognition_rate", (truth == called).groupby(pool["case"]).mean().mean()),
    ):
        assert row.figures[name].value == pytest.approx(expected, abs=1e-12)
    assert (row.n, row.n_cases, row.n_benign_cases, row.n_malignant_cases) == (96, 24, 12, 12)
    assert (row.base_rate, row.spread, row.shared.share) == (0.5, {}, 0)
    assert row.rests_on == "all 3 folds, each picture tested once"
    assert tuple(row.figures) == tuple(FIGURES)


def test_official_files_are_averaged_with_their_spread(report: ProtocolReport) -> None:
    row = rows_of(report)["folds"]
    accuracies = []
    for m in STUDY.members:
        if m.settings.protocol == "folds":
            part = all_pictures(0.35, m.fold + len(m.label))[in_test(m.settings)]
            called = part["prob_malignant"] >= 0.5
            accuracies.append(accuracy_score(part["class"] == "malignant", called))
    assert row.figures["accuracy"].value == pytest.approx(np.mean(accuracies), abs=1e-12)
    spread = row.spread["accuracy"]
    assert (spread.low, spread.high) == (min(accuracies), max(accuracies))
    assert (row.n, row.n_cases) == (18 * 4, 18)
    assert row.rests_on == "mean over 2 official files"
    assert row.leaky
    assert row.words == "official folds (leaky)"
    assert row.base_rate == 0.5
    # 48 test pictures in each file, one of the first case moved: its other three have it there.
    assert (row.shared.n, row.shared.n_test) == (6, 94)


def test_averaged_accuracy_stands_beside_the_averaged_base_rate(tmp_path: Path) -> None:
    # File a tests 8 malignant and 24 benign pictures, file b the same 8 and 4 benign: always
    # answering malignant is right for 0.25 and 0.667 of them, and for 8 of 32 in the union.
    study = Study("rep", "2026", tuple(member("folds-clean", file=file) for file in FILES))
    number = all_pictures(0.0, 0)["number"]
    for one, benign in zip(study.members, (range(0, 12, 2), [0]), strict=True):
        finish(tmp_path, one, quality=1e-9, rows=number.isin([1, 3, *benign]))
    (row,) = summarise_protocols(study, tmp_path).rows
    assert row.base_rate == pytest.approx((8 / 32 + 8 / 12) / 2)
    assert any("which is right 0.542 of the time" in sentence for sentence in row.warnings)


def test_leaky_against_honest_is_paired_where_pictures_are_shared(report: ProtocolReport) -> None:
    by_picture, by_file = report.gaps
    assert (by_picture.leaky, by_picture.honest) == ("image", "case")
    assert (by_file.leaky, by_file.honest) == ("folds", "folds-clean")
    assert by_picture.is_paired
    difference = by_picture.differences["balanced_accuracy"]
    rows = rows_of(report)
    assert difference.value == pytest.approx(
        rows["image"].figures["balanced_accuracy"].value
        - rows["case"].figures["balanced_accuracy"].value,
        abs=1e-12,
    )
    assert by_picture.sentence.startswith(
        "On the 96 pictures of 24 cases that both tested, the split by picture (leaky) came to a "
        f"balanced accuracy {difference.value:.3f} above that of the split by case (95 % +"
    )
    assert by_picture.sentence.endswith("the leak flatters.")
    assert by_file.differences["accuracy"].n == 72


def test_other_test_pictures_are_plainly_not_paired(tmp_path: Path) -> None:
    study = Study("rep", "2026", (member("image", 0), member("case", 1)))
    for one in study.members:
        finish(tmp_path, one)
    (gap,) = summarise_protocols(study, tmp_path).gaps
    assert not gap.is_paired
    assert gap.sentence.startswith("Not paired: the split by picture (leaky) and the split by case")
    assert gap.sentence.endswith("may differ for that reason alone.")


def test_no_leak_is_measured_against_a_row_that_leaks_itself(tmp_path: Path) -> None:
    """As a model does that began with weights which know the test cases."""
    study = Study("rep", "2026", (member("image", 0), member("case", 0)))
    for one in study.members:
        finish(tmp_path, one)
    assert summarise_protocols(study, tmp_path).gaps
    path = tmp_path / study.members[1].run / "evaluation" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"leaky": True}))
    assert summarise_protocols(study, tmp_path).gaps == []


def test_a_figure_above_097_raises_the_alarm(tmp_path: Path) -> None:
    study = Study("rep", "2026", (member("case"),))
    finish(tmp_path, study.members[0], quality=0.95)
    report = summarise_protocols(study, tmp_path)
    (row,) = report.rows
    assert row.alarms == ("balanced_accuracy", "accuracy", "roc_auc", "recognition_rate")
    assert report.warnings[-1].startswith("Alarm, better than honest results on such pictures: by")
    assert "accuracy 1.000" in report.warnings[-1]
    assert any(
        sentence.startswith("Alarm: balanced accuracy 1.000, accuracy 1.000")
        for sentence in row.warnings
    )


def test_nothing_is_alarmed_below(report: ProtocolReport) -> None:
    assert rows_of(report)["case"].alarms == ()
    assert not any("by case" in sentence for sentence in report.warnings)


def test_what_is_not_in_yet_is_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    for one in STUDY.members[:2]:
        finish(tmp_path, one)
    RunFolder.create(tmp_path / STUDY.members[3].run).write_status("failed", message="broken")
    for one in (STUDY.members[2], *STUDY.members[4:-1]):
        RunFolder.create(tmp_path / one.run).write_status("queued")
    report = summarise_protocols(STUDY, tmp_path)
    rows = rows_of(report)
    assert rows["image"].figures
    assert rows["image"].warnings[0] == "2 of 3 runs are in: these figures will change."
    assert rows["image"].rests_on == "test folds 0, 1 of 3"
    assert rows["folds"].warnings == ["0 of 2 runs are in, 1 ended without a result."]
    assert (rows["case"].figures, rows["case"].n_failed) == ({}, 1)  # its last run is missing
    assert report.warnings[0] == "2 of 10 runs are in, 2 ended without a result."
    assert (report.gaps, report.is_whole, report.is_over) == ([], False, False)
    assert loads(ProtocolReport, dumps(report)) == report


def test_what_was_left_out_keeps_its_row(tmp_path: Path) -> None:
    study = Study("rep", "2026", (member("case"),))
    finish(tmp_path, study.members[0])
    note = {"version": 1, "protocols": ["folds", "case"], "left_out": {"folds": ["No file."]}}
    note_file(tmp_path, "rep").write_text(json.dumps(note))
    report = summarise_protocols(study, tmp_path)
    assert [row.protocol for row in report.rows] == ["folds", "case"]
    assert (report.rows[0].left_out, report.rows[0].rests_on) == (("No file.",), "no run")
    assert report.is_whole
    assert "official folds (leaky): No file." in protocols_markdown(report)


def test_runs_of_several_recipes_are_no_report(tmp_path: Path) -> None:
    study = Study("s", "2026", (member("case"), member("case", seed=1)))
    assert not is_one_recipe(study)
    with pytest.raises(RunError, match="differ in more than their split"):
        summarise_protocols(study, tmp_path)


def test_runs_that_saw_other_pictures_are_told(tmp_path: Path) -> None:
    study = Study("rep", "2026", (member("image"), member("case")))
    for one in study.members:
        run = finish(tmp_path, one)
    run.write_config(run.read_config() | {"data_sha256": "e"})
    assert "other pictures than each other" in summarise_protocols(study, tmp_path).warnings[-1]


def test_folds_that_cannot_be_pooled_are_told_in_their_row(tmp_path: Path) -> None:
    study = Study("rep", "2026", (member("case", 0), member("case", 1)))
    finish(tmp_path, study.members[0])
    finish(tmp_path, study.members[1], rows=in_test(study.members[0].settings))
    (row,) = summarise_protocols(study, tmp_path).rows
    assert row.figures == {}
    assert "is in those of rep-case-fold0 and rep-case-fold1" in row.warnings[0]


# Files


def test_every_file_is_there_and_can_be_read(report: ProtocolReport, folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {
        "report.json", "figures.csv", "report.md", "protocols.png", "protocols.svg",
    }  # fmt: skip
    assert read_record(folder / "report.json", ProtocolReport) == report
    with Image.open(folder / "protocols.png") as picture:
        assert picture.width == 1650
    root = ElementTree.parse(folder / "protocols.svg").getroot()
    assert root.tag.endswith("svg")


def test_the_table_has_a_line_for_each_protocol_and_figure(
    report: ProtocolReport, folder: Path
) -> None:
    lines = list(csv.DictReader(io.StringIO((folder / "figures.csv").read_text())))
    assert len(lines) == 4 * len(FIGURES)
    (line,) = [x for x in lines if (x["protocol"], x["figure"]) == ("folds", "roc_auc")]
    figure = rows_of(report)["folds"].figures["roc_auc"]
    assert (float(line["value"]), float(line["low"])) == (figure.value, figure.low)
    assert (line["leaky"], line["n_cases"], line["runs_in"]) == ("true", "18", "2")


def test_the_text_carries_the_words(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    for words in (
        "| by picture (leaky) | all 3 folds", "| by case | all 3", "the leak flatters.",
        "Research use only", "## Published on BreakHis", "arXiv 2203.07707", "backbone resnet50",
        "interval draws the same cases in all of them", ", files 0.",
    ):  # fmt: skip
        assert words in text


def test_a_report_without_a_figure_is_written_as_well(tmp_path: Path) -> None:
    report = summarise_protocols(STUDY, tmp_path)
    write_protocols(report, tmp_path / "out")
    lines = list(csv.DictReader(io.StringIO(protocols_csv(report))))
    assert [line["value"] for line in lines] == [""] * 4
    assert "0 of 3 runs are in, 3 ended without a result." in lines[0]["note"]


def test_a_folder_that_cannot_be_written_is_said(report: ProtocolReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="choose a folder that can be written"):
        write_protocols(report, tmp_path / "file")


def test_leaky_is_drawn_in_another_shape(report: ProtocolReport) -> None:
    sheet = _draw(report)
    for axes, name in zip(sheet.axes, PANELS, strict=True):
        marks = {
            line.get_ydata()[0]: (line.get_marker(), line.get_xdata()[0])
            for line in axes.lines
            if line.get_marker() in ("D", "o")
        }
        for y, row in enumerate(report.rows):
            assert marks[y] == ("D" if row.leaky else "o", row.figures[name].value)
    assert next(text.get_text() for text in sheet.axes[0].get_yticklabels()) == (
        "by picture (leaky)\n96 pictures, 24 cases"
    )


def test_the_same_report_is_the_same_picture(report: ProtocolReport, folder: Path) -> None:
    assert protocols_png(report) == (folder / "protocols.png").read_bytes()
