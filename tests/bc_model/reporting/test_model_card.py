"""Model cards as documents."""

from dataclasses import replace

import numpy as np
import pytest

from bc_model.inference.classifier import compute_prob_malignant
from bc_model.inference.model_card import (
    CardMetrics,
    DecisionThreshold,
    FoldChoice,
    NestedResult,
    Scale,
    SearchSpace,
    SubsetCounts,
)
from bc_model.inference.precision import Parity
from bc_model.reporting.model_card import card_document
from bc_model.utils.metric import Metric
from tests.bc_model.reporting.examples import MARKUP, model_card, report, words_of


def test_card_document_states_the_values_of_the_card() -> None:
    found = report(has_leakage=True)
    changed = model_card(
        name="mine",
        metrics=CardMetrics(test=found.summary()),
        threshold=DecisionThreshold(0.312, "by wish", MARKUP, "2026-01-01"),
        precisions={"bf16": Parity(0.002, None, n_images=9, passes_parity=False)},
    )
    told = words_of(card_document(changed))
    assert "Model card: mine" in told
    assert "0.312, by wish on 2026-01-01; reason: " + MARKUP in told
    assert "(with leakage)" in told
    assert "bf16 failed 0.00200 not defined 9" in told
    accuracy = found.metrics["accuracy"]
    assert f"Accuracy {accuracy.value:.3f} {accuracy.low:.3f} to {accuracy.high:.3f} 120 24" in told
    assert "no normal tissue" in told
    assert "The model is not evaluated." in words_of(card_document(model_card()))
    assert "200X (200X about 0.5-0.6 um per pixel; x)" in words_of(
        card_document(model_card(scale=Scale((200,), {"200": (0.5, 0.6)}, "x")))
    )


def test_a_card_names_the_cases_that_the_first_weights_knew() -> None:
    fresh = model_card()
    tuned = model_card(data=replace(fresh.data, is_synthetic=True, initial_cases=("a", "b", "c")))

    assert "Initialization leakage 3 cases" in words_of(card_document(tuned))
    assert "Only its initial weights were trained on tissue" in words_of(card_document(tuned))
    assert "Initialization leakage" not in words_of(card_document(fresh))


def test_a_card_of_a_model_made_of_every_image_speaks_of_no_validation_part() -> None:
    data = replace(model_card().data, n_images=SubsetCounts(train=9), n_cases=SubsetCounts(train=3))
    parity = Parity(prob_difference_p99=0.0, auc_difference=0.0, n_images=9, passes_parity=True)
    whole = model_card(data=data, precisions={"f32": parity})

    words = words_of(card_document(whole))

    assert "9 train of 3 cases; split by" in words
    assert "Difference from the reference on training images." in words


def test_a_card_says_what_comes_of_choosing_inside_the_folds() -> None:
    roc_auc = Metric(value=0.9, low=0.8, high=0.95, n=120, n_cases=24, method="none")
    search_space = SearchSpace(
        views={"strange": {}, "plain": {"zoom": [0.75, 1.3], "mixed": 0.3}},
        penalties=(0.1, 1.0),
        last_penalties=(1.0, 10.0, 30.0),
    )
    nested = NestedResult(
        network="large networks",
        selected_by="small ones",
        search_space=search_space,
        choices=(FoldChoice(3, "plain", 30.0, 0.1, 1.25, 0.97),),
        n_folds=1,
        n_images=120,
        n_cases=24,
        metrics={"roc_auc": roc_auc},
    )
    words = words_of(card_document(model_card(metrics=CardMetrics(nested=nested))))

    assert "Nested cross-validation" in words
    assert "('strange': as configured; 'plain': zoom 0.75-1.3, mixed 0.3)" in words
    assert "one of 3 penalties of the last layer, one of 2 of the teacher" in words
    assert (
        "Evaluated with large networks, each trained without one fold. Model selection used small"
        in words
    )
    assert "only the other folds selected the augmentation ('strange'" in words
    assert "ROC AUC 0.900 (0.800 to 0.950). 120 images of 24 cases." in words
    assert "3 plain 30 0.1 1.25" in words
    assert "Nested" not in words_of(card_document(model_card()))


@pytest.mark.parametrize(
    ("temperature", "said"),
    [(1.0, "The temperature is 1"), (0.894481, "exp(-log(p2 / p1) / 0.8945))")],
)
def test_a_card_says_how_an_exported_file_is_fed(temperature: float, said: str) -> None:
    card = model_card()
    changed = replace(card, temperature=replace(card.temperature, value=temperature))
    words = words_of(card_document(changed))

    given = card.input
    assert f"the shape (n, {given.height_px}, {given.width_px}, 3): RGB, values 0" in words
    assert "probabilities of benign (p1) and malignant (p2), in this order" in words
    assert said in words


def test_the_formula_of_the_card_gives_the_program_s_probabilities() -> None:
    logits, temperature = np.random.default_rng(0).normal(0.0, 4.0, (50, 2)), 0.8945
    p1, p2 = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).T

    by_card = 1 / (1 + np.exp(-np.log(p2 / p1) / temperature))

    np.testing.assert_allclose(by_card, compute_prob_malignant(logits, temperature), atol=1e-7)
