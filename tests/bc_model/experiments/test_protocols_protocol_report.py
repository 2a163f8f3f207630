"""A report of four protocols from predictions made here: pooled, averaged, compared, alarmed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bc_model.checks import check_to_json, make_check
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE, write_split
from bc_model.errors import RunError
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.experiments.plan import Experiment, ExperimentRun
from bc_model.experiments.protocols import (
    REPORTED_METRICS,
    ProtocolReport,
    is_one_recipe,
    note_file,
    summarize_protocols,
)
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import dumps, loads, to_json

BASE = TrainingConfig(data="set", n_folds=3)
N_CASES = 24
FILES = {"/f/a.txt": range(12), "/f/b.txt": range(6, 18)}


def all_images(quality: float, seed: int) -> pd.DataFrame:
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


def in_test(config: TrainingConfig) -> pd.Series:
    table = all_images(QUALITY[config.protocol], 0)
    if config.official_fold_file:
        return table["number"].isin(FILES[config.official_fold_file])
    return table["number"] // 2 % 3 == config.test_fold


def member(protocol: str, fold: int = 0, file: str = "", **how: object) -> ExperimentRun:
    config = dataclasses.replace(
        BASE, protocol=protocol, test_fold=fold, official_fold_file=file, **how
    )
    label = f"{protocol}-{Path(file).stem if file else f'fold{fold}'}"
    return ExperimentRun(f"rep-{label}", label, protocol, config)


EXPERIMENT = Experiment(
    "rep", "2026-11-25",
    (
        *(member("image", fold) for fold in range(3)),
        *(member(protocol, file=file) for protocol in ("folds", "folds-clean") for file in FILES),
        *(member("case", fold) for fold in range(3)),
    ),
)  # fmt: skip


def finish(
    folder: Path, one: ExperimentRun, quality: float | None = None, rows: pd.Series | None = None
) -> Run:
    """Make a run of a study that is done."""
    protocol = one.config.protocol
    table = all_images(quality or QUALITY[protocol], one.fold + len(one.label))
    rows = in_test(one.config) if rows is None else rows
    run = Run.create(folder / one.run)
    run.write_config({"config": to_json(one.config), "data_sha256": "d"})
    evaluate_predictions(
        table[rows].drop(columns="number"), protocol=protocol,
        has_leakage=protocol in PROTOCOLS_WITH_LEAKAGE, n_resamples=100,
    ).save(run.evaluation_dir)  # fmt: skip
    # Under a leaky protocol the first test case stands in training as well.
    subset = np.where(rows, "test", "train")
    if protocol in PROTOCOLS_WITH_LEAKAGE:
        subset[np.flatnonzero(rows)[0]] = "train"
    split = table.assign(subset=subset, group=table["case"], protocol=protocol)
    write_split(split.drop(columns=["number", "prob_malignant"]), run.split_file)
    run.write_status("done")
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all ten runs done; only read it."""
    folder = tmp_path_factory.mktemp("runs")
    for one in EXPERIMENT.members:
        finish(folder, one)
    return folder


@pytest.fixture(scope="module")
def report(whole: Path) -> ProtocolReport:
    return summarize_protocols(EXPERIMENT, whole)


def rows_of(report: ProtocolReport) -> dict[str, object]:
    return {row.protocol: row for row in report.rows}


def test_folds_are_pooled(report: ProtocolReport) -> None:
    row = rows_of(report)["case"]
    parts = [
        all_images(0.2, m.fold + len(m.label))[in_test(m.config)]
        for m in EXPERIMENT.members
        if m.config.protocol == "case"
    ]
    pool = pd.concat(parts)
    truth, called = pool["class"] == "malignant", pool["prob_malignant"] >= 0.5
    for name, expected in (
        ("accuracy", accuracy_score(truth, called)),
        ("balanced_accuracy", balanced_accuracy_score(truth, called)),
        ("roc_auc", roc_auc_score(truth, pool["prob_malignant"])),
        ("recognition_rate", (truth == called).groupby(pool["case"]).mean().mean()),
    ):
        assert row.metrics[name].value == pytest.approx(expected, abs=1e-12)
    assert (row.n, row.n_cases, row.n_benign_cases, row.n_malignant_cases) == (96, 24, 12, 12)
    assert (row.malignant_proportion, row.spread, row.shared.proportion) == (0.5, {}, 0)
    assert row.rests_on == "all 3 folds, each picture tested once"
    assert tuple(row.metrics) == tuple(REPORTED_METRICS)


