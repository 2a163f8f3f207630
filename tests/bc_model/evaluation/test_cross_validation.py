"""Averages over overlapping test subsets, compared with scikit-learn and simulations."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bc_model.errors import DataError
from bc_model.evaluation.cross_validation import mean_differences, mean_metrics
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.report import EvaluationReport

NAMES = ("balanced_accuracy", "accuracy", "roc_auc", "sensitivity", "specificity")
EVERY = (*NAMES, "recognition_rate")


def table_of(cases: range | list[int], seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Return five images of each case, with a case effect; odd cases are malignant."""
    case = np.repeat(np.array(list(cases)), 5)
    malignant = case % 2 == 1
    effect = np.array([np.random.default_rng(n).normal(0, 0.12) for n in case])
    noise = np.random.default_rng([seed, 1]).normal(0, 0.1, case.size)
    return pd.DataFrame(
        {
            "path": [f"c{n:02d}-{i % 5}.png" for i, n in enumerate(case)],
            "sha256": "", "magnification": 200, "case": [f"c{n:02d}" for n in case],
            "class": np.where(malignant, "malignant", "benign"),
            "prob_malignant": np.clip(0.4 + 0.2 * malignant + effect + noise + shift, 0, 1),
        }
    )  # fmt: skip


def report_of(table: pd.DataFrame, threshold: float = 0.5) -> EvaluationReport:
    return evaluate_predictions(table, threshold=threshold, protocol="folds", has_leakage=True)


@pytest.fixture(scope="module")
def reports() -> list[EvaluationReport]:
    """Return three holdouts with 16 of 24 cases each, which overlap."""
    subsets = (range(16), range(4, 20), range(8, 24))
    return [report_of(table_of(cases, seed)) for seed, cases in enumerate(subsets)]


def metrics_by_sklearn(report: EvaluationReport) -> dict[str, float]:
    table = report.predictions
    truth = table["class"] == "malignant"
    predicted = table["prob_malignant"] >= report.threshold
    right = (truth == predicted).groupby(table["case"]).mean()
    return {
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
        "accuracy": accuracy_score(truth, predicted),
        "roc_auc": roc_auc_score(truth, table["prob_malignant"]),
        "sensitivity": predicted[truth].mean(),
        "specificity": (~predicted[~truth]).mean(),
        "recognition_rate": right.mean(),
    }


def test_mean_metrics_equal_mean_and_spread_of_runs(reports: list[EvaluationReport]) -> None:
    metrics, spread = mean_metrics(reports, EVERY)
    expected = pd.DataFrame([metrics_by_sklearn(report) for report in reports])
    for name in EVERY:
        assert metrics[name].value == pytest.approx(expected[name].mean(), abs=1e-12)
        assert metrics[name].ci_low < metrics[name].value < metrics[name].ci_high
        assert spread[name].minimum == pytest.approx(expected[name].min(), abs=1e-12)
        assert spread[name].maximum == pytest.approx(expected[name].max(), abs=1e-12)
        assert spread[name].sd == pytest.approx(expected[name].std(), abs=1e-12)
        assert spread[name].n_holdouts == 3


def test_mean_metrics_count_repeated_images_once(
    reports: list[EvaluationReport],
) -> None:
    metrics, _ = mean_metrics(reports, EVERY)
    assert (metrics["accuracy"].n_images, metrics["accuracy"].n_cases) == (24 * 5, 24)
    assert (metrics["sensitivity"].n_images, metrics["sensitivity"].n_cases) == (12 * 5, 12)
    assert "the same draw in each of 3 test subsets" in metrics["accuracy"].method


