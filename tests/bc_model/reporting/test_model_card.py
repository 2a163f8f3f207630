"""Model cards as documents."""

from dataclasses import replace

import numpy as np
import pytest

from bc_model.inference.engine import compute_prob_malignant
from bc_model.inference.model_card import (
    CardMetrics,
    ConformalThresholds,
    DecisionThreshold,
    ExplanationChecks,
    FoldChoice,
    NestedResult,
    PointingResult,
    RandomizationResult,
    RobustnessRow,
    RobustnessTable,
    Scale,
    SearchSpace,
    SubsetCounts,
)
from bc_model.inference.precision import Parity
from bc_model.reporting.model_card import card_document
from bc_model.utils.measurement import Metric
from tests.bc_model.inference.model_cards import selective_summary
from tests.bc_model.reporting.examples import MARKUP, model_card, report, texts_of


def test_card_document_states_the_values_of_the_card() -> None:
    example = report(has_leakage=True)
    changed = model_card(
        name="mine",
        metrics=CardMetrics(test=example.summary()),
        threshold=DecisionThreshold(0.312, "set manually", MARKUP, "2026-01-01"),
        precisions={"bf16": Parity(0.002, None, n_images=9, passes_parity=False)},
    )
    text = texts_of(card_document(changed))
    assert "Model card: mine" in text
    assert "0.312, set manually on 2026-01-01; reason: " + MARKUP in text
    assert "(with leakage)" in text
    assert "bf16 failed 0.00200 not defined 9" in text
    accuracy = example.metrics["accuracy"]
    assert (
        f"Accuracy {accuracy.value:.3f} {accuracy.ci_low:.3f} to {accuracy.ci_high:.3f} 120 24"
        in text
    )
    assert "no normal tissue" in text
    assert "The model is not evaluated." in texts_of(card_document(model_card()))
    assert "200X (200X about 0.5-0.6 um per pixel; x)" in texts_of(
        card_document(model_card(scale=Scale((200,), {"200": (0.5, 0.6)}, "x")))
    )


def test_card_document_counts_initialization_leakage() -> None:
    without_leakage = model_card()
    with_leakage = model_card(
        data=replace(without_leakage.data, is_synthetic=True, initial_cases=("a", "b", "c"))
    )

    assert "Initialization leakage 3 cases" in texts_of(card_document(with_leakage))
    assert "Only its initial weights were trained on tissue" in texts_of(
        card_document(with_leakage)
    )
    assert "Initialization leakage" not in texts_of(card_document(without_leakage))


def test_card_document_without_validation_images_names_training_images() -> None:
    data = replace(model_card().data, n_images=SubsetCounts(train=9), n_cases=SubsetCounts(train=3))
    parity = Parity(prob_difference_p99=0.0, auc_difference=0.0, n_images=9, passes_parity=True)
    card = model_card(data=data, precisions={"f32": parity})

    text = texts_of(card_document(card))

    assert "9 train of 3 cases; split by" in text
    assert "Difference from the reference on training images." in text


