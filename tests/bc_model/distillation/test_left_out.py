import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bc_model.distillation.cross_validation import Networks, fold_logits
from bc_model.distillation.folds import case_folds, is_test_image
from bc_model.distillation.left_out import LeftOutMeasurements, measure_left_out
from bc_model.evaluation.perturbations import PERTURBATIONS
from bc_model.inference.model_card import Architecture, ModelCard
from bc_model.model import reference_logits
from benchmarks.model_card import dummy_model_card
from tests.bc_model.distillation.conftest import QUICK, eager_training


@pytest.fixture(scope="module")
def trained(source, pool, tmp_path_factory) -> Networks:
    networks = Networks(source, pool, QUICK, tmp_path_factory.mktemp("work"))
    with eager_training():
        for fold in range(QUICK.n_folds):
            networks.activations_without(case_folds(source.table, QUICK), fold)
    return networks


@pytest.fixture(scope="module")
def card() -> ModelCard:
    dummy = dummy_model_card(QUICK.image_size)
    return dataclasses.replace(
        dummy, architecture=Architecture(QUICK.backbone, "none", 0, dense_units=())
    )


@pytest.fixture(scope="module")
def measured(trained: Networks, card: ModelCard) -> LeftOutMeasurements:
    folds = case_folds(trained.source.table, QUICK)
    return measure_left_out(trained, folds, card)


def test_measure_left_out_counts_every_image_once(measured, source):
    n, n_cases = len(source.table), source.table["case"].nunique()

    assert measured.precisions["f32"].n_images == n
    assert measured.precisions["f32"].prob_difference_p99 < 1e-3
    assert (measured.robustness.n_images, measured.robustness.n_cases) == (n, n_cases)
    assert [row.name for row in measured.robustness.rows] == [c.name for c in PERTURBATIONS]
    assert measured.explanations.agreement_by_sum.n_images == n


def test_measure_left_out_uses_the_network_without_the_case(measured, trained):
    # The ROC AUC of the unchanged images is that of the networks of the folds.
    source, folds = trained.source, case_folds(trained.source.table, QUICK)
    logit = np.zeros(len(source.table))
    for fold in range(QUICK.n_folds):
        is_test = is_test_image(source.table, folds, fold)
        logits = reference_logits(trained.model_without(folds, fold), source.pixels[is_test])
        logit[is_test] = logits[:, 1] - logits[:, 0]

    expected = roc_auc_score(source.malignant, logit)
    by_fold = [fold_logits(trained, folds, fold)[0] for fold in range(QUICK.n_folds)]
    for fold, logits in enumerate(by_fold):  # these do not depend on the labels of the fold
        is_test = is_test_image(source.table, folds, fold)
        np.testing.assert_allclose(logit[is_test], logits[:, 1] - logits[:, 0], atol=0.05)
    assert measured.robustness.unchanged_roc_auc.value == pytest.approx(expected, abs=0.01)


def test_measure_left_out_explains_mosaics_lesions_and_random_weights(measured):
    checks = measured.explanations

    kinds = {(result.images, result.class_name) for result in checks.pointing}
    assert kinds == {
        ("mosaics of images of left-out cases", "benign"),
        ("mosaics of images of left-out cases", "malignant"),
        ("synthetic lesions", "malignant"),
    }
    layers = [result.layers for result in checks.randomization]
    assert layers == ["last layer", "last stage and last layer", "all layers"]
