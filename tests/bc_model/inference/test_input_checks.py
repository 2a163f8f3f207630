"""Checks of the staining: blank, grayscale, or unlike the training images."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bc_model.checks import TERMS, Severity, is_blocked, make_check
from bc_model.data.stain import STAIN_COLUMNS, are_gray, stain_densities, stain_statistics
from bc_model.data.synthetic import generate_image
from bc_model.inference.input_checks import (
    check_staining,
    expected_out_of_distribution_proportion,
    find_staining_differences,
    measure_out_of_distribution_proportion,
    summarize_staining,
)
from bc_model.inference.model_card import ModelCard, StainStatistics
from benchmarks.model_card import dummy_model_card


def code_of(pixels: np.ndarray, card: ModelCard) -> str | None:
    check = check_staining(pixels, card)
    return check.code if check else None


IMAGES = np.stack([generate_image(malignant=bool(i % 2), seed=i)[:160, :240] for i in range(12)])

NOT_GRAY = np.zeros(len(IMAGES), bool)


@pytest.fixture
def card() -> ModelCard:
    """Return the card of a model that was trained on synthetic images."""
    return card_with(summarize_staining(stain_statistics(IMAGES), NOT_GRAY))


def card_with(stain: StainStatistics | None) -> ModelCard:
    card = dummy_model_card((160, 240))
    return replace(card, input=replace(card.input, stain=stain))


def test_check_staining_with_training_images_returns_none(card):
    assert {code_of(image, card) for image in IMAGES} == {None}


def test_check_staining_with_blank_image_is_blocking(card):
    noise = np.random.default_rng(0).normal(0.0, 2.0, (160, 240, 3))
    glass = (np.array([244, 230, 240]) + noise).clip(0, 255).astype(np.uint8)

    assert check_staining(glass, card) == make_check("BC103")
    assert is_blocked([make_check("BC103")])


def test_check_staining_without_nuclei_is_not_blank(card):
    noise = cv2.resize(np.random.default_rng(0).random((20, 30)), (240, 160))[:, :, None]
    eosin = np.array([0.07, 0.99, 0.11]) / np.linalg.norm([0.07, 0.99, 0.11])
    collagen = (256.0 * 10.0 ** -(eosin * noise) - 1.0).clip(0, 255).astype(np.uint8)

    spread = stain_statistics(collagen[None])[0, STAIN_COLUMNS.index("hematoxylin_sd")]
    assert spread < 0.5 * card.input.stain.values["hematoxylin_sd"][0]
    check = check_staining(collagen, card)
    assert check.code == "BC120"
    assert any(code.startswith("eosin_") for code in check.params["differences"])
    assert check.severity == Severity.WARNING


def test_check_staining_with_stronger_stains_lists_codes_with_terms(card):
    check = check_staining(IMAGES[0] // 2, card)

    assert check.code == "BC120"
    assert any(code.endswith("_stronger") for code in check.params["differences"])
    assert set(check.params["differences"]) <= TERMS.keys()


@pytest.mark.parametrize(("difference", "gray"), [(0, True), (3, True), (5, False)])
def test_check_staining_with_equal_channels_is_grayscale(card, difference, gray):
    image = np.repeat(IMAGES[0][:, :, 1:2] // 2 + 60, 3, axis=2)
    image[:, :, 0] += np.uint8(difference)

    assert (code_of(image, card) == "BC104") == gray


def test_check_staining_with_grayscale_training_images_returns_none():
    gray = np.repeat(IMAGES[:, :, :, 1:2], 3, axis=3)
    assert are_gray(gray).all()
    statistics = summarize_staining(stain_statistics(gray), are_gray(gray))

    assert statistics.grayscale_proportion == 1.0
    assert check_staining(gray[0], card_with(statistics)) is None


def test_measure_out_of_distribution_proportion_of_a_worked_example():
    stain = np.repeat(np.linspace(0.0, 1.0, 101)[:, None], 6, axis=1)
    statistics = summarize_staining(stain, np.array([True, False, False, False]))

    assert statistics.quantiles == (0.01, 0.05, 0.5, 0.95, 0.99)
    assert statistics.values["eosin_mean"] == pytest.approx([0.01, 0.05, 0.5, 0.95, 0.99])
    assert statistics.grayscale_proportion == 0.25
    # The tolerance is half of 0.49 below 0.01 and above 0.99.
    others = np.full((4, 6), 0.5)
    others[:, 2] = [-0.23, 0.5, 0.5, 1.23]
    assert measure_out_of_distribution_proportion(others, statistics) == 0.0
    others[:, 2] = [-0.24, -0.23, 1.23, 1.24]
    assert measure_out_of_distribution_proportion(others, statistics) == 0.5


def test_check_staining_tolerance_is_half_the_distance_to_the_median(card):
    # With 0 to 2 around 1 in training, values from -0.5 to 2.5 pass.
    image = IMAGES[0]
    eosin = stain_densities(image[::2, ::2].reshape(-1, 3))[:, 1].mean()
    for median, expected in ((eosin + 1.4, False), (eosin + 1.6, True), (eosin - 1.4, False),
                             (eosin - 1.6, True)):  # fmt: skip
        low, high = median - 1.0, median + 1.0
        eosin_values = {"eosin_mean": (low, low, median, high, high)}
        stain = card.input.stain
        changed = card_with(replace(stain, values=stain.values | eosin_values))
        code = "eosin_paler" if median > eosin else "eosin_stronger"
        check = check_staining(image, changed)
        assert (check is not None and code in check.params["differences"]) == expected


def test_find_staining_differences_returns_codes(card):
    stain = stain_statistics(IMAGES[:1])[0]
    assert find_staining_differences(stain, False, card.input.stain) == []
    assert find_staining_differences(stain, True, card.input.stain) == ["grayscale"]

    stain[STAIN_COLUMNS.index("eosin_mean")] += 1.0
    stain[STAIN_COLUMNS.index("residual_sd")] = -1.0
    assert find_staining_differences(stain, False, card.input.stain) == [
        "eosin_stronger",
        "residual_more_even",
    ]


def test_check_staining_without_statistics_returns_none():
    assert check_staining(np.zeros((8, 8, 3), np.uint8), card_with(None)) is None
    assert expected_out_of_distribution_proportion(card_with(None)) is None
