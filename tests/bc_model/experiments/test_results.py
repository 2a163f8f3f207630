"""Pooled metrics of experiments: complete, partial and inconsistent folds."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bc_model.checks import make_check
from bc_model.errors import DataError
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.experiments.plan import Experiment, ExperimentRun, group_labels, plan_experiment
from bc_model.experiments.results import check_selection, pool_predictions, summarize_experiment
from bc_model.training.config import TrainingConfig
from bc_model.training.run import Run
from bc_model.utils.serialization import to_json

BASE = TrainingConfig(data="set", n_folds=3)


@pytest.fixture
def table() -> pd.DataFrame:
    """Return 24 predictions of 12 cases, 6 of each class, in 3 folds."""
    rng = np.random.default_rng(3)
    case = np.repeat(np.arange(12), 2)
    malignant = case % 2 == 1
    return pd.DataFrame(
        {
            "path": [f"p{i:02d}.png" for i in range(24)], "sha256": "", "magnification": 200,
            "case": [f"c{n}" for n in case],
            "class": np.where(malignant, "malignant", "benign"),
            "prob_malignant": np.clip(rng.normal(0.4 + 0.3 * malignant, 0.2), 0, 1),
            "fold": case // 2 % 3,
        }
    )  # fmt: skip


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Run]:
    def write_run(member: ExperimentRun, rows: pd.DataFrame, threshold: float = 0.5) -> Run:
        run = Run.create(tmp_path / member.name)
        run.write_config({"config": to_json(member.config), "data_sha256": "d"})
        report = evaluate_predictions(
            rows.drop(columns="fold"), protocol="case", has_leakage=False, threshold=threshold
        )
        report.save(run.evaluation_dir)
        run.write_status("done")
        return run

    return write_run


def experiment_of(*groups: str) -> Experiment:
    runs = [
        ExperimentRun(
            f"cv-{group}{fold}", f"{group}{fold}", group, dataclasses.replace(BASE, test_fold=fold)
        )
        for group in groups
        for fold in range(3)
    ]
    return Experiment("cv", "2026-11-24", tuple(runs))


def planned(grid: dict[str, list], base: TrainingConfig = BASE) -> Experiment:
    """Return the experiment of a grid."""
    plan = plan_experiment(base, grid=grid)
    groups = group_labels([config for _, config in plan])
    return Experiment(
        "s",
        "",
        tuple(
            ExperimentRun(label, label, g, s) for (label, s), g in zip(plan, groups, strict=True)
        ),
    )


def test_pool_predictions_metrics_match_all_predictions(
    table: pd.DataFrame, finished: Callable[..., Run]
) -> None:
    runs = [finished(m, table[table["fold"] == m.fold]) for m in experiment_of("a").runs]
    report = pool_predictions(runs)
    truth = table["class"] == "malignant"
    predicted = table["prob_malignant"] >= 0.5
    for name, expected in (
        ("accuracy", accuracy_score(truth, predicted)),
        ("balanced_accuracy", balanced_accuracy_score(truth, predicted)),
        ("roc_auc", roc_auc_score(truth, table["prob_malignant"])),
    ):
        metric = report.metrics[name]
        assert metric.value == pytest.approx(expected, abs=1e-12)
        assert (metric.n_images, metric.n_cases) == (24, 12)
        assert metric.ci_low is not None
        assert metric.ci_low < expected < metric.ci_high
    assert report.predictions is not None
    assert dict(report.predictions["run"].value_counts()) == {"cv-a0": 8, "cv-a1": 8, "cv-a2": 8}


def test_pool_predictions_has_leakage_if_one_fold_has(
    table: pd.DataFrame, finished: Callable[..., Run]
) -> None:
    runs = [finished(m, table[table["fold"] == m.fold]) for m in experiment_of("a").runs]
    assert not pool_predictions(runs).has_leakage
    path = runs[2].evaluation_dir / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"has_leakage": True}))
    assert pool_predictions(runs).has_leakage


def test_summarize_experiment_partial_groups_have_progress_checks(
    table: pd.DataFrame, finished: Callable[..., Run], tmp_path: Path
) -> None:
    experiment = experiment_of("a", "b")
    for member in experiment.runs[:2]:
        finished(member, table[table["fold"] == member.fold])
    for member in experiment.runs[2:4]:
        Run.create(tmp_path / member.name).write_status("queued")
    Run.create(tmp_path / experiment.runs[4].name).write_status("failed", message="broken")

    first, second = summarize_experiment(experiment, tmp_path)

    assert (first.group, first.folds, first.n_runs, first.n_failed) == ("a", [0, 1], 3, 0)
    assert first.report is not None
    assert (first.report.n_images, first.report.n_cases) == (16, 8)
    assert first.checks[0] == make_check("BC242", n_done=2, n_runs=3)
    assert (second.folds, second.n_failed, second.report) == ([], 2, None)
    assert second.checks == (make_check("BC241", n_done=0, n_failed=2, n_runs=3),)
    json.dumps([to_json(one) for one in (first, second)], allow_nan=False)


def test_summarize_experiment_complete_group_has_no_progress_check(
    table: pd.DataFrame, finished: Callable[..., Run], tmp_path: Path
) -> None:
    experiment = experiment_of("a")
    for member in experiment.runs:
        finished(member, table[table["fold"] == member.fold])
    (only,) = summarize_experiment(experiment, tmp_path)
    assert (only.folds, only.n_failed) == ([0, 1, 2], 0)
    assert not {"BC241", "BC242"} & {check.code for check in only.checks}


def test_summarize_experiment_repeated_test_image_affects_only_its_group(
    table: pd.DataFrame, finished: Callable[..., Run], tmp_path: Path
) -> None:
    experiment = experiment_of("a", "b")
    for member in experiment.runs:
        fold = 0 if member.group == "b" else member.fold
        finished(member, table[table["fold"] == fold])
    first, second = summarize_experiment(experiment, tmp_path)
    assert first.report is not None
    assert second.report is None
    (check,) = second.checks
    assert check.code == "BC243"
    assert "'p00.png' is a test image of cv-b0 and cv-b1 and cv-b2" in check.params["reason"]


def test_pool_predictions_different_data_or_rules_raise(
    table: pd.DataFrame, finished: Callable[..., Run]
) -> None:
    first, second, third = experiment_of("a").runs
    runs = [finished(m, table[table["fold"] == m.fold]) for m in (first, second)]
    runs[1].write_config(runs[1].read_config() | {"data_sha256": "e"})
    with pytest.raises(DataError, match="cv-a1 and cv-a0 differ in dataset"):
        pool_predictions(runs)
    runs[1] = finished(third, table[table["fold"] == 2], threshold=0.4)
    with pytest.raises(DataError, match="cv-a2 and cv-a0 differ in threshold or protocol"):
        pool_predictions(runs)


def test_check_selection_several_configs_on_one_split_warns() -> None:
    checks = check_selection(planned({"dropout": [0.1, 0.5], "seed": [1, 2]}))
    assert checks == (make_check("BC248", n_groups=4),)
    assert check_selection(planned({})) == ()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("split_seed", [0, 1]),
        ("n_folds", [3, 4]),
        ("data", ["set", "other"]),
        ("protocol", ["folds", "folds-clean"]),
        ("official_fold_file", ["dsfold1.txt", "dsfold2.txt"]),
    ],
)
def test_check_selection_different_splits_warn(name: str, values: list[object]) -> None:
    official = name in ("protocol", "official_fold_file")
    base = (
        dataclasses.replace(BASE, protocol="folds", official_fold_file="f.txt")
        if official
        else BASE
    )
    checks = check_selection(planned({name: values, "dropout": [0.1, 0.5]}, base))
    assert checks == (make_check("BC247", n_groups=4),)


def test_check_selection_different_folds_warn() -> None:
    first, second, _ = experiment_of("a").runs
    experiment = Experiment("s", "", (first, dataclasses.replace(second, group="b")))
    assert check_selection(experiment) == (make_check("BC247", n_groups=2),)
