"""Protocol comparisons: pooled and averaged metrics, leakage effects and checks."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bc_model.checks import make_check
from bc_model.data.splits import PROTOCOLS_WITH_LEAKAGE, write_split
from bc_model.errors import RunError
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.experiments.plan import Experiment, ExperimentRun
from bc_model.experiments.protocols import (
    REPORTED_METRICS,
    ComparisonSpec,
    ProtocolComparison,
    compare_protocols,
    comparison_file,
    is_protocol_comparison,
)
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import dumps, loads, to_json, write_record

BASE = TrainingConfig(data="set", n_folds=3)
N_CASES = 24
FILES = {"/f/a.txt": range(12), "/f/b.txt": range(6, 18)}


def all_images(quality: float, seed: int) -> pd.DataFrame:
    """Return four predictions of each of 24 cases; odd cases are malignant."""
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


def is_test_image(config: TrainingConfig) -> pd.Series:
    table = all_images(QUALITY[config.protocol], 0)
    if config.official_fold_file:
        return table["number"].isin(FILES[config.official_fold_file])
    return table["number"] // 2 % 3 == config.test_fold


def planned_run(protocol: str, fold: int = 0, file: str = "", **changes: object) -> ExperimentRun:
    config = dataclasses.replace(
        BASE, protocol=protocol, test_fold=fold, official_fold_file=file, **changes
    )
    label = f"{protocol}-{Path(file).stem if file else f'fold{fold}'}"
    return ExperimentRun(f"rep-{label}", label, protocol, config)


EXPERIMENT = Experiment(
    "rep", "2026-11-25",
    (
        *(planned_run("image", fold) for fold in range(3)),
        *(planned_run("folds", file=file) for file in FILES),
        *(planned_run("folds-clean", file=file) for file in FILES),
        *(planned_run("case", fold) for fold in range(3)),
    ),
)  # fmt: skip


def finish(
    folder: Path, one: ExperimentRun, quality: float | None = None, rows: pd.Series | None = None
) -> Run:
    """Write a finished run."""
    protocol = one.config.protocol
    table = all_images(quality or QUALITY[protocol], one.fold + len(one.label))
    rows = is_test_image(one.config) if rows is None else rows
    run = Run.create(folder / one.name)
    run.write_config({"config": to_json(one.config), "data_sha256": "d"})
    evaluate_predictions(
        table[rows].drop(columns="number"), protocol=protocol,
        has_leakage=protocol in PROTOCOLS_WITH_LEAKAGE, n_resamples=100,
    ).save(run.evaluation_dir)  # fmt: skip
    # With leakage, an image of the first test case is in training as well.
    subset = np.where(rows, "test", "train")
    if protocol in PROTOCOLS_WITH_LEAKAGE:
        subset[np.flatnonzero(rows)[0]] = "train"
    split = table.assign(subset=subset, group=table["case"], protocol=protocol)
    write_split(split.drop(columns=["number", "prob_malignant"]), run.split_file)
    run.write_status("done")
    return run


@pytest.fixture(scope="module")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with ten finished runs, for reading only."""
    folder = tmp_path_factory.mktemp("runs")
    for one in EXPERIMENT.runs:
        finish(folder, one)
    return folder


@pytest.fixture(scope="module")
def comparison(finished_runs: Path) -> ProtocolComparison:
    return compare_protocols(EXPERIMENT, finished_runs)


def rows_of(comparison: ProtocolComparison) -> dict[str, object]:
    return {row.protocol: row for row in comparison.rows}


def test_compare_protocols_pools_the_folds(comparison: ProtocolComparison) -> None:
    row = rows_of(comparison)["case"]
    parts = [
        all_images(0.2, m.fold + len(m.label))[is_test_image(m.config)]
        for m in EXPERIMENT.runs
        if m.config.protocol == "case"
    ]
    pool = pd.concat(parts)
    truth, predicted = pool["class"] == "malignant", pool["prob_malignant"] >= 0.5
    for name, expected in (
        ("accuracy", accuracy_score(truth, predicted)),
        ("balanced_accuracy", balanced_accuracy_score(truth, predicted)),
        ("roc_auc", roc_auc_score(truth, pool["prob_malignant"])),
        ("recognition_rate", (truth == predicted).groupby(pool["case"]).mean().mean()),
    ):
        assert row.metrics[name].value == pytest.approx(expected, abs=1e-12)
    assert (row.n_images, row.n_cases, row.n_benign_cases, row.n_malignant_cases) == (
        96,
        24,
        12,
        12,
    )
    assert (row.malignant_proportion, row.spread, row.case_overlap.proportion) == (0.5, {}, 0)
    assert row.test_data == "all 3 folds"
    assert tuple(row.metrics) == tuple(REPORTED_METRICS)