def test_official_files_are_averaged_with_their_spread(report: ProtocolReport) -> None:
    row = rows_of(report)["folds"]
    accuracies = []
    for m in EXPERIMENT.members:
        if m.config.protocol == "folds":
            subset = all_images(0.35, m.fold + len(m.label))[in_test(m.config)]
            called = subset["prob_malignant"] >= 0.5
            accuracies.append(accuracy_score(subset["class"] == "malignant", called))
    assert row.metrics["accuracy"].value == pytest.approx(np.mean(accuracies), abs=1e-12)
    spread = row.spread["accuracy"]
    assert (spread.low, spread.high) == (min(accuracies), max(accuracies))
    assert (row.n, row.n_cases) == (18 * 4, 18)
    assert row.rests_on == "mean over 2 official files"
    assert row.has_leakage
    assert row.words == "official folds (leaky)"
    assert row.malignant_proportion == 0.5
    # 48 test pictures in each file, one of the first case moved: its other three have it there.
    assert (row.shared.n, row.shared.n_test) == (6, 94)


def test_averaged_accuracy_stands_beside_the_averaged_base_rate(tmp_path: Path) -> None:
    # File a tests 8 malignant and 24 benign pictures, file b the same 8 and 4 benign: always
    # answering malignant is right for 0.25 and 0.667 of them, and for 8 of 32 in the union.
    experiment = Experiment(
        "rep", "2026", tuple(member("folds-clean", file=file) for file in FILES)
    )
    number = all_images(0.0, 0)["number"]
    for one, benign in zip(experiment.members, (range(0, 12, 2), [0]), strict=True):
        finish(tmp_path, one, quality=1e-9, rows=number.isin([1, 3, *benign]))
    (row,) = summarize_protocols(experiment, tmp_path).rows
    assert row.malignant_proportion == pytest.approx((8 / 32 + 8 / 12) / 2)
    (check,) = (check for check in row.checks if check.code == "BC204")
    assert check.params["majority_accuracy"] == pytest.approx(1 - row.malignant_proportion)


def test_leakage_against_honest_is_paired_where_images_are_shared(report: ProtocolReport) -> None:
    by_image, by_file = report.gaps
    assert (by_image.has_leakage, by_image.leakage_free) == ("image", "case")
    assert (by_file.has_leakage, by_file.leakage_free) == ("folds", "folds-clean")
    assert by_image.is_paired
    difference = by_image.differences["balanced_accuracy"]
    rows = rows_of(report)
    assert difference.value == pytest.approx(
        rows["image"].metrics["balanced_accuracy"].value
        - rows["case"].metrics["balanced_accuracy"].value,
        abs=1e-12,
    )
    check = by_image.check
    assert (check.code, check.params["n_images"], check.params["n_cases"]) == ("BC231", 96, 24)
    assert check.params["difference"] == difference.value
    assert by_file.differences["accuracy"].n_images == 72


def test_other_test_images_are_plainly_not_paired(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (member("image", 0), member("case", 1)))
    for one in experiment.members:
        finish(tmp_path, one)
    (gap,) = summarize_protocols(experiment, tmp_path).gaps
    assert not gap.is_paired
    assert gap.check.code == "BC236"


