"""From bytes to a verdict: the rule of the threshold, the probability, and the cautions."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from bc_model.data.pictures import read_picture
from bc_model.data.splits import read_split
from bc_model.data.stain import STAIN_COLUMNS
from bc_model.errors import ModelError
from bc_model.gradcam import Heatmap
from bc_model.serving.batching import BatchingEngine
from bc_model.serving.bundle import Bundle, open_bundle
from bc_model.serving.engine import Engine
from bc_model.serving.head import Head
from bc_model.serving.known_pictures import KNOWN_FILE
from bc_model.serving.passport import (
    DecisionThreshold,
    ModelCard,
    Scale,
    StainStatistics,
    Temperature,
)
from bc_model.serving.verdict import diagnose, prob_malignant
from bc_model.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def card(tiny_run: RunFolder) -> ModelCard:
    # The drawn set has no scale; here it stands for a real one.
    card = open_bundle(tiny_run.path).card
    scale = Scale((200,), {"200": (0.5, 0.6)}, "a test")
    # What is drawn here is no drawn tissue, and would be stained strangely.
    given = replace(card.input, stain=None)
    files = {name: sha256 for name, sha256 in card.files.items() if name != KNOWN_FILE}
    return replace(card, scale=scale, input=given, files=files)


def answering(
    logits: tuple[float, float],
    card: ModelCard,
    *,
    threshold: float = 0.5,
    temperature: float = 1.0,
) -> Any:
    """Return an engine that gives these logits whatever it is shown."""
    card = replace(
        card,
        threshold=DecisionThreshold(threshold, "a test"),
        temperature=Temperature(temperature, "a test"),
    )
    maps = {name: Heatmap(name, np.zeros((2, 2), np.float32)) for name in card.classes}
    return SimpleNamespace(
        bundle=Bundle(Path(), card),
        explain_one=lambda _: (np.array(logits, np.float32), maps),
    )


def picture(width: int = 96, height: int = 64, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height))


# --- Probability ---


def test_probability_by_hand() -> None:
    expected = 1 / (1 + math.exp(-(3 - 1)))
    assert prob_malignant(np.array([[1.0, 3.0]]), 1.0)[0] == pytest.approx(expected, rel=1e-12)


def test_temperature_divides_the_logits() -> None:
    expected = 1 / (1 + math.exp(-(3 - 1) / 4))
    assert prob_malignant(np.array([[1.0, 3.0]]), 4.0)[0] == pytest.approx(expected, rel=1e-12)


def test_large_logits_do_not_overflow() -> None:
    np.testing.assert_array_equal(
        prob_malignant(np.array([[-1e4, 1e4], [1e4, -1e4]]), 1.0), [1.0, 0.0]
    )


def test_a_verdict_has_the_calibrated_probability(card: ModelCard) -> None:
    engine = answering((1.0, 3.0), card, temperature=4.0)
    verdict = diagnose(engine, picture(), "a.png")
    assert verdict.prob_malignant == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert verdict.logits == (1.0, 3.0)


# --- Class ---


@pytest.mark.parametrize(
    ("logits", "threshold", "expected"),
    [
        ((0.0, 0.0), 0.5, "malignant"),  # exactly at the threshold
        ((0.001, 0.0), 0.5, "benign"),
        ((0.0, 0.0), 0.51, "benign"),
        ((0.0, -3.0), 0.04, "malignant"),  # a sensitive model: 0.047 is enough
        ((9.0, -9.0), 0.0, "malignant"),  # at threshold 0 everything is
    ],
)
def test_the_class_follows_the_threshold(
    logits: tuple[float, float], threshold: float, expected: str, card: ModelCard
) -> None:
    engine = answering(logits, card, threshold=threshold)
    assert diagnose(engine, picture(), "a.png").class_name == expected


# --- The whole road, on a real engine ---


@pytest.fixture
def engine(tiny_run: RunFolder) -> BatchingEngine:
    return BatchingEngine(Engine(open_bundle(tiny_run.path)))


def test_an_answer_that_is_no_number_is_not_called_benign(
    engine: BatchingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN reaches no threshold: without a check of its own it would read as 'benign'."""
    head = engine.engine._head
    broken = Head((*head.kernels[:-1], head.kernels[-1] * np.nan), head.biases)
    monkeypatch.setattr(engine.engine, "_head", broken)
    with pytest.raises(ModelError, match="not finite"):
        diagnose(engine, picture(), "a.png")


