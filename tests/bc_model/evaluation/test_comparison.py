"""Comparison of two models on the same images: common images, paired interval, conclusion."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.errors import DataError, RunError
from bc_model.evaluation.comparison import (
    COMPARED,
    ComparedModel,
    Comparison,
    Conclusion,
    check_multiplicity,
    compare_models,
    compare_predictions,
    draw_conclusion,
)
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import to_json


def table(case: list[str], malignant: list[bool], prob: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"{i:04d}.png" for i in range(len(case))],
            "sha256": [f"{i:064x}" for i in range(len(case))],
            "case": case,
            "class": np.where(malignant, "malignant", "benign"),
            "magnification": 200,
            "prob_malignant": prob,
        }
    )


# Benign cases b and c, malignant cases m and o, two images each.
CASES = list("bbccmmoo")
MALIGNANT = [False] * 4 + [True] * 4
FIRST = table(CASES, MALIGNANT, [0.1, 0.6, 0.2, 0.3, 0.9, 0.4, 0.4, 0.8])
SECOND = table(CASES, MALIGNANT, [0.1, 0.2, 0.2, 0.3, 0.9, 0.7, 0.4, 0.8])


def sides(
    first: pd.DataFrame = FIRST, second: pd.DataFrame = SECOND
) -> tuple[ComparedModel, ComparedModel]:
    return ComparedModel("A", first), ComparedModel("B", second)


def noisy(seed: int, noise: float, n_cases: int = 30, per_case: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(n_cases), per_case)
    malignant = number % 2 == 1
    prob = np.clip(np.where(malignant, 0.7, 0.3) + noise * rng.standard_normal(number.size), 0, 1)
    return table([f"case{k}" for k in number], list(malignant), list(prob))


def test_compare_predictions_eight_images_equals_manual_values() -> None:
    found = compare_predictions(*sides())
    values = {
        name: (d.first, d.second, d.difference.value) for name, d in found.differences.items()
    }
    # First: benign 0.6 and twice malignant 0.4 are incorrect. Second: malignant 0.4 once.
    assert values["sensitivity"] == (0.5, 0.75, 0.25)
    assert values["specificity"] == (0.75, 1.0, 0.25)
    assert values["accuracy"] == (0.625, 0.875, 0.25)
    assert values["balanced_accuracy"] == (0.625, 0.875, 0.25)
    # 14 of 16 pairs are ordered correctly, then all.
    assert values["roc_auc"] == (0.875, 1.0, 0.125)
    # Errors, first .1 .6 .2 .3 | .1 .6 .6 .2, second .1 .2 .2 .3 | .1 .3 .6 .2.
    assert values["brier"] == pytest.approx((1.27 / 8, 0.68 / 8, -0.59 / 8), abs=1e-12)
    assert tuple(found.differences) == COMPARED
    assert (found.n_images, found.n_cases, found.n_excluded) == (8, 4, (0, 0))


def test_compare_models_equals_comparison_of_predictions() -> None:
    reports = [
        evaluate_predictions(frame, threshold=0.4, protocol="case", has_leakage=leakage)
        for frame, leakage in ((FIRST, False), (SECOND, True))
    ]
    found = compare_models(*reports, names=("old", "new"))
    expected = compare_predictions(
        ComparedModel("old", FIRST, 0.4), ComparedModel("new", SECOND, 0.4, has_leakage=True)
    )
    assert found == expected


def test_compare_models_without_predictions_raises() -> None:
    report = evaluate_predictions(FIRST, protocol="case", has_leakage=False)
    with pytest.raises(RunError, match="no predictions"):
        compare_models(report, replace(report, predictions=None))


def test_compare_predictions_interval_equals_simulation() -> None:
    # The specificity of four of eight benign cases increases by 1/2, in total by 1/4. A resample
    # with k of these cases has k/16 and its own standard error.
    case = [f"b{k}" for k in range(8) for _ in range(2)] + ["m1", "m2"]
    malignant = [False] * 16 + [True] * 2
    first = [0.9 if i % 4 == 0 else 0.1 for i in range(16)] + [0.9, 0.9]
    found = compare_predictions(
        *sides(table(case, malignant, first), table(case, malignant, [0.1] * 16 + [0.9] * 2))
    )
    difference = found.differences["specificity"].difference
    rng = np.random.default_rng(5)
    k = rng.binomial(8, 0.5, 200_000)
    spread = np.sqrt(k * (8 - k) / 8 / (8 - 1) / 8) / 2
    with np.errstate(divide="ignore"):
        t = (k / 16 - 0.25) / spread
    error = np.sqrt(4 * 4 / 8 / 7 / 8) / 2
    low, high = 0.25 - error * np.quantile(t, [0.975, 0.025])
    assert (difference.ci_low, difference.ci_high) == pytest.approx((low, high), abs=0.01)
    assert (difference.n_images, difference.n_cases) == (16, 8)
    assert "paired" in difference.method
    assert "over cases" in difference.method


def test_compare_predictions_swapped_models_changes_sign() -> None:
    forward, backward = compare_predictions(*sides()), compare_predictions(*reversed(sides()))
    for name in COMPARED:
        value = forward.differences[name].difference.value
        assert backward.differences[name].difference.value == pytest.approx(-value, abs=1e-12)


def test_compare_predictions_identical_predictions_differ_by_zero() -> None:
    found = compare_predictions(*sides(noisy(0, 0.3), noisy(0, 0.3)))
    for one in found.differences.values():
        assert one.difference.value == 0.0
        assert one.conclusion == Conclusion.NO_EVIDENCE
        assert not one.has_evidence


def test_compare_predictions_equal_models_give_no_evidence() -> None:
    found = compare_predictions(*sides(noisy(0, 0.3), noisy(1, 0.3)))
    assert {one.conclusion for one in found.differences.values()} == {Conclusion.NO_EVIDENCE}


def test_compare_predictions_better_model_gives_evidence() -> None:
    found = compare_predictions(*sides(noisy(0, 0.6), noisy(1, 0.2)))
    for name, one in found.differences.items():
        assert one.has_evidence
        higher = Conclusion.FIRST_HIGHER if name == "brier" else Conclusion.SECOND_HIGHER
        assert one.conclusion == higher


def test_compare_predictions_one_case_of_many_images_gives_no_evidence() -> None:
    # Only for one benign case with 40 images is the second model correct and the first not. The
    # difference is clear over images, but it is one of eight cases.
    case = np.repeat([f"b{k}" for k in range(8)] + [f"m{k}" for k in range(8)], 40)
    malignant = np.char.startswith(case, "m")
    right = np.where(malignant, 0.9, 0.1)
    one_incorrect = np.where(case == "b0", 0.9, right)
    by_case = [table(list(case), list(malignant), list(p)) for p in (one_incorrect, right)]
    by_image = [frame.assign(case=frame["path"]) for frame in by_case]

    assert (
        compare_predictions(*sides(*by_image)).differences["specificity"].conclusion
        == Conclusion.SECOND_HIGHER
    )
    assert (
        compare_predictions(*sides(*by_case)).differences["specificity"].conclusion
        == Conclusion.NO_EVIDENCE
    )


def test_compare_predictions_paired_resamples_find_small_difference() -> None:
    # The second model corrects every sixth error of the first. The two intervals overlap, but
    # the paired interval excludes 0.
    first = noisy(0, 0.5)
    prob, malignant = first["prob_malignant"].to_numpy(), first["class"] == "malignant"
    errors = np.flatnonzero((prob >= 0.5) != malignant)[::6]
    second = first.copy()
    second.loc[errors, "prob_malignant"] = 1 - prob[errors]
    separate = [
        evaluate_predictions(frame, protocol="case", has_leakage=False).metrics["accuracy"]
        for frame in (first, second)
    ]
    assert separate[0].ci_high > separate[1].value
    assert (
        compare_predictions(*sides(first, second)).differences["accuracy"].conclusion
        == Conclusion.SECOND_HIGHER
    )


def test_compare_predictions_uses_common_images_and_reports_others() -> None:
    found = compare_predictions(*sides(FIRST, SECOND.drop(index=[0, 7])))
    assert (found.n_images, found.n_excluded) == (6, (2, 0))
    (check,) = (check for check in found.checks if check.code == "BC223")
    assert (check.params["n_excluded_first"], check.params["n_excluded_second"]) == (2, 0)
    assert compare_predictions(*sides(FIRST.iloc[:6], SECOND.iloc[:6])).n_excluded == (0, 0)


def test_compare_predictions_other_hash_is_another_image() -> None:
    other = SECOND.copy()
    other.loc[0, "sha256"] = "f" * 64
    assert compare_predictions(*sides(FIRST, other)).n_images == 7
    other.loc[0, "sha256"] = ""
    assert compare_predictions(*sides(FIRST, other)).n_images == 8


def test_compare_predictions_no_common_image_raises() -> None:
    with pytest.raises(DataError, match=r"No common image.*A and B"):
        compare_predictions(*sides(FIRST.iloc[:4], SECOND.iloc[4:]))


@pytest.mark.parametrize(("column", "value"), [("class", "malignant"), ("case", "elsewhere")])
def test_compare_predictions_conflicting_labels_raises(column: str, value: str) -> None:
    other = SECOND.copy()
    other.loc[2, column] = value
    with pytest.raises(DataError, match=rf"Conflicting {column} of '0002.png'.*{value} for B"):
        compare_predictions(*sides(FIRST, other))


def test_compare_predictions_case_known_to_one_model_is_used() -> None:
    assert compare_predictions(*sides(FIRST, SECOND.assign(case=""))).n_cases == 4


def test_compare_predictions_one_class_is_undefined() -> None:
    benign = FIRST[FIRST["class"] == "benign"], SECOND[SECOND["class"] == "benign"]
    found = compare_predictions(*sides(*benign)).differences
    for name in ("balanced_accuracy", "sensitivity", "roc_auc"):
        assert found[name].difference.value is None
        assert found[name].conclusion == Conclusion.UNDEFINED
        assert found[name].text() == f"undefined: {found[name].difference.note}"
    assert found["specificity"].difference.value == 0.25


def test_compare_predictions_one_benign_case_has_no_interval() -> None:
    keep = FIRST["case"] != "c"
    one = compare_predictions(*sides(FIRST[keep], SECOND[keep])).differences["specificity"]
    assert one.conclusion == Conclusion.NO_INTERVAL
    assert "no interval" in one.text()
    assert one.text().endswith("no interval, only one benign case")


def test_compare_predictions_leakage_is_first_check() -> None:
    found = compare_predictions(
        ComparedModel("A", FIRST), ComparedModel("B", SECOND, has_leakage=True)
    )
    assert (found.checks[0].code, found.checks[0].params["run"]) == ("BC221", "B")


def test_compare_predictions_seen_case_returns_check() -> None:
    seen = frozenset({"m", "elsewhere"})
    found = compare_predictions(
        ComparedModel("A", FIRST, seen_cases=seen), ComparedModel("B", SECOND)
    )
    assert found.checks[0] == make_check("BC222", run="A", n_seen=1, n_cases=4, case="m")
    elsewhere = compare_predictions(
        ComparedModel("A", FIRST, seen_cases=frozenset({"elsewhere"})), ComparedModel("B", SECOND)
    )
    assert "BC222" not in [check.code for check in elsewhere.checks]


def test_compare_predictions_few_cases_returns_check() -> None:
    assert [check.code for check in compare_predictions(*sides()).checks] == ["BC207", "BC207"]
    assert compare_predictions(*sides(noisy(0, 0.3), noisy(1, 0.3))).checks == ()


def test_compare_predictions_uses_threshold_of_each_model() -> None:
    found = compare_predictions(
        ComparedModel("A", FIRST, threshold=0.35), ComparedModel("B", FIRST, threshold=0.5)
    )
    # At 0.35 all four malignant images are predicted malignant, at 0.5 two of them.
    assert found.differences["sensitivity"].difference.value == -0.5
    assert found.differences["roc_auc"].difference.value == 0.0


@pytest.mark.parametrize(
    ("value", "low", "high", "conclusion"),
    [
        (0.1, 0.0, 0.2, Conclusion.NO_EVIDENCE),
        (0.1, 1e-17, 0.2, Conclusion.NO_EVIDENCE),
        (0.1, 0.01, 0.2, Conclusion.SECOND_HIGHER),
        (-0.1, -0.2, -0.01, Conclusion.FIRST_HIGHER),
        (-0.1, -0.2, -1e-17, Conclusion.NO_EVIDENCE),
        (0.0, None, None, Conclusion.NO_EVIDENCE),
        (0.1, None, None, Conclusion.NO_INTERVAL),
        (None, None, None, Conclusion.UNDEFINED),
    ],
)
def test_draw_conclusion_interval_returns_conclusion(
    value: float | None, low: float | None, high: float | None, conclusion: Conclusion
) -> None:
    assert draw_conclusion(Metric(value, low, high, 8, 4, "m", "why")) == conclusion


def test_comparison_converts_to_json() -> None:
    found: Comparison = compare_predictions(*sides())
    data = to_json(found)
    assert data["differences"]["specificity"]["difference"]["value"] == 0.25
    assert data["n_excluded"] == [0, 0]


def test_check_multiplicity_counts_intervals() -> None:
    assert check_multiplicity(1).params == {"n_intervals": 6}
    assert check_multiplicity(3).params == {"n_intervals": 18}