def test_no_leak_is_measured_against_a_row_that_leaks_itself(tmp_path: Path) -> None:
    """As a model does that began with weights which know the test cases."""
    experiment = Experiment("rep", "2026", (member("image", 0), member("case", 0)))
    for one in experiment.members:
        finish(tmp_path, one)
    assert summarize_protocols(experiment, tmp_path).gaps
    path = tmp_path / experiment.members[1].run / "evaluation" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"has_leakage": True}))
    assert summarize_protocols(experiment, tmp_path).gaps == []


def test_a_figure_above_097_raises_the_alarm(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (member("case"),))
    finish(tmp_path, experiment.members[0], quality=0.95)
    report = summarize_protocols(experiment, tmp_path)
    (row,) = report.rows
    assert row.alarms == ("balanced_accuracy", "accuracy", "roc_auc", "recognition_rate")
    (check,) = (check for check in row.checks if check.code == "BC203")
    assert check.params["metrics"][:2] == ["balanced accuracy 1.000", "accuracy 1.000"]


def test_nothing_is_alarmed_below(report: ProtocolReport) -> None:
    assert rows_of(report)["case"].alarms == ()
    assert "BC203" not in [check.code for check in rows_of(report)["case"].checks]


def test_what_is_not_in_yet_is_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    for one in EXPERIMENT.members[:2]:
        finish(tmp_path, one)
    Run.create(tmp_path / EXPERIMENT.members[3].run).write_status("failed", message="broken")
    for one in (EXPERIMENT.members[2], *EXPERIMENT.members[4:-1]):
        Run.create(tmp_path / one.run).write_status("queued")
    report = summarize_protocols(EXPERIMENT, tmp_path)
    rows = rows_of(report)
    assert rows["image"].metrics
    assert rows["image"].checks[0] == make_check("BC242", n_done=2, n_runs=3)
    assert rows["image"].rests_on == "test folds 0, 1 of 3"
    assert rows["folds"].checks == (make_check("BC241", n_done=0, n_failed=1, n_runs=2),)
    assert (rows["case"].metrics, rows["case"].n_failed) == ({}, 1)  # its last run is missing
    assert report.checks[0] == make_check("BC241", n_done=2, n_failed=2, n_runs=10)
    assert (report.gaps, report.is_whole, report.is_over) == ([], False, False)
    assert loads(ProtocolReport, dumps(report)) == report


def test_what_was_left_out_keeps_its_row(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (member("case"),))
    finish(tmp_path, experiment.members[0])
    skipped = {"folds": [check_to_json(make_check("BC246"))]}
    note = {"version": 2, "protocols": ["folds", "case"], "skipped": skipped}
    note_file(tmp_path, "rep").write_text(json.dumps(note))
    report = summarize_protocols(experiment, tmp_path)
    assert [row.protocol for row in report.rows] == ["folds", "case"]
    assert (report.rows[0].checks, report.rows[0].rests_on) == ((make_check("BC246"),), "no run")
    assert report.is_whole


def test_runs_of_several_recipes_are_no_report(tmp_path: Path) -> None:
    experiment = Experiment("s", "2026", (member("case"), member("case", seed=1)))
    assert not is_one_recipe(experiment)
    with pytest.raises(RunError, match="differ in more than their split"):
        summarize_protocols(experiment, tmp_path)


def test_runs_that_saw_other_images_are_told(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (member("image"), member("case")))
    for one in experiment.members:
        run = finish(tmp_path, one)
    run.write_config(run.read_config() | {"data_sha256": "e"})
    assert make_check("BC244") in summarize_protocols(experiment, tmp_path).checks


def test_folds_that_cannot_be_pooled_are_told_in_their_row(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (member("case", 0), member("case", 1)))
    finish(tmp_path, experiment.members[0])
    finish(tmp_path, experiment.members[1], rows=in_test(experiment.members[0].config))
    (row,) = summarize_protocols(experiment, tmp_path).rows
    assert row.metrics == {}
    (check,) = row.checks
    assert check.code == "BC243"
    assert "is in those of rep-case-fold0 and rep-case-fold1" in check.params["reason"]