def test_mean_metrics_one_run_equals_its_report(reports: list[EvaluationReport]) -> None:
    metrics, spread = mean_metrics(reports[:1], EVERY)
    for name in NAMES:
        own = reports[0].metrics[name]
        assert metrics[name].value == pytest.approx(own.value, abs=1e-12)
        assert metrics[name].ci_low == pytest.approx(own.ci_low, abs=1e-12)
        assert metrics[name].ci_high == pytest.approx(own.ci_high, abs=1e-12)
    recognition = reports[0].case_metrics.metrics["recognition_rate"]
    assert metrics["recognition_rate"].value == pytest.approx(recognition.value, abs=1e-12)
    assert metrics["recognition_rate"].ci_low == pytest.approx(recognition.ci_low, abs=1e-12)
    assert spread["accuracy"].sd is None


def test_mean_metrics_repeated_run_keeps_the_interval(
    reports: list[EvaluationReport],
) -> None:
    once, _ = mean_metrics(reports[:1], NAMES)
    thrice, _ = mean_metrics(reports[:1] * 3, NAMES)
    for name in NAMES:
        assert thrice[name].ci_low == pytest.approx(once[name].ci_low, abs=1e-9)
        assert thrice[name].ci_high == pytest.approx(once[name].ci_high, abs=1e-9)


def test_mean_metrics_disjoint_cases_have_shorter_interval(reports: list[EvaluationReport]) -> None:
    disjoint = [report_of(table_of(range(n, n + 16), n)) for n in (0, 100, 200)]
    widths = [
        metric.ci_high - metric.ci_low
        for subset in (disjoint[:1], disjoint)
        for metric in mean_metrics(subset, ["accuracy"])[0].values()
    ]
    assert widths[1] < 0.8 * widths[0]
    # For subsets of one size, the mean is the accuracy of all images.
    tables = pd.concat([report.predictions for report in disjoint])
    three, _ = mean_metrics(disjoint, ["accuracy"])
    assert three["accuracy"].value == pytest.approx(
        accuracy_score(tables["class"] == "malignant", tables["prob_malignant"] >= 0.5), abs=1e-12
    )


def test_mean_metrics_use_threshold_of_each_run() -> None:
    table = table_of(range(16), 0)
    low, high = report_of(table, 0.3), report_of(table, 0.7)
    metrics, _ = mean_metrics([low, high], ["sensitivity"])
    prob = table.loc[table["class"] == "malignant", "prob_malignant"]
    assert metrics["sensitivity"].value == pytest.approx(
        ((prob >= 0.3).mean() + (prob >= 0.7).mean()) / 2, abs=1e-12
    )


def test_mean_metrics_undefined_in_one_run_averages_the_others(
    reports: list[EvaluationReport],
) -> None:
    malignant_only = report_of(table_of([31, 33, 35], 7))
    metrics, spread = mean_metrics([reports[0], malignant_only], EVERY)
    assert metrics["roc_auc"].value == pytest.approx(
        metrics_by_sklearn(reports[0])["roc_auc"], abs=1e-12
    )
    assert metrics["roc_auc"].note == "defined in 1 of 2 test subsets"
    assert spread["roc_auc"].n_holdouts == 1
    assert spread["accuracy"].n_holdouts == 2
    only, spread = mean_metrics([malignant_only, malignant_only], EVERY)
    assert (only["roc_auc"].value, only["roc_auc"].note) == (None, "only one class present")
    assert "roc_auc" not in spread


def test_mean_metrics_single_benign_case_has_interval(
    reports: list[EvaluationReport],
) -> None:
    single = report_of(table_of([2, *range(41, 61, 2)], 3))
    assert single.metrics["specificity"].ci_low is None
    metrics, _ = mean_metrics([*reports, single], NAMES)
    assert metrics["specificity"].ci_low is not None
    assert metrics["roc_auc"].ci_low is not None


def test_mean_metrics_conflicting_labels_raises(reports: list[EvaluationReport]) -> None:
    table = table_of(range(16), 5)
    table.loc[0, "class"] = "malignant"
    with pytest.raises(DataError, match=r"Conflicting class or case of 'c00-0\.png'"):
        mean_metrics([reports[0], report_of(table)], NAMES)