def test_compare_protocols_averages_the_fold_files(comparison: ProtocolComparison) -> None:
    row = rows_of(comparison)["folds"]
    accuracies = []
    for m in EXPERIMENT.runs:
        if m.config.protocol == "folds":
            subset = all_images(0.35, m.fold + len(m.label))[is_test_image(m.config)]
            predicted = subset["prob_malignant"] >= 0.5
            accuracies.append(accuracy_score(subset["class"] == "malignant", predicted))
    assert row.metrics["accuracy"].value == pytest.approx(np.mean(accuracies), abs=1e-12)
    spread = row.spread["accuracy"]
    assert (spread.minimum, spread.maximum) == (min(accuracies), max(accuracies))
    assert (row.n_images, row.n_cases) == (18 * 4, 18)
    assert row.test_data == "mean of 2 official fold files"
    assert row.has_leakage
    assert row.label == "official folds (with leakage)"
    assert row.malignant_proportion == 0.5
    # Each file has 48 test images. One image of the first case is in training, so three overlap.
    assert (row.case_overlap.n_overlapping, row.case_overlap.n_test_images) == (6, 94)


def test_compare_protocols_averages_the_malignant_proportion(tmp_path: Path) -> None:
    # File a tests 8 malignant and 24 benign images, file b the same 8 and 4 benign ones.
    experiment = Experiment(
        "rep", "2026", tuple(planned_run("folds-clean", file=file) for file in FILES)
    )
    number = all_images(0.0, 0)["number"]
    for one, benign in zip(experiment.runs, (range(0, 12, 2), [0]), strict=True):
        finish(tmp_path, one, quality=1e-9, rows=number.isin([1, 3, *benign]))
    (row,) = compare_protocols(experiment, tmp_path).rows
    assert row.malignant_proportion == pytest.approx((8 / 32 + 8 / 12) / 2)
    (check,) = (check for check in row.checks if check.code == "BC204")
    assert check.params["majority_accuracy"] == pytest.approx(1 - row.malignant_proportion)


def test_leakage_effects_are_paired_on_common_images(
    comparison: ProtocolComparison,
) -> None:
    by_image, by_file = comparison.leakage_effects
    assert (by_image.leakage_protocol, by_image.leakage_free_protocol) == ("image", "case")
    assert (by_file.leakage_protocol, by_file.leakage_free_protocol) == ("folds", "folds-clean")
    difference = by_image.differences["balanced_accuracy"]
    rows = rows_of(comparison)
    assert difference.value == pytest.approx(
        rows["image"].metrics["balanced_accuracy"].value
        - rows["case"].metrics["balanced_accuracy"].value,
        abs=1e-12,
    )
    check = by_image.check
    assert (check.code, check.params["n_images"], check.params["n_cases"]) == ("BC231", 96, 24)
    assert check.params["difference"] == difference.value
    assert by_file.differences["accuracy"].n_images == 72


def test_leakage_effects_without_common_images_are_unpaired(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (planned_run("image", 0), planned_run("case", 1)))
    for one in experiment.runs:
        finish(tmp_path, one)
    (effect,) = compare_protocols(experiment, tmp_path).leakage_effects
    assert effect.differences == {}
    assert effect.check.code == "BC236"


def test_leakage_effects_skip_clean_protocols_with_leakage(tmp_path: Path) -> None:
    """Initial weights that were trained on test cases cause leakage."""
    experiment = Experiment("rep", "2026", (planned_run("image", 0), planned_run("case", 0)))
    for one in experiment.runs:
        finish(tmp_path, one)
    assert compare_protocols(experiment, tmp_path).leakage_effects
    path = tmp_path / experiment.runs[1].name / "evaluation" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"has_leakage": True}))
    assert compare_protocols(experiment, tmp_path).leakage_effects == []


