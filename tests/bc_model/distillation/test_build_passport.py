"""The reports of the protocols, and what the passport says of the choosing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bc_model.distillation import cross_validation
from bc_model.distillation.build import (
    Judged,
    NestedSelection,
    _nested,
    bundled_model_card,
    judged_reports,
)
from bc_model.distillation.cross_validation import (
    LEARNED,
    LEFT_OUT,
    Folds,
    case_folds,
    cross_validated_predictions,
    temperature_of,
)
from bc_model.distillation.nested_cv import SEARCH_SPACE, Choice, proxy_config
from bc_model.utils.serialization import dumps
from tests.bc_model.distillation.conftest import QUICK


@pytest.fixture
def table() -> pd.DataFrame:
    """Twelve pictures of six cases, in three folds of two cases."""
    cases = np.repeat([f"{i}" for i in range(6)], 2)
    return pd.DataFrame(
        {"path": [f"{i}.png" for i in range(12)], "sha256": "", "case": cases, "group": cases,
         "class": np.repeat(["benign", "malignant"] * 3, 2), "magnification": 200, "subtype": ""}
    )  # fmt: skip


def logits(n: int) -> np.ndarray:
    return np.stack([np.zeros(n), np.tile([-1.0, 1.0], n)[:n]], axis=1)


@pytest.mark.parametrize(
    ("protocol", "fitted_on"),
    [("folds-clean", {"2", "3", "4", "5"}), ("folds", {"0", "1", "2", "3", "4", "5"})],
)
def test_an_honest_fold_has_a_temperature_from_other_cases_than_its_own(
    table, monkeypatch, protocol, fitted_on
):
    fits: list[set[str]] = []
    fit = cross_validation.fit_temperature

    def spy(margin, malignant, case):
        fits.append(set(case))
        return fit(margin, malignant, case)

    monkeypatch.setattr(cross_validation, "fit_temperature", spy)
    by_case = Judged(Folds("case", np.repeat([0, 1, 2], 4)), {k: logits(4) for k in range(3)})
    of = np.full(12, LEARNED)
    of[[0, 2]] = 0  # a picture of each of the first two cases is tested
    of[[1, 3]] = LEFT_OUT if protocol == "folds-clean" else LEARNED

    reports = judged_reports(table, [by_case, Judged(Folds(protocol, of), {0: logits(2)})])

    assert fits[:3] == [{"2", "3", "4", "5"}, {"0", "1", "4", "5"}, {"0", "1", "2", "3"}]
    assert fits[3:] == [fitted_on]
    assert [report.protocol for report in reports] == ["case", protocol]
    assert [report.n for report in reports] == [12, 2]


def test_the_card_has_what_the_choosing_came_to_beside_the_recipe_s_figures(source):
    folds = case_folds(source.table, QUICK)
    rng = np.random.default_rng(0)
    by_case, inside = (
        {fold: rng.normal(size=((folds.of == fold).sum(), 2)) for fold in range(3)}
        for _ in range(2)
    )
    judged = [Judged(folds, by_case)]
    found = cross_validated_predictions(source.table, folds, inside)
    choices = [Choice(fold, "plain", 30.0, 0.1, 1.0, 0.9) for fold in range(3)]
    rest = (judged_reports(source.table, judged), temperature_of(source.table, folds, by_case), 9)

    with_it, without = (
        bundled_model_card("boxed", source, QUICK, judged, *rest, one).metrics
        for one in (NestedSelection(QUICK, proxy_config(QUICK), SEARCH_SPACE, found, choices), None)
    )

    told = with_it.nested
    assert told.network == (
        "networks learned as this one but for what was chosen (3 steps of 8 views)"
    )
    assert told.selected_by == (
        "residual networks of a quarter of ResNet50's width (3,000 steps of 32 views)"
    )
    small = _nested(
        NestedSelection(proxy_config(QUICK), proxy_config(QUICK), SEARCH_SPACE, found, choices)
    )
    assert small.network == told.selected_by
    assert small.selected_by == ""
    cases = source.table["case"].nunique()
    assert (told.n_folds, told.n_images, told.n_cases) == (3, len(source.table), cases)
    area = roc_auc_score(found["class"] == "malignant", found["prob_malignant"])
    assert told.metrics["roc_auc"].value == pytest.approx(area)
    assert [vars(one) for one in told.choices] == [vars(choice) for choice in choices]
    assert told.search_space.views["plain"]["mixed"] == 0.3
    assert without.nested is None
    assert with_it.test == without.test
    dumps(with_it)
