"""Two models on the same pictures: the join, the paired interval, and what may be said of it."""

import numpy as np
import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.errors import DataError
from bc_model.evaluation.comparison import (
    COMPARED,
    ComparedModel,
    Comparison,
    Conclusion,
    check_multiplicity,
    compare_predictions,
    draw_conclusion,
)
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.utils.metric import Metric
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


# Benign cases b and c, malignant cases m and o, two pictures each.
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


def test_by_hand() -> None:
    found = compare_predictions(*sides())
    told = {name: (d.first, d.second, d.difference.value) for name, d in found.differences.items()}
    # First: benign 0.6 called malignant, malignant 0.4 twice called benign. Second: 0.4 once.
    assert told["sensitivity"] == (0.5, 0.75, 0.25)
    assert told["specificity"] == (0.75, 1.0, 0.25)
    assert told["accuracy"] == (0.625, 0.875, 0.25)
    assert told["balanced_accuracy"] == (0.625, 0.875, 0.25)
    # Pairs won of 16: all but the two 0.4 against 0.6; then all.
    assert told["roc_auc"] == (0.875, 1.0, 0.125)
    # Errors to be squared, first .1 .6 .2 .3 | .1 .6 .6 .2, second .1 .2 .2 .3 | .1 .3 .6 .2.
    assert told["brier"] == pytest.approx((1.27 / 8, 0.68 / 8, -0.59 / 8), abs=1e-12)
    assert tuple(found.differences) == COMPARED
    assert (found.n_images, found.n_cases, found.n_excluded) == (8, 4, (0, 0))


def test_the_interval_by_hand() -> None:
    # Specificity rises in every other of eight benign cases, by 1/2: 1/4 in all. A resample that
    # draws k of those four has k/16 and a standard error of its own; the two tails differ.
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


def test_the_other_way_round_is_the_same_with_the_other_sign() -> None:
    one, other = compare_predictions(*sides()), compare_predictions(*reversed(sides()))
    for name in COMPARED:
        value = one.differences[name].difference.value
        assert other.differences[name].difference.value == pytest.approx(-value, abs=1e-12)


def test_identical_predictions_differ_by_exactly_zero() -> None:
    found = compare_predictions(*sides(noisy(0, 0.3), noisy(0, 0.3)))
    for one in found.differences.values():
        assert one.difference.value == 0.0
        assert one.conclusion == Conclusion.NO_EVIDENCE
        assert not one.has_evidence


def test_equally_good_models_give_no_evidence() -> None:
    found = compare_predictions(*sides(noisy(0, 0.3), noisy(1, 0.3)))
    assert {one.conclusion for one in found.differences.values()} == {Conclusion.NO_EVIDENCE}


def test_a_clearly_better_model_gives_evidence() -> None:
    found = compare_predictions(*sides(noisy(0, 0.6), noisy(1, 0.2)))
    for name, one in found.differences.items():
        assert one.has_evidence
        higher = Conclusion.FIRST_HIGHER if name == "brier" else Conclusion.SECOND_HIGHER
        assert one.conclusion == higher


def test_only_cases_count_not_the_number_of_their_images() -> None:
    # The second model is right on all 40 pictures of one benign case, where the first is wrong;
    # elsewhere they agree. By picture that is overwhelming, by case it is one case of eight.
    case = np.repeat([f"b{k}" for k in range(8)] + [f"m{k}" for k in range(8)], 40)
    malignant = np.char.startswith(case, "m")
    right = np.where(malignant, 0.9, 0.1)
    wrong_in_one = np.where(case == "b0", 0.9, right)
    by_case = [table(list(case), list(malignant), list(p)) for p in (wrong_in_one, right)]
    by_image = [frame.assign(case=frame["path"]) for frame in by_case]

    assert (
        compare_predictions(*sides(*by_image)).differences["specificity"].conclusion
        == Conclusion.SECOND_HIGHER
    )
    assert (
        compare_predictions(*sides(*by_case)).differences["specificity"].conclusion
        == Conclusion.NO_EVIDENCE
    )


def test_the_draw_is_paired() -> None:
    # The second is right where the first is, and on every sixth of its mistakes. The two
    # intervals overlap by far; the difference, never negative, is plain all the same.
    first = noisy(0, 0.5)
    prob, malignant = first["prob_malignant"].to_numpy(), first["class"] == "malignant"
    mistakes = np.flatnonzero((prob >= 0.5) != malignant)[::6]
    second = first.copy()
    second.loc[mistakes, "prob_malignant"] = 1 - prob[mistakes]
    alone = [
        evaluate_predictions(frame, protocol="case", has_leakage=False).metrics["accuracy"]
        for frame in (first, second)
    ]
    assert alone[0].ci_high > alone[1].value
    assert (
        compare_predictions(*sides(first, second)).differences["accuracy"].conclusion
        == Conclusion.SECOND_HIGHER
    )