def test_compare_protocols_metrics_above_097_are_implausible(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (planned_run("case"),))
    finish(tmp_path, experiment.runs[0], quality=0.95)
    comparison = compare_protocols(experiment, tmp_path)
    (row,) = comparison.rows
    assert row.implausible == ("balanced_accuracy", "accuracy", "roc_auc", "recognition_rate")
    (check,) = (check for check in row.checks if check.code == "BC203")
    assert check.params["metrics"][:2] == ["balanced accuracy 1.000", "accuracy 1.000"]


def test_compare_protocols_lower_metrics_are_plausible(comparison: ProtocolComparison) -> None:
    assert rows_of(comparison)["case"].implausible == ()
    assert "BC203" not in [check.code for check in rows_of(comparison)["case"].checks]


def test_compare_protocols_partial_results_have_progress_checks(tmp_path: Path) -> None:
    for one in EXPERIMENT.runs[:2]:
        finish(tmp_path, one)
    Run.create(tmp_path / EXPERIMENT.runs[3].name).write_status("failed", message="broken")
    for one in (EXPERIMENT.runs[2], *EXPERIMENT.runs[4:-1]):
        Run.create(tmp_path / one.name).write_status("queued")
    comparison = compare_protocols(EXPERIMENT, tmp_path)
    rows = rows_of(comparison)
    assert rows["image"].metrics
    assert rows["image"].checks[0] == make_check("BC242", n_done=2, n_runs=3)
    assert rows["image"].test_data == "test folds 0, 1 of 3"
    assert rows["folds"].checks == (make_check("BC241", n_done=0, n_failed=1, n_runs=2),)
    assert (rows["case"].metrics, rows["case"].n_failed) == ({}, 1)  # its last run is missing
    assert comparison.checks[0] == make_check("BC241", n_done=2, n_failed=2, n_runs=10)
    assert (comparison.leakage_effects, comparison.is_complete, comparison.is_finished) == (
        [],
        False,
        False,
    )
    assert loads(ProtocolComparison, dumps(comparison)) == comparison


def test_compare_protocols_skipped_protocol_keeps_its_row(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (planned_run("case"),))
    finish(tmp_path, experiment.runs[0])
    spec = ComparisonSpec(("folds", "case"), {"folds": (make_check("BC246"),)})
    write_record(comparison_file(tmp_path, "rep"), spec)
    comparison = compare_protocols(experiment, tmp_path)
    assert [row.protocol for row in comparison.rows] == ["folds", "case"]
    assert (comparison.rows[0].checks, comparison.rows[0].test_data) == (
        (make_check("BC246"),),
        "no run",
    )
    assert comparison.is_complete


def test_compare_protocols_several_configs_raise(tmp_path: Path) -> None:
    experiment = Experiment("s", "2026", (planned_run("case"), planned_run("case", seed=1)))
    assert not is_protocol_comparison(experiment)
    with pytest.raises(RunError, match="differ in more than their split"):
        compare_protocols(experiment, tmp_path)


def test_compare_protocols_different_datasets_warn(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (planned_run("image"), planned_run("case")))
    for one in experiment.runs:
        run = finish(tmp_path, one)
    run.write_config(run.read_config() | {"data_sha256": "e"})
    assert make_check("BC244") in compare_protocols(experiment, tmp_path).checks


def test_compare_protocols_folds_that_cannot_be_pooled_warn_in_their_row(tmp_path: Path) -> None:
    experiment = Experiment("rep", "2026", (planned_run("case", 0), planned_run("case", 1)))
    finish(tmp_path, experiment.runs[0])
    finish(tmp_path, experiment.runs[1], rows=is_test_image(experiment.runs[0].config))
    (row,) = compare_protocols(experiment, tmp_path).rows
    assert row.metrics == {}
    (check,) = row.checks
    assert check.code == "BC243"
    assert "is a test image of rep-case-fold0 and rep-case-fold1" in check.params["reason"]