def test_a_verdict_says_what_it_is_of(engine: BatchingEngine) -> None:
    verdict = diagnose(engine, picture(120, 80), "slide 7.png")
    assert verdict.name == "slide 7.png"
    assert (verdict.width_px, verdict.height_px) == (120, 80)
    assert set(verdict.heatmaps) == {"benign", "malignant"}


def test_the_network_sees_the_picture_shrunk_to_its_input(engine: BatchingEngine) -> None:
    rgb = picture(96, 64)
    shrunk = cv2.resize(rgb, (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(
        diagnose(engine, rgb, "a.png").logits, engine.engine.predict(shrunk[None])[0], atol=1e-6
    )


def test_the_same_picture_has_the_same_verdict(engine: BatchingEngine) -> None:
    first, second = (diagnose(engine, picture(), "a.png") for _ in range(2))
    assert first.logits == second.logits


# --- Cautions and warnings ---


def about_size(engine: Any, width: int, height: int) -> list[str]:
    verdict = diagnose(engine, picture(width, height), "a.png")
    return [sentence for sentence in verdict.cautions if "pixels" in sentence]


@pytest.mark.parametrize("size", [(700, 460), (700, 456), (96, 64)], ids=str)
def test_a_size_that_the_model_learned_from_needs_no_caution(
    card: ModelCard, size: tuple[int, int]
) -> None:
    assert not about_size(answering((0.0, 1.0), card), *size)


@pytest.mark.parametrize("size", [(512, 512), (64, 64), (460, 700), (64, 96)], ids=str)
def test_another_size_comes_with_a_caution(card: ModelCard, size: tuple[int, int]) -> None:
    (caution,) = about_size(answering((0.0, 1.0), card), *size)
    assert f"{size[0]} x {size[1]} pixels" in caution


@pytest.mark.parametrize(("width", "height"), [(20, 32), (32, 20), (21, 21)])
def test_a_picture_that_is_enlarged_much_is_warned_of(card: ModelCard, width: int, height: int):
    """The network takes 32 x 32 px."""
    engine = answering((0.0, 1.0), card)
    (warning,) = diagnose(engine, picture(width, height), "a.png").warnings
    assert warning.startswith(f"This picture has {width} x {height} pixels and is enlarged 1.")
    assert not about_size(engine, width, height)  # said once
    assert not diagnose(engine, picture(22, 22), "a.png").warnings


@pytest.mark.parametrize(
    ("trimmed", "exact"), [((1400, 920), (1400, 912)), ((350, 230), (350, 228))]
)
def test_the_official_shape_is_judged_the_same_with_and_without_trimming(
    card: ModelCard, trimmed: tuple[int, int], exact: tuple[int, int]
) -> None:
    """A frame at twice the size and the field cut from it show the network the same."""
    engine = answering((0.0, 1.0), card)
    assert bool(about_size(engine, *trimmed)) == bool(about_size(engine, *exact))


def test_the_known_scale_is_named_as_breakhis_and_as_objective(card: ModelCard) -> None:
    verdict = diagnose(answering((0.0, 1.0), card), picture(), "a.png")
    assert any("200X" in text and "20x objective" in text for text in verdict.cautions)


def test_a_model_of_unknown_scale_does_not_name_one(card: ModelCard) -> None:
    unknown = replace(card, scale=replace(card.scale, magnifications=()))
    verdict = diagnose(answering((0.0, 1.0), unknown), picture(), "a.png")
    assert not any("objective" in text for text in verdict.cautions)


def test_a_name_that_says_the_magnification_needs_no_caution_about_it(card: ModelCard) -> None:
    engine = answering((0.0, 1.0), card)
    verdict = diagnose(engine, picture(), "SOB_B_A-14-22549AB-200-001.png")
    assert not any("does not say its scale" in text for text in verdict.cautions)


@pytest.mark.parametrize(("temperature", "said"), [(1.0, True), (1.5, False)])
def test_an_uncalibrated_model_says_so(temperature: float, said: bool, card: ModelCard) -> None:
    engine = answering((0.0, 1.0), card, temperature=temperature)
    cautions = diagnose(engine, picture(), "a.png").cautions
    assert any("not been calibrated" in text for text in cautions) == said


def test_a_name_of_another_magnification_is_warned_of(card: ModelCard) -> None:
    engine = answering((0.0, 1.0), card)
    verdict = diagnose(engine, picture(), "SOB_B_A-14-12345-40-001.png")
    (warning,) = verdict.warnings
    assert not verdict.is_called
    assert "40X" in warning
    assert "only 200X" in warning


@pytest.mark.parametrize("part", ["training_cases", "validation_cases"])
def test_a_case_that_made_or_chose_the_model_is_warned_of(part: str, card: ModelCard) -> None:
    case = getattr(card.data, part)[0]
    engine = answering((0.0, 1.0), card)
    verdict = diagnose(engine, picture(), f"SOB_B_A-14-{case}-200-001.png")
    (warning,) = verdict.warnings
    assert verdict.is_called
    assert f"case {case}, which the model was trained on" in warning


def test_its_own_pictures_are_known_by_their_pixels_and_looks(
    card: ModelCard, tiny_run: RunFolder, drawn_set: Path
) -> None:
    engine = answering((0.0, 1.0), replace(card, files=open_bundle(tiny_run.path).card.files))
    engine.bundle = Bundle(tiny_run.model_folder, engine.bundle.card)
    split = read_split(tiny_run.split_file)
    own, other = (
        read_picture(drawn_set / split.loc[split["part"] == part, "path"].iloc[0])
        for part in ("train", "test")
    )

    (warning,) = diagnose(engine, own, "a.png").warnings
    assert warning.startswith("The model learned from this very picture, or was chosen by it.")
    half = cv2.resize(own, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    (warning,) = diagnose(engine, half, "a.png").warnings
    assert warning.startswith("This picture looks the same as one that the model learned from")
    assert diagnose(engine, other, "a.png").warnings == ()
    (warning,) = diagnose(
        engine, own, f"SOB_B_A-14-{min(engine.bundle.known_cases)}-200-1.png"
    ).warnings
    assert warning.startswith("By its name this picture is of case")  # said once


def test_a_drawn_picture_tells_a_model_of_tissue_nothing(card: ModelCard) -> None:
    of_tissue = replace(card, data=replace(card.data, is_synthetic=False))
    said = [
        any("is drawn, not tissue" in warning for warning in diagnose(
            answering((0.0, 1.0), one), picture(), "SOB_B_A-14-90099-200-001.png").warnings)
        for one in (of_tissue, card)
    ]  # fmt: skip
    assert said == [True, False]


def test_a_picture_stained_like_no_other_is_warned_of(card: ModelCard) -> None:
    columns = dict.fromkeys(STAIN_COLUMNS, (0.2, 0.3, 0.4))
    statistics = StainStatistics((0.01, 0.5, 0.99), columns, 0.0)
    knowing = replace(card, input=replace(card.input, stain=statistics))
    blank = np.full((64, 96, 3), 244, np.uint8)
    verdict = diagnose(answering((0.0, 1.0), knowing), blank, "a.png")
    assert not verdict.is_called
    assert verdict.warnings[0].startswith("This picture has no colour")
    verdict = diagnose(answering((0.0, 1.0), knowing), picture(), "a.png")
    assert verdict.is_called  # of another stain, perhaps
    assert verdict.warnings[0].startswith("Stained unlike anything that the model learned from: ")


@pytest.mark.parametrize("name", ["SOB_B_A-14-12345-200-001.png", "my picture.png", ""])
def test_any_other_name_is_not_warned_of(name: str, card: ModelCard) -> None:
    assert diagnose(answering((0.0, 1.0), card), picture(), name).warnings == ()
