"""The reports of the protocols, and nested cross-validation in the model card."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bc_model.distillation import cross_validation
from bc_model.distillation.build import (
    ProtocolLogits,
    bundled_model_card,
    nested_cross_validate,
    protocol_reports,
)
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.cross_validation import (
    ALWAYS_TRAINED,
    EXCLUDED,
    Folds,
    case_folds,
    fit_pooled_temperature,
    out_of_fold_predictions,
)
from bc_model.distillation.nested_cv import SEARCH_SPACE, NestedCrossValidation, proxy_config
from bc_model.inference.model_card import FoldChoice, NestedResult
from bc_model.utils.serialization import dumps
from tests.bc_model.distillation.conftest import QUICK


@pytest.fixture
def table() -> pd.DataFrame:
    """Return twelve images of six cases."""
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
def test_protocol_reports_fit_the_temperature_without_the_test_cases(
    table, monkeypatch, protocol, fitted_on
):
    fits: list[set[str]] = []
    fit = cross_validation.fit_temperature

    def spy(margin, malignant, case):
        fits.append(set(case))
        return fit(margin, malignant, case)

    monkeypatch.setattr(cross_validation, "fit_temperature", spy)
    by_case = ProtocolLogits(
        Folds("case", np.repeat([0, 1, 2], 4)), {k: logits(4) for k in range(3)}
    )
    assignment = np.full(12, ALWAYS_TRAINED)
    assignment[[0, 2]] = 0  # one test image of each of the first two cases
    assignment[[1, 3]] = EXCLUDED if protocol == "folds-clean" else ALWAYS_TRAINED

    reports = protocol_reports(
        table, [by_case, ProtocolLogits(Folds(protocol, assignment), {0: logits(2)})]
    )

    assert fits[:3] == [{"2", "3", "4", "5"}, {"0", "1", "4", "5"}, {"0", "1", "2", "3"}]
    assert fits[3:] == [fitted_on]
    assert [report.protocol for report in reports] == ["case", protocol]
    assert [report.n_images for report in reports] == [12, 2]


def test_bundled_model_card_has_nested_cross_validation_and_own_metrics(
    source, tmp_path, monkeypatch
):
    folds = case_folds(source.table, QUICK)
    rng = np.random.default_rng(0)
    by_case, nested_logits = (
        {fold: rng.normal(size=((folds.assignment == fold).sum(), 2)) for fold in range(3)}
        for _ in range(2)
    )
    results = [ProtocolLogits(folds, by_case)]
    predictions = out_of_fold_predictions(source.table, folds, nested_logits)
    choices = [FoldChoice(fold, "weak", 30.0, 0.1, 1.0, 0.9) for fold in range(3)]
    rest = (
        protocol_reports(source.table, results),
        fit_pooled_temperature(source.table, folds, by_case),
        9,
    )

    four = dataclasses.replace(QUICK, n_folds=4)
    monkeypatch.setattr(NestedCrossValidation, "run", lambda self: (predictions, choices))

    def run_nested(config: DistillationConfig) -> NestedResult:
        result, found = nested_cross_validate(
            source, config, SEARCH_SPACE, tmp_path, selector=proxy_config(four)
        )
        assert found is predictions
        return result

    with_nested, without = (
        bundled_model_card("bundle", source, QUICK, results, *rest, nested).metrics
        for nested in (run_nested(four), None)
    )

    nested = with_nested.nested
    assert nested.network == (
        "networks trained like the bundled model except for the selected settings "
        "(3 steps of 8 augmented crops)"
    )
    assert nested.selected_by == (
        "residual networks with a quarter of the width of ResNet50 "
        "(3,000 steps of 32 augmented crops)"
    )
    proxy = run_nested(proxy_config(four))
    assert proxy.network == nested.selected_by
    assert proxy.selected_by == ""
    cases = source.table["case"].nunique()
    assert (nested.n_folds, nested.n_images, nested.n_cases) == (3, len(source.table), cases)
    roc_auc = roc_auc_score(predictions["class"] == "malignant", predictions["prob_malignant"])
    assert nested.metrics["roc_auc"].value == pytest.approx(roc_auc)
    assert nested.choices == tuple(choices)
    assert nested.search_space.views["weak"]["image_mixing"] == 0.3
    assert without.nested is None
    assert with_nested.test == without.test
    dumps(with_nested)
