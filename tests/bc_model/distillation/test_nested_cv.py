"""Nested cross-validation: the evaluated fold does not influence its model selection."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bc_model.distillation.cross_validation import Networks
from bc_model.distillation.folds import Folds, case_folds
from bc_model.distillation.last_layer import HeadOptions, LastLayer, PooledActivations
from bc_model.distillation.nested_cv import SEARCH_SPACE, NestedCrossValidation
from bc_model.distillation.teacher import FAMILIES
from bc_model.evaluation.calibration import fit_temperature
from bc_model.inference.model_card import SearchSpace
from tests.bc_model.distillation.conftest import QUICK

SHORT = SearchSpace(
    {"equal": (1.0, 1.0, 1.0, 1.0), "first": (1.0, 0.0, 0.0, 0.0)}, (0.1, 1.0), (1.0, 100.0)
)


@pytest.fixture
def fixed(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> Networks:
    """Return networks with fixed activations of each fold, which show the class poorly."""
    n = len(networks.source.table)
    no_cells = (np.zeros((n, 1, 6)), np.full((n, 1), np.nan))

    def activations_without(folds: Folds, fold: int) -> PooledActivations:
        rng = np.random.default_rng(fold)
        pooled = rng.normal(size=(n, 4, 6)) + networks.source.malignant[:, None, None] * 0.5
        return PooledActivations(pooled, np.ones((n, 4)), *no_cells, np.zeros(7))

    monkeypatch.setattr(networks, "activations_without", activations_without)
    return networks


def run(networks: Networks):
    folds = case_folds(networks.source.table, QUICK)
    return folds, *NestedCrossValidation(networks, folds, SHORT).run()


def test_run_predicts_every_image_once_with_the_choice_of_its_fold(fixed):
    folds, predictions, choices = run(fixed)

    assert [choice.fold for choice in choices] == [0, 1, 2]
    assert sorted(predictions["path"]) == sorted(fixed.source.table["path"])
    for choice in choices:
        options = HeadOptions(
            tuple(p * choice.penalty_factor for p in QUICK.penalties),
            SHORT.teacher_weights[choice.teacher_weights],
            choice.last_penalty,
        )
        activations = fixed.activations_without(folds, choice.fold)
        is_train = folds.assignment != choice.fold
        last = LastLayer.fit(fixed.source, fixed.pool.variants, activations, is_train, options)
        rows = predictions[predictions["fold"] == choice.fold]
        np.testing.assert_allclose(
            rows["logit"], last.predict_logit(activations)[~is_train], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            rows["prob_malignant"],
            1 / (1 + np.exp(-rows["logit"] / choice.temperature)),
            rtol=1e-6,
        )


def test_select_takes_the_best_options_of_the_other_folds(fixed):
    folds, _, choices = run(fixed)
    choice = choices[1]
    activations = fixed.activations_without(folds, 1)
    inner = folds.assignment != 1

    def inner_logit(weights: str, factor: float, last_penalty: float) -> np.ndarray:
        options = HeadOptions(
            tuple(p * factor for p in QUICK.penalties), SHORT.teacher_weights[weights], last_penalty
        )
        logit = np.zeros(len(inner))
        for other in (0, 2):
            is_train = inner & (folds.assignment != other)
            last = LastLayer.fit(fixed.source, fixed.pool.variants, activations, is_train, options)
            is_test = folds.assignment == other
            logit[is_test] = last.predict_logit(activations)[is_test]
        return logit[inner]

    malignant = fixed.source.malignant[inner]
    roc_aucs = [
        roc_auc_score(malignant, inner_logit(weights, factor, last_penalty))
        for weights in SHORT.teacher_weights
        for factor in SHORT.penalty_factors
        for last_penalty in SHORT.last_penalties
    ]
    chosen = inner_logit(choice.teacher_weights, choice.penalty_factor, choice.last_penalty)
    assert choice.roc_auc_of_others == pytest.approx(max(roc_aucs))
    assert roc_auc_score(malignant, chosen) == pytest.approx(max(roc_aucs))
    temperature = fit_temperature(chosen, malignant, fixed.source.case[inner])
    assert choice.temperature == pytest.approx(temperature.value, rel=1e-3)


def test_the_choice_of_a_fold_does_not_depend_on_its_labels(fixed):
    folds, _, choices = run(fixed)
    table = fixed.source.table.copy()
    left_out = folds.assignment == 2
    flip = {"benign": "malignant", "malignant": "benign"}
    table.loc[left_out, "class"] = table.loc[left_out, "class"].map(flip)
    fixed.source = dataclasses.replace(fixed.source, table=table)

    _, changed = NestedCrossValidation(fixed, folds, SHORT).run()

    assert changed[2] == choices[2]
    assert changed[0] != choices[0]


def test_search_space_names_weights_of_every_teacher():
    assert {len(weights) for weights in SEARCH_SPACE.teacher_weights.values()} == {len(FAMILIES)}
    assert QUICK.teacher_weights in SEARCH_SPACE.teacher_weights.values()
    assert QUICK.last_penalty in SEARCH_SPACE.last_penalties