def test_card_document_contains_nested_cross_validation() -> None:
    roc_auc = Metric(value=0.9, ci_low=0.8, ci_high=0.95, n_images=120, n_cases=24, method="none")
    search_space = SearchSpace(
        teacher_weights={"equal": (1.0, 1.0), "first": (1.0, 0.0)},
        penalty_factors=(0.1, 1.0),
        last_penalties=(1.0, 10.0, 30.0),
    )
    nested = NestedResult(
        network="large networks",
        search_space=search_space,
        choices=(FoldChoice(3, "first", 0.1, 30.0, 1.25, 0.97),),
        n_folds=1,
        n_images=120,
        n_cases=24,
        metrics={"balanced_accuracy": roc_auc, "roc_auc": roc_auc},
    )
    metrics = CardMetrics(nested=nested, teacher_correlation=0.9712)
    text = texts_of(card_document(model_card(metrics=metrics)))

    assert "Nested cross-validation" in text
    assert "selected the weights of the teachers (equal (1, 1); first (1, 0))" in text
    assert "one of 2 factors of their penalties, one of 3 penalties of the last layer" in text
    assert "Evaluated with large networks, each trained without one fold." in text
    assert "ROC AUC 0.900 (0.800-0.950). 120 images of 24 cases." in text
    assert "3 first 0.1 30 1.25" in text
    assert "on images of left-out cases: 0.971." in text
    assert "Nested" not in texts_of(card_document(model_card()))


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, "The temperature is 1"), (0.894481, "exp(-log(p2 / p1) / 0.8945))")],
)
def test_card_document_describes_exported_files(temperature: float, expected: str) -> None:
    card = model_card()
    changed = replace(card, temperature=replace(card.temperature, value=temperature))
    text = texts_of(card_document(changed))

    size = card.input
    assert f"the shape (n, {size.height_px}, {size.width_px}, 3): RGB, values 0" in text
    assert "probabilities of benign (p1) and malignant (p2), in this order" in text
    assert expected in text


def test_formula_of_the_card_gives_the_same_probabilities() -> None:
    logits, temperature = np.random.default_rng(0).normal(0.0, 4.0, (50, 2)), 0.8945
    p1, p2 = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).T

    by_card = 1 / (1 + np.exp(-np.log(p2 / p1) / temperature))

    np.testing.assert_allclose(by_card, compute_prob_malignant(logits, temperature), atol=1e-7)


def test_card_document_shows_robustness_and_heatmaps_with_images_and_cases() -> None:
    def metric(value: float) -> Metric:
        return Metric(value, value - 0.05, value + 0.05, 120, 24, "m")

    row = RobustnessRow("blur_2", "Blur, 2 px", "blur", 2.0, metric(0.075), 6, 3, metric(0.91))
    robustness = RobustnessTable("held-out images", 0.4, 120, 24, metric(0.93), (row,))
    explanations = ExplanationChecks(
        "held-out images", metric(0.11), metric(0.22), metric(0.33), metric(0.88), metric(0.77),
        pooled_background_mass=0.1, n_empty=3,
        pointing=(PointingResult("Mosaics", "malignant", metric(0.8), metric(0.7), 0.5, 2),),
        randomization=(RandomizationResult("last layer", -0.125, 110, 10),),
    )  # fmt: skip
    metrics = CardMetrics(robustness=robustness, explanations=explanations)
    text = texts_of(card_document(model_card(metrics=metrics)))
    assert "held-out images: 120 images of 24 cases, threshold 0.400" in text
    assert "Blur, 2 px 0.075 (0.025-0.125) 6 3 0.910 (0.860-0.960)" in text
    assert "Proportion of the heatmap on background 0.110 0.060 to 0.160 120 24" in text
    assert "is empty for 3 images" in text
    assert "Largest value in the region of the class 0.800 0.750 to 0.850 120 24" in text
    assert "By chance: 0.500, the proportion of the area. 2 empty heatmaps" in text
    assert "last layer -0.125 110" in text
    assert "Robustness" not in texts_of(card_document(model_card()))


def test_card_document_shows_the_uncertain_range_with_images_and_cases() -> None:
    selective = selective_summary(0.25, 0.75)
    text = texts_of(card_document(model_card(metrics=CardMetrics(selective=selective))))
    assert "between 0.250 and 0.750" in text
    assert "Fitted on validation images: 60 images of 12 cases" in text
    assert "Error rate of these images 0.033 0.013 to 0.053 60 12" in text
    assert "Error rate, range fitted without the case 0.077 0.057 to 0.097 60 12" in text
    assert "at least 19 cases of each class" in text
    assert "1.000 0.200 0.100 to 0.300 60 12" in text
    conformal = replace(selective, conformal=ConformalThresholds(0.05, 0.61, 0.32, 20, 21))
    text = texts_of(card_document(model_card(metrics=CardMetrics(selective=conformal))))
    assert "benign up to 0.610, malignant from 0.320 (20 benign and 21 malignant cases)" in text
