"""Model cards as documents."""

import numpy as np
import pytest

from bc_model.reporting.model_card import card_document
from bc_model.serving.verdict import prob_malignant
from tests.bc_model.reporting.examples import MARKUP, passport, report, words_of


def test_a_card_is_made_from_the_passport() -> None:
    found = report(leaky=True)
    changed = passport(
        name="mine",
        metrics={"test": found.summary()},
        threshold={"value": 0.312, "chosen": "by wish", "reason": MARKUP, "date": "2026-01-01"},
        precisions={
            "bf16": {"prob_difference_p99": 0.002, "auc_difference": None, "n": 9, "allowed": False}
        },
    )
    told = words_of(card_document(changed))
    assert "Model card: mine" in told
    assert "0.312, by wish on 2026-01-01; reason: " + MARKUP in told
    assert "(with leakage)" in told
    assert "bf16 failed 0.00200 not defined 9" in told
    accuracy = found.figures["accuracy"]
    assert f"Accuracy {accuracy.value:.3f} {accuracy.low:.3f} to {accuracy.high:.3f} 120 24" in told
    assert "no normal tissue" in told
    assert "The model is not evaluated." in words_of(card_document(passport()))
    assert "200X (200X about 0.5-0.6 um per pixel; x)" in words_of(
        card_document(
            passport(
                scale={"magnifications": [200], "mpp_range": {"200": [0.5, 0.6]}, "source": "x"}
            )
        )
    )


def test_a_card_names_the_cases_that_the_first_weights_knew() -> None:
    fresh = passport()
    tuned = passport(data=fresh["data"] | {"drawn": True, "initial_cases": ["a", "b", "c"]})

    assert "Initialization leakage 3 cases" in words_of(card_document(tuned))
    assert "of tissue it knows only what the model that it began from" in words_of(
        card_document(tuned)
    )
    assert "Initialization leakage" not in words_of(card_document(fresh))


def test_a_card_of_a_model_made_of_every_picture_speaks_of_no_validation_part() -> None:
    whole = passport()
    whole["data"] |= {
        "pictures": {"train": 9, "validation": 0, "test": 0},
        "cases": {"train": 3, "validation": 0, "test": 0},
    }
    whole["precisions"] = {
        "f32": {"prob_difference_p99": 0.0, "auc_difference": 0.0, "n": 9, "allowed": True}
    }

    words = words_of(card_document(whole))

    assert "9 train of 3 cases; split by" in words
    assert "Difference from the reference on training images." in words


def test_a_card_says_what_comes_of_choosing_inside_the_folds() -> None:
    figure = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 120, "n_cases": 24, "method": "none"}
    choice = {"fold": 3, "views": "plain", "last_penalty": 30.0, "penalty": 0.1,
              "temperature": 1.25, "roc_auc": 0.97}  # fmt: skip
    inside = {
        "network": "large networks", "chosen_by": "small ones",
        "folds": 1, "n": 120, "n_cases": 24,
        "figures": {"roc_auc": figure}, "choices": [choice],
        "offered": {"views": {"strange": {}, "plain": {"zoom": [0.75, 1.3], "mixed": 0.3}},
                    "penalties": [0.1, 1.0], "last_penalties": [1.0, 10.0, 30.0]},
    }  # fmt: skip
    words = words_of(card_document(passport(metrics={"chosen_inside": inside})))

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
    assert "Nested" not in words_of(card_document(passport()))


@pytest.mark.parametrize(
    ("temperature", "said"),
    [(1.0, "The temperature is 1"), (0.894481, "exp(-log(p2 / p1) / 0.8945))")],
)
def test_a_card_says_how_an_exported_file_is_fed(temperature: float, said: str) -> None:
    card = passport()
    words = words_of(
        card_document(card | {"temperature": card["temperature"] | {"value": temperature}})
    )

    given = card["input"]
    assert f"the shape (n, {given['height_px']}, {given['width_px']}, 3): RGB, values 0" in words
    assert "probabilities of benign (p1) and malignant (p2), in this order" in words
    assert said in words


def test_the_formula_of_the_card_gives_the_program_s_probabilities() -> None:
    logits, temperature = np.random.default_rng(0).normal(0.0, 4.0, (50, 2)), 0.8945
    p1, p2 = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).T

    by_card = 1 / (1 + np.exp(-np.log(p2 / p1) / temperature))

    np.testing.assert_allclose(by_card, prob_malignant(logits, temperature), atol=1e-7)
