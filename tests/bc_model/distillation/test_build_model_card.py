"""The reports of the protocols, and nested cross-validation in the model card."""

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
    teacher_correlation,
)
from bc_model.distillation.cross_validation import fit_pooled_temperature, out_of_fold_predictions
from bc_model.distillation.folds import ALWAYS_TRAINED, EXCLUDED, Folds, case_folds
from bc_model.distillation.nested_cv import SEARCH_SPACE, NestedCrossValidation
from bc_model.inference.model_card import FoldChoice
from bc_model.utils.serialization import dumps
from tests.bc_model.distillation.conftest import QUICK


@pytest.fixture
def table() -> pd.DataFrame:
    """Return twelve images of six cases."""
    cases = np.repeat([f"{i}" for i in range(6)], 2)
    return pd.DataFrame(
        {"path": [f"{i}.png" for i in range(12)], "sha256": "", "case": cases, "group": cases,
         "class": np.repeat(["benign", "malignant"] * 3, 2), "magnification": 200,
         "subtype": "", "is_extra": False}
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
    teacher = {k: np.zeros(4) for k in range(3)}
    by_case = ProtocolLogits(
        Folds("case", np.repeat([0, 1, 2], 4)), {k: logits(4) for k in range(3)}, teacher
    )
    assignment = np.full(12, ALWAYS_TRAINED)
    assignment[[0, 2]] = 0  # one test image of each of the first two cases
    assignment[[1, 3]] = EXCLUDED if protocol == "folds-clean" else ALWAYS_TRAINED

    reports = protocol_reports(
        table,
        [by_case, ProtocolLogits(Folds(protocol, assignment), {0: logits(2)}, {0: np.zeros(2)})],
    )

    assert fits[:3] == [{"2", "3", "4", "5"}, {"0", "1", "4", "5"}, {"0", "1", "2", "3"}]
    assert fits[3:] == [fitted_on]
    assert [report.protocol for report in reports] == ["case", protocol]
    assert [report.n_images for report in reports] == [12, 2]


def test_teacher_correlation_pools_the_folds():
    margins = {0: np.array([1.0, 2.0]), 1: np.array([3.0, 5.0])}
    logits = {k: np.stack([-m / 2, m / 2], axis=1) for k, m in margins.items()}
    teacher = {0: np.array([1.0, 2.0]), 1: np.array([3.0, 4.0])}

    found = teacher_correlation(ProtocolLogits(Folds("case", np.zeros(4)), logits, teacher))

    assert found == pytest.approx(np.corrcoef([1, 2, 3, 5], [1, 2, 3, 4])[0, 1])


def test_bundled_model_card_has_nested_cross_validation_and_own_metrics(networks, monkeypatch):
    source = networks.source
    folds = case_folds(source.table, QUICK)
    rng = np.random.default_rng(0)
    by_case, nested_logits = (
        {fold: rng.normal(size=((folds.assignment == fold).sum(), 2)) for fold in range(3)}
        for _ in range(2)
    )
    teacher = {fold: rng.normal(size=len(logits)) for fold, logits in by_case.items()}
    results = [ProtocolLogits(folds, by_case, teacher)]
    predictions = out_of_fold_predictions(source.table, folds, nested_logits)
    choices = [FoldChoice(fold, "equal", 30.0, 0.1, 1.0, 0.9) for fold in range(3)]
    rest = (
        protocol_reports(source.table, results),
        fit_pooled_temperature(source.table, folds, by_case),
        9,
    )
    monkeypatch.setattr(NestedCrossValidation, "run", lambda self: (predictions, choices))
    nested, found = nested_cross_validate(networks, SEARCH_SPACE)

    with_nested, without = (
        bundled_model_card("bundle", source, QUICK, results, *rest, result).metrics
        for result in (nested, None)
    )

    assert found is predictions
    assert nested.network == (
        "networks trained like the bundled model, whose last layer has the selected options "
        "(3 steps of 8 augmented views)"
    )
    cases = source.table["case"].nunique()
    assert (nested.n_folds, nested.n_images, nested.n_cases) == (3, len(source.table), cases)
    roc_auc = roc_auc_score(predictions["class"] == "malignant", predictions["prob_malignant"])
    assert nested.metrics["roc_auc"].value == pytest.approx(roc_auc)
    assert nested.choices == tuple(choices)
    assert nested.search_space == SEARCH_SPACE
    assert with_nested.nested == nested
    assert without.nested is None
    assert with_nested.test == without.test
    assert with_nested.teacher_correlation == pytest.approx(teacher_correlation(results[0]))
    dumps(with_nested)