def test_only_common_images_count_and_the_others_are_told() -> None:
    found = compare_predictions(*sides(FIRST, SECOND.drop(index=[0, 7])))
    assert (found.n_images, found.n_excluded) == (6, (2, 0))
    (check,) = (check for check in found.checks if check.code == "BC223")
    assert (check.params["n_excluded_first"], check.params["n_excluded_second"]) == (2, 0)
    assert compare_predictions(*sides(FIRST.iloc[:6], SECOND.iloc[:6])).n_excluded == (0, 0)


def test_a_image_with_other_pixels_is_another_image() -> None:
    other = SECOND.copy()
    other.loc[0, "sha256"] = "f" * 64
    assert compare_predictions(*sides(FIRST, other)).n_images == 7
    other.loc[0, "sha256"] = ""
    assert compare_predictions(*sides(FIRST, other)).n_images == 8


def test_no_common_image_is_refused() -> None:
    with pytest.raises(DataError, match="A and B share none"):
        compare_predictions(*sides(FIRST.iloc[:4], SECOND.iloc[4:]))


@pytest.mark.parametrize(("column", "value"), [("class", "malignant"), ("case", "elsewhere")])
def test_two_truths_for_one_image_are_refused(column: str, value: str) -> None:
    other = SECOND.copy()
    other.loc[2, column] = value
    with pytest.raises(DataError, match=rf"same {column} .*'0002.png'.*{value} for B"):
        compare_predictions(*sides(FIRST, other))


def test_a_case_that_one_side_knows_is_enough() -> None:
    assert compare_predictions(*sides(FIRST, SECOND.assign(case=""))).n_cases == 4


def test_what_is_not_defined_is_said() -> None:
    benign = FIRST[FIRST["class"] == "benign"], SECOND[SECOND["class"] == "benign"]
    found = compare_predictions(*sides(*benign)).differences
    for name in ("balanced_accuracy", "sensitivity", "roc_auc"):
        assert found[name].difference.value is None
        assert found[name].conclusion == Conclusion.UNDEFINED
        assert found[name].text() == f"undefined: {found[name].difference.note}"
    assert found["specificity"].difference.value == 0.25


def test_one_case_of_a_class_is_no_ground_for_a_prediction() -> None:
    keep = FIRST["case"] != "c"
    one = compare_predictions(*sides(FIRST[keep], SECOND[keep])).differences["specificity"]
    assert one.conclusion == Conclusion.NO_INTERVAL
    assert "no interval" in one.text()
    assert one.text().endswith("no interval, only one benign case")


def test_a_leakage_side_is_told_first() -> None:
    found = compare_predictions(
        ComparedModel("A", FIRST), ComparedModel("B", SECOND, has_leakage=True)
    )
    assert (found.checks[0].code, found.checks[0].params["run"]) == ("BC221", "B")


def test_a_side_that_learned_from_a_common_case_is_told() -> None:
    seen = frozenset({"m", "elsewhere"})
    found = compare_predictions(
        ComparedModel("A", FIRST, seen_cases=seen), ComparedModel("B", SECOND)
    )
    assert found.checks[0] == make_check("BC222", run="A", n_seen=1, n_cases=4, case="m")
    elsewhere = compare_predictions(
        ComparedModel("A", FIRST, seen_cases=frozenset({"elsewhere"})), ComparedModel("B", SECOND)
    )
    assert "BC222" not in [check.code for check in elsewhere.checks]


def test_few_cases_are_told() -> None:
    assert [check.code for check in compare_predictions(*sides()).checks] == ["BC207", "BC207"]
    assert compare_predictions(*sides(noisy(0, 0.3), noisy(1, 0.3))).checks == ()


def test_each_side_has_its_own_cut_off() -> None:
    found = compare_predictions(
        ComparedModel("A", FIRST, threshold=0.35), ComparedModel("B", FIRST, threshold=0.5)
    )
    # At 0.35 all four malignant pictures are called so, at 0.5 two of them.
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
def test_conclusion_of_interval(
    value: float | None, low: float | None, high: float | None, conclusion: Conclusion
) -> None:
    assert draw_conclusion(Metric(value, low, high, 8, 4, "m", "why")) == conclusion


def test_a_comparison_is_plain_json() -> None:
    found: Comparison = compare_predictions(*sides())
    told = to_json(found)
    assert told["differences"]["specificity"]["difference"]["value"] == 0.25
    assert told["n_left_out"] == [0, 0]


def test_several_looks_are_called_exploratory() -> None:
    assert check_multiplicity(1).params == {"n_intervals": 6}
    assert check_multiplicity(3).params == {"n_intervals": 18}
