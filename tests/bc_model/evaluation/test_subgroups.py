"""Metrics by case, by magnification and by subtype."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bc_model.evaluation.estimates import estimate_metrics
from bc_model.evaluation.predictions import check_predictions
from bc_model.evaluation.subgroups import (
    CASE_METRICS,
    SUBGROUP_METRICS,
    CaseMetrics,
    Subgroup,
    case_table,
    evaluate_cases,
    evaluate_subgroups,
    infer_subtypes,
)
from bc_model.utils.serialization import dumps, loads


def table(rows: list[tuple[str, str, int | None, float]], **more: list[str]) -> pd.DataFrame:
    case, name, magnification, prob = zip(*rows, strict=True)
    frame = pd.DataFrame(
        {
            "path": [f"{i:03d}.png" for i in range(len(rows))],
            "sha256": "",
            "case": case,
            "class": name,
            "magnification": pd.array(magnification, dtype="Int64"),
            "prob_malignant": prob,
            **more,
        }
    )
    return check_predictions(frame)


# Benign cases: b (2 of 3 correct, mean 0.4) and c (correct). Malignant cases: m (1 of 2, mean
# 0.5), o (incorrect) and p (correct). The last image has no case.
ROWS = [
    ("b", "benign", 40, 0.2), ("b", "benign", 40, 0.3), ("b", "benign", 100, 0.7),
    ("c", "benign", 100, 0.1),
    ("m", "malignant", 40, 0.9), ("m", "malignant", 100, 0.1),
    ("o", "malignant", 40, 0.3),
    ("p", "malignant", None, 0.8),
    ("", "malignant", 40, 0.9),
]  # fmt: skip
CONFIG = {"threshold": 0.5, "n_resamples": 200, "seed": 0}


def test_case_table_equals_manual_values() -> None:
    cases = case_table(table(ROWS), 0.5)
    assert cases["case"].tolist() == ["o", "m", "b", "c", "p"]
    assert cases["n_images"].tolist() == [1, 2, 3, 1, 1]
    assert cases["n_correct"].tolist() == [0, 1, 2, 1, 1]
    assert cases["patient_score"].tolist() == pytest.approx([0, 0.5, 2 / 3, 1, 1])
    assert cases["mean_prob"].tolist() == pytest.approx([0.3, 0.5, 0.4, 0.1, 0.8])
    assert cases["predicted_class"].tolist() == [
        "benign",
        "malignant",
        "benign",
        "benign",
        "malignant",
    ]


def test_evaluate_cases_equals_manual_values() -> None:
    found = evaluate_cases(table(ROWS), **CONFIG)
    assert found is not None
    assert tuple(found.metrics) == CASE_METRICS
    assert found.confusion == ((2, 0), (1, 2))
    metrics = found.metrics
    assert metrics["recognition_rate"].value == pytest.approx((0 + 0.5 + 2 / 3 + 1 + 1) / 5)
    assert metrics["accuracy"].value == pytest.approx(4 / 5)
    assert metrics["sensitivity"].value == pytest.approx(2 / 3)
    assert (metrics["specificity"].value, metrics["specificity"].n_cases) == (1.0, 2)
    assert metrics["balanced_accuracy"].value == pytest.approx((1 + 2 / 3) / 2)
    rates = metrics["sensitivity"], metrics["specificity"]
    reach = np.hypot(*(rate.value - rate.ci_low for rate in rates)) / 2  # type: ignore[operator]
    assert metrics["balanced_accuracy"].ci_low == pytest.approx((1 + 2 / 3) / 2 - reach)
    # 5 of 6 pairs of cases are ordered correctly, all except o (0.3) and b (0.4).
    assert metrics["roc_auc"].value == pytest.approx(5 / 6)
    assert {name: (one.n_images, one.n_cases) for name, one in metrics.items()} == {
        "recognition_rate": (8, 5), "accuracy": (8, 5), "balanced_accuracy": (8, 5),
        "sensitivity": (4, 3), "specificity": (4, 2), "roc_auc": (8, 5),
    }  # fmt: skip
    theirs = stats.binomtest(4, 5).proportion_ci(0.95, method="wilson")
    assert (metrics["accuracy"].ci_low, metrics["accuracy"].ci_high) == pytest.approx(
        (theirs.low, theirs.high), abs=1e-12
    )
    assert metrics["accuracy"].method == "95 % Wilson over cases"


def test_evaluate_cases_recognition_rate_has_student_interval() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"{name[0]}{k}", name, None, float(np.clip(rng.normal(center, 0.3), 0, 1)))
        for name, center in (("benign", 0.4), ("malignant", 0.6))
        for k in range(40)
        for _ in range(10)
    ]
    found = evaluate_cases(table(rows), threshold=0.5, n_resamples=4000, seed=0)
    assert found is not None
    score = case_table(table(rows), 0.5)
    rate = found.metrics["recognition_rate"]
    spread = np.sqrt(
        sum(g.var(ddof=1) / 40 for _, g in score.groupby("class")["patient_score"]) / 4
    )
    assert rate.ci_low == pytest.approx(rate.value - 1.99 * spread, abs=0.005)
    assert rate.ci_high == pytest.approx(rate.value + 1.99 * spread, abs=0.005)


def test_evaluate_cases_one_class_or_no_case() -> None:
    assert evaluate_cases(table([("", "benign", 40, 0.1)]), **CONFIG) is None
    found = evaluate_cases(table([row for row in ROWS if row[1] == "benign"]), **CONFIG)
    assert found is not None
    assert str(found.metrics["roc_auc"]) == "not defined: only one class present"
    assert str(found.metrics["sensitivity"]) == "not defined: no such case"
    back = loads(CaseMetrics, dumps(found))
    assert back == found


def test_evaluate_cases_excludes_case_of_both_classes() -> None:
    rows = [("x", "benign", 40, 0.9), ("x", "malignant", 40, 0.9), ("y", "malignant", 40, 0.2)]
    found = evaluate_cases(table(rows), **CONFIG)
    assert found is not None
    assert found.confusion == ((0, 0), (1, 0))
    assert evaluate_cases(table(rows[:2]), **CONFIG) is None


def test_evaluate_subgroups_equals_metrics_of_their_images() -> None:
    predictions = table(ROWS)
    groups = evaluate_subgroups(predictions, **CONFIG)
    assert [(g.kind, g.name, g.n_images) for g in groups] == [
        ("magnification", "40X", 5), ("magnification", "100X", 3),
        ("magnification", "not stated", 1),
    ]  # fmt: skip
    first = groups[0]
    assert (first.n_cases, first.malignant_proportion, first.confusion) == (
        3,
        0.6,
        ((2, 0), (1, 2)),
    )
    rows = predictions[predictions["magnification"] == 40]
    assert first.metrics == estimate_metrics(rows, **CONFIG, names=SUBGROUP_METRICS)
    back = loads(Subgroup, dumps(first))
    assert back == first


def test_infer_subtypes_uses_column_or_file_name() -> None:
    frame = table(ROWS[:3])
    frame["path"] = [
        "a/SOB_B_TA-14-3411F-40-001.png", "SOB_M_DC-14-2523-40-001.png", "a/other.png",
    ]  # fmt: skip
    assert infer_subtypes(frame).tolist() == ["tubular_adenoma", "ductal_carcinoma", "unknown"]
    frame["subtype"] = ["x", "", "y"]
    assert infer_subtypes(frame).tolist() == ["x", "", "y"]


def test_evaluate_subgroups_lists_benign_subtypes_first() -> None:
    names = ["tubular_adenoma", "tubular_adenoma", "adenosis", "unknown"]
    names += ["mucinous_carcinoma", "mucinous_carcinoma", "ductal_carcinoma", "unknown", "unknown"]
    groups = [
        g for g in evaluate_subgroups(table(ROWS, subtype=names), **CONFIG) if g.kind == "subtype"
    ]
    assert [g.name for g in groups] == [
        "adenosis", "tubular adenoma", "ductal carcinoma", "mucinous carcinoma", "not stated",
    ]  # fmt: skip
    # A subtype has one class: no ranking, and only one of the rates.
    assert groups[1].metrics["specificity"].value == 1.0
    assert str(groups[1].metrics["sensitivity"]) == "not defined: no malignant images"
    assert str(groups[1].metrics["roc_auc"]) == "not defined: only one class present"