def test_mean_differences_equal_mean_over_pairs(reports: list[EvaluationReport]) -> None:
    others = [report_of(table_of(range(4 * n, 4 * n + 16), n + 10, 0.05)) for n in range(3)]
    found = mean_differences(list(zip(reports, others, strict=True)), NAMES)
    for name in NAMES:
        expected = np.mean(
            [
                metrics_by_sklearn(b)[name] - metrics_by_sklearn(a)[name]
                for a, b in zip(reports, others, strict=True)
            ]
        )
        assert found[name].value == pytest.approx(expected, abs=1e-12)
        assert (found[name].ci_low, found[name].ci_high) != (None, None)
    assert found["accuracy"].n_cases == 24


def test_mean_differences_use_common_images() -> None:
    tables = table_of(range(12), 1), table_of(range(6, 18), 2)
    found = mean_differences([(report_of(tables[0]), report_of(tables[1]))], ["accuracy"])
    common = [f"c{n:02d}" for n in range(6, 12)]
    accuracy = [
        accuracy_score(t["class"] == "malignant", t["prob_malignant"] >= 0.5)
        for t in (table[table["case"].isin(common)] for table in tables)
    ]
    assert found["accuracy"].value == pytest.approx(accuracy[1] - accuracy[0], abs=1e-12)
    assert (found["accuracy"].n_images, found["accuracy"].n_cases) == (30, 6)


def test_mean_differences_no_common_image_is_empty() -> None:
    pair = report_of(table_of(range(8), 1)), report_of(table_of(range(20, 28), 1))
    assert mean_differences([pair], NAMES) == {}


def test_mean_differences_constant_rate_has_no_balanced_interval() -> None:
    table = table_of(range(12), 1)
    table.loc[table["class"] == "benign", "prob_malignant"] = 0.1
    other = table_of(range(12), 2)
    other.loc[other["class"] == "benign", "prob_malignant"] = 0.1
    found = mean_differences([(report_of(table), report_of(other))], NAMES)
    assert found["specificity"].value == 0
    assert found["balanced_accuracy"].note == "specificity has no interval"


@pytest.mark.slow
def test_mean_metrics_overlapping_runs_cover_the_truth() -> None:
    """Five holdouts contain a third of 40 cases; a case has one effect in all of them."""
    rng = np.random.default_rng(0)
    center, case_sd, own_sd = np.array([-1.4, 1.8]), 1.0, 0.66
    sd = np.sqrt(case_sd**2 + own_sd**2 + 1)
    truth = (norm.cdf(1.4 / sd) + norm.cdf(1.8 / sd)) / 2  # Balanced accuracy at logit 0.
    template = report_of(table_of(range(8), 0))  # Its metrics are not used.
    n_covered, n_datasets = 0, 300
    for number in range(n_datasets):
        malignant = np.arange(40) >= 20
        effect = center[malignant.astype(int)] + rng.normal(0, case_sd, 40)
        reports = []
        for _ in range(5):
            tested = np.concatenate(
                [rng.choice(np.flatnonzero(malignant == c), 7, replace=False) for c in (0, 1)]
            )
            case = np.repeat(tested, 12)
            own = rng.normal(0, own_sd, 40)
            logit = effect[case] + own[case] + rng.standard_normal(case.size)
            table = pd.DataFrame(
                {
                    "path": [f"{n}-{i % 12}" for i, n in enumerate(case)],
                    "case": case.astype(str),
                    "class": np.where(malignant[case], "malignant", "benign"),
                    "prob_malignant": 1 / (1 + np.exp(-logit)),
                }
            )
            reports.append(dataclasses.replace(template, predictions=table))
        metric = mean_metrics(
            reports, ["balanced_accuracy"], n_resamples=600, seed=number
        )[0]["balanced_accuracy"]  # fmt: skip
        n_covered += metric.ci_low is not None and metric.ci_low <= truth <= metric.ci_high
    assert 0.92 <= n_covered / n_datasets <= 0.99
