"""The classifier: probability, decision threshold, and checks of an image."""

import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import bc_model
from bc_model.checks import Check, Severity, make_check
from bc_model.contribution_map import ContributionMap
from bc_model.data.declared_scale import scale_from_mpp
from bc_model.data.images import read_image
from bc_model.data.splits import read_split
from bc_model.data.stain import STAIN_COLUMNS
from bc_model.errors import ConfigError, ModelError
from bc_model.gradcam import Heatmap
from bc_model.inference.batching import BatchingEngine, ImageExplanation
from bc_model.inference.bundle import Bundle, file_sha256, has_bundled_model, open_bundle
from bc_model.inference.classifier import Classifier, load_classifier
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.head import Head
from bc_model.inference.image_checks import FieldChecks
from bc_model.inference.image_prediction import Prediction
from bc_model.inference.model_card import (
    DecisionThreshold,
    ModelCard,
    Scale,
    StainStatistics,
    Temperature,
    read_model_card,
    write_model_card,
)
from bc_model.inference.seen_images import SEEN_IMAGES_FILE
from bc_model.training.run import Run
from tests.bc_model.inference.model_cards import selective_summary


@pytest.fixture(scope="module")
def card(tiny_run: Run) -> ModelCard:
    """Return a card without a scale, as that of a synthetic dataset."""
    card = open_bundle(tiny_run.path).card
    # The random images of these tests have unusual staining.
    given = replace(card.input, stain=None)
    files = {name: sha256 for name, sha256 in card.files.items() if name != SEEN_IMAGES_FILE}
    return replace(card, input=given, files=files)


@pytest.fixture(scope="module")
def scaled_card(card: ModelCard) -> ModelCard:
    """Return a card with the scale of real images at 200X."""
    return replace(card, scale=Scale((200,), {"200": (0.55, 0.55)}, "a test"))


def engine_with(
    logits: tuple[float, float],
    card: ModelCard,
    *,
    threshold: float = 0.5,
    temperature: float = 1.0,
    is_constant: bool = False,
) -> Any:
    """Return an engine that returns these logits for every image."""
    card = replace(
        card,
        threshold=DecisionThreshold(threshold, "a test"),
        temperature=Temperature(temperature, "a test"),
    )
    maps = {name: Heatmap(name, np.zeros((2, 2), np.float32)) for name in card.classes}
    contribution = ContributionMap(np.zeros((2, 2), np.float32), 0.0, 0.0, 0.0)
    explanation = ImageExplanation(
        np.array(logits, np.float32), maps, is_constant, contribution, np.ones(2, np.float32)
    )
    bundle = Bundle(Path(), card)
    engine = SimpleNamespace(bundle=bundle, scale_estimator=None, input_reference=None)
    return SimpleNamespace(bundle=bundle, engine=engine, explain_one=lambda *_: explanation)


def predict(
    engine: Any,
    rgb: np.ndarray | None = None,
    name: str = "a.png",
    magnification: int | None = None,
) -> Prediction:
    rgb = image() if rgb is None else rgb
    return Classifier(engine).predict(rgb, name=name, magnification=magnification)


def codes(engine: Any, rgb: np.ndarray | None = None, name: str = "a.png") -> list[str]:
    return [check.code for check in predict(engine, rgb, name).checks]


def seen_codes(engine: Any, rgb: np.ndarray, name: str = "a.png") -> list[str]:
    return [code for code in codes(engine, rgb, name) if code in ("BC110", "BC111", "BC112")]


def image(width: int = 96, height: int = 64, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height))


# --- Constant answers ---


def test_predict_with_a_constant_answer_is_blocked(card: ModelCard) -> None:
    prediction = predict(engine_with((0.0, 1.55), card, is_constant=True))
    assert "BC106" in [check.code for check in prediction.checks]
    assert (prediction.prob_malignant, prediction.predicted_class) == (None, None)
    assert prediction.heatmaps == {}


def with_head(folder: Path, head: Head, copy: Path) -> Engine:
    """Return an engine for a copy of a bundle with another head."""
    shutil.copytree(folder, copy)
    head.save(copy / "head.npz")
    card = read_model_card(copy)
    files = card.files | {"head.npz": file_sha256(copy / "head.npz")}
    write_model_card(copy, replace(card, files=files, input=replace(card.input, stain=None)))
    return Engine(open_bundle(copy))


@pytest.mark.parametrize(("slope", "is_blocked"), [(0.0, True), (0.1, False)])
def test_predict_with_all_units_of_the_head_off(
    slope: float, is_blocked: bool, tiny_run: Run, tmp_path: Path
) -> None:
    # The features are means after a ReLU, so with these kernels every unit is at most -1.
    n_features = Head.load(tiny_run.model_dir / "head.npz").kernels[0].shape[0]
    kernels = (-np.ones((n_features, 3), np.float32), np.ones((3, 2), np.float32))
    biases = (-np.ones(3, np.float32), np.array([0.0, 1.55], np.float32))
    engine = with_head(tiny_run.model_dir, Head(kernels, biases, slope), tmp_path / "model")
    prediction = Classifier(BatchingEngine(engine)).predict(image())
    assert ("BC106" in [check.code for check in prediction.checks]) == is_blocked
    assert (prediction.prob_malignant is None) == is_blocked


@pytest.mark.skipif(not has_bundled_model(), reason="the bundled model is not installed")
def test_predict_bundled_never_returns_the_constant_of_the_last_bias() -> None:
    """Flat rectangles had no active unit, and the answer was 0.8247 for all of them."""
    classifier = load_classifier("bundled")
    bundle = classifier.bundle
    last_bias = Head.load(bundle.file("head.npz")).biases[-1]
    constant = compute_prob_malignant(last_bias[None], bundle.temperature)[0]
    for seed in range(4):
        colors = np.random.default_rng(seed).integers(0, 256, (2, 3, 3), dtype=np.uint8)
        prediction = classifier.predict(colors.repeat(230, axis=0).repeat(234, axis=1))
        assert prediction.prob_malignant != pytest.approx(constant, abs=1e-6)
        assert prediction.is_classified == (prediction.prob_malignant is not None)


# --- Probability ---


def test_compute_prob_malignant_returns_the_softmax() -> None:
    expected = 1 / (1 + math.exp(-(3 - 1)))
    assert compute_prob_malignant(np.array([[1.0, 3.0]]), 1.0)[0] == pytest.approx(
        expected, rel=1e-12
    )


def test_compute_prob_malignant_divides_by_the_temperature() -> None:
    expected = 1 / (1 + math.exp(-(3 - 1) / 4))
    assert compute_prob_malignant(np.array([[1.0, 3.0]]), 4.0)[0] == pytest.approx(
        expected, rel=1e-12
    )


def test_compute_prob_malignant_with_large_logits_does_not_overflow() -> None:
    np.testing.assert_array_equal(
        compute_prob_malignant(np.array([[-1e4, 1e4], [1e4, -1e4]]), 1.0), [1.0, 0.0]
    )


def test_predict_with_temperature_returns_the_calibrated_probability(card: ModelCard) -> None:
    prediction = predict(engine_with((1.0, 3.0), card, temperature=4.0))
    assert prediction.prob_malignant == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert prediction.logits == (1.0, 3.0)


# --- Class ---


@pytest.mark.parametrize(
    ("logits", "threshold", "expected"),
    [
        ((0.0, 0.0), 0.5, "malignant"),  # exactly at the threshold
        ((0.001, 0.0), 0.5, "benign"),
        ((0.0, 0.0), 0.51, "benign"),
        ((0.0, -3.0), 0.04, "malignant"),  # a sensitive model: 0.047 is enough
        ((9.0, -9.0), 0.0, "malignant"),  # at threshold 0, every image is malignant
    ],
)
def test_predict_returns_the_class_at_the_threshold(
    logits: tuple[float, float], threshold: float, expected: str, card: ModelCard
) -> None:
    engine = engine_with(logits, card, threshold=threshold)
    assert predict(engine).predicted_class == expected


# --- Outcome ---


@pytest.mark.parametrize(
    ("logit", "expected", "found"),
    [(0.0, "uncertain", ["BC191"]), (2.0, "malignant", []), (-2.0, "benign", [])],
)
def test_predict_in_the_uncertain_range_is_uncertain(
    logit: float, expected: str, found: list[str], card: ModelCard
) -> None:
    metrics = replace(card.metrics, selective=selective_summary(0.3, 0.7))
    prediction = predict(engine_with((0.0, logit), replace(card, metrics=metrics)))
    assert prediction.outcome == expected
    assert prediction.uncertain_band == (0.3, 0.7)
    assert prediction.predicted_class == ("benign" if logit < 0 else "malignant")
    assert [check.code for check in prediction.checks if check.code == "BC191"] == found


@pytest.mark.parametrize(("severity", "outcome"), [("warning", "uncertain"), ("blocking", None)])
def test_an_unusual_image_has_no_class_at_any_probability(
    severity: str, outcome: str | None, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_with((0.0, 9.0), card)
    unusual = make_check("BC170", Severity(severity), focus=4.0, limit=5.0)
    monkeypatch.setattr(
        "bc_model.inference.classifier.check_field", lambda *_, **__: FieldChecks((unusual,))
    )
    prediction = predict(engine)
    assert prediction.outcome == outcome
    found = [check for check in prediction.checks if check.code == "BC178"]
    assert len(found) == (outcome == "uncertain")
    if outcome:
        assert prediction.predicted_class == "malignant"
        assert "out of focus" in found[0].message.lower()
    shown = Classifier(engine).predict(image(), name="a.png", show_anyway=True)
    assert shown.outcome == (outcome or "malignant")
    assert shown.is_forced == (outcome is None)


def test_predict_that_is_blocked_has_no_outcome_and_does_not_reveal_the_range(
    card: ModelCard,
) -> None:
    metrics = replace(card.metrics, selective=selective_summary(0.3, 0.7))
    engine = engine_with((0.0, 0.0), replace(card, metrics=metrics), is_constant=True)
    prediction = predict(engine)
    assert prediction.outcome is None
    assert "BC191" not in [check.code for check in prediction.checks]


def test_predict_without_a_range_for_its_threshold_has_the_outcome_of_the_class(
    card: ModelCard,
) -> None:
    assert predict(engine_with((0.0, 0.1), card)).outcome == "malignant"
    metrics = replace(card.metrics, selective=selective_summary(0.3, 0.7, threshold=0.4))
    prediction = predict(engine_with((0.0, 0.1), replace(card, metrics=metrics)))
    assert (prediction.outcome, prediction.uncertain_band) == ("malignant", None)


# --- With a real engine ---


@pytest.fixture
def engine(tiny_run: Run) -> BatchingEngine:
    return BatchingEngine(Engine(open_bundle(tiny_run.path)))


def test_predict_with_a_nan_output_raises(
    engine: BatchingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN is below every threshold and would be classified as benign."""
    head = engine.engine._head
    broken = Head((*head.kernels[:-1], head.kernels[-1] * np.nan), head.biases)
    monkeypatch.setattr(engine.engine, "_head", broken)
    with pytest.raises(ModelError, match="not finite"):
        predict(engine)


def test_predict_returns_name_size_and_heatmaps(engine: BatchingEngine) -> None:
    prediction = predict(engine, image(120, 80), "slide 7.png")
    assert prediction.name == "slide 7.png"
    assert (prediction.width_px, prediction.height_px) == (120, 80)
    assert set(prediction.heatmaps) == {"benign", "malignant"}


def test_predict_resizes_the_image_to_the_network_input(engine: BatchingEngine) -> None:
    rgb = image(96, 64)
    resized = cv2.resize(rgb, (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(
        predict(engine, rgb).logits, engine.engine.predict(resized[None])[0], atol=1e-6
    )


def test_predict_twice_returns_the_same_logits(engine: BatchingEngine) -> None:
    assert predict(engine).logits == predict(engine).logits


def test_load_classifier_accepts_run_and_model_directories(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bc_model.inference.classifier.bundled_model_dir",
        lambda name: tiny_run.model_dir if name == "bundled" else Path(name),
    )
    expected = load_classifier(tiny_run.path).bundle.key
    for source in (str(tiny_run.path), tiny_run.model_dir, "bundled"):
        assert load_classifier(source).bundle.key == expected
    with pytest.raises(ModelError, match="no model"):
        load_classifier("nowhere")


@pytest.mark.skipif(not has_bundled_model(), reason="There is no bundled model.")
def test_load_classifier_bundled_works_from_any_directory(tmp_path: Path) -> None:
    code = """
import numpy as np
import bc_model as bc
classifier = bc.load_classifier("bundled")
print(classifier.predict(np.zeros((460, 700, 3), np.uint8)).predicted_class)
"""
    # A process of its own, because the path of the model is computed on import.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(bc_model.__file__).parents[1])},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


# --- Checks ---


@pytest.mark.parametrize("size", [(700, 460), (700, 456), (96, 64)], ids=str)
def test_predict_with_a_training_size_has_no_size_check(
    card: ModelCard, size: tuple[int, int]
) -> None:
    assert "BC130" not in codes(engine_with((0.0, 1.0), card), image(*size))


@pytest.mark.parametrize("size", [(512, 512), (64, 64), (460, 700), (64, 96)], ids=str)
def test_predict_with_another_size_has_a_size_check(card: ModelCard, size: tuple[int, int]) -> None:
    assert "BC130" in codes(engine_with((0.0, 1.0), card), image(*size))


@pytest.mark.parametrize(("width", "height"), [(20, 32), (32, 20), (21, 21)])
def test_predict_with_a_small_image_is_blocked(card: ModelCard, width: int, height: int) -> None:
    """The input of the network is 32 x 32 px."""
    engine = engine_with((0.0, 1.0), card)
    found = codes(engine, image(width, height))
    assert found[0] == "BC105"
    assert "BC130" not in found
    assert predict(engine, image(22, 22)).is_classified


@pytest.mark.parametrize(
    ("trimmed", "exact"), [((1400, 920), (1400, 912)), ((350, 230), (350, 228))]
)
def test_predict_with_a_full_frame_and_its_cropped_field_has_the_same_checks(
    card: ModelCard, trimmed: tuple[int, int], exact: tuple[int, int]
) -> None:
    """Both give the network the same field."""
    engine = engine_with((0.0, 1.0), card)
    assert codes(engine, image(*trimmed)) == codes(engine, image(*exact))


def test_predict_without_a_stated_scale_is_blocked(scaled_card: ModelCard) -> None:
    prediction = predict(engine_with((0.0, 1.0), scaled_card))
    (check,) = (check for check in prediction.checks if check.code == "BC140")
    assert check.params == {"supported_names": ["200X"], "objectives": ["20x"]}
    assert not prediction.is_classified


@pytest.mark.parametrize(
    ("options", "mpp"),
    [({"scale": "20x"}, 0.5), ({"scale": 0.6}, 0.6), ({"magnification": np.int64(200)}, 3.994)],
)
def test_predict_accepts_scales_in_every_form(
    scaled_card: ModelCard, options: dict[str, Any], mpp: float
) -> None:
    prediction = Classifier(engine_with((0.0, 1.0), scaled_card)).predict(image(), **options)
    assert prediction.scale.mpp == pytest.approx(mpp, abs=0.01)
    assert prediction.scale.source == "user"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "big"}, "Invalid scale 'big'"),
        ({"scale": 0}, "Expected 0.05"),
        ({"magnification": "200X"}, "Expected a positive integer"),
        ({"scale": "20x", "magnification": 200}, "given twice"),
    ],
)
def test_predict_refuses_other_scales(
    scaled_card: ModelCard, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Classifier(engine_with((0.0, 1.0), scaled_card)).predict(image(), **options)


def test_predict_of_a_reduced_image_keeps_the_scale_of_the_file(scaled_card: ModelCard) -> None:
    prediction = Classifier(engine_with((0.0, 1.0), scaled_card)).predict(
        image(700, 460), scale="0.3", reduction=2
    )
    assert (prediction.scale.mpp, prediction.mpp) == (0.3, 0.6)
    assert prediction.is_classified  # 0.6 µm per pixel fits the model, 0.3 is too small a field.


def test_predict_that_is_blocked_is_shown_on_request_and_marked(scaled_card: ModelCard) -> None:
    classifier = Classifier(engine_with((0.0, 1.0), scaled_card))
    forced = classifier.predict(image(), show_anyway=True)
    assert (forced.is_forced, forced.predicted_class) == (True, "malignant")
    assert forced.prob_malignant == pytest.approx(1 / (1 + math.exp(-1)))
    allowed = classifier.predict(image(), magnification=200, show_anyway=True)
    assert not allowed.is_forced


def test_predict_with_a_larger_field_returns_the_mean_of_its_tiles(
    engine: BatchingEngine, scaled_card: ModelCard
) -> None:
    engine.bundle = Bundle(engine.bundle.folder, scaled_card)
    engine.engine.bundle = engine.bundle
    done: list[tuple[int, int]] = []
    prediction = Classifier(engine).predict(
        image(1400, 912), scale=scale_from_mpp(0.55), progress=lambda *n: done.append(n)
    )
    n_tiles = len(prediction.tiles)
    assert n_tiles >= 4
    assert done[-1] == (n_tiles, n_tiles)
    assert "BC163" in [check.code for check in prediction.checks]
    logits = np.log([(1 - t.prob_malignant) / t.prob_malignant for t in prediction.tiles])
    # The temperature of the tiny model is 1, so the mean logit is that of the image.
    expected = 1 / (1 + np.exp(logits.mean()))
    assert prediction.prob_malignant == pytest.approx(expected, abs=1e-5)
    assert prediction.max_prob_malignant == max(t.prob_malignant for t in prediction.tiles)
    contribution = prediction.contribution
    assert contribution is not None
    assert contribution.margin == pytest.approx(
        prediction.logits[1] - prediction.logits[0], abs=1e-5
    )
    assert contribution.baseline + contribution.cell_sum == pytest.approx(
        contribution.margin, abs=1e-4
    )
    assert contribution.cells.shape[1] > 4  # One tile of 32 px has 4 x 4 cells.


def test_predict_excludes_tiles_that_are_blocked(
    engine: BatchingEngine, scaled_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.bundle = Bundle(engine.bundle.folder, scaled_card)
    engine.engine.bundle = engine.bundle
    monkeypatch.setattr(
        "bc_model.inference.image_checks.check_staining",
        lambda pixels, card: make_check("BC103") if pixels.mean() > 240 else None,
    )
    rgb = image(1400, 912)
    rgb[:, :750] = 250
    prediction = Classifier(engine).predict(rgb, scale=scale_from_mpp(0.55))
    excluded = [tile for tile in prediction.tiles if tile.prob_malignant is None]
    assert 0 < len(excluded) < len(prediction.tiles)
    assert all(tile.tile.x0_px < 400 for tile in excluded)
    (check,) = (check for check in prediction.checks if check.code == "BC145")
    assert check.params["n_found"] == len(excluded)
    blank = Classifier(engine).predict(np.full_like(rgb, 250), scale=scale_from_mpp(0.55))
    assert not blank.is_classified
    assert "BC103" in [check.code for check in blank.checks]


BLOCKED = make_check("BC170", focus=1.0, limit=4.0)
GLASS = make_check("BC171", percent=3.0, limit=20.0)
GOOD = None
WARNED = make_check("BC176", severity=Severity.WARNING, distance=1.2, flat_percent=3.0)


@pytest.mark.parametrize(
    ("tiles", "outcome", "n_used", "expected"),
    [
        ([GOOD] * 6, "malignant", 6, set()),
        ([GLASS] * 5 + [GOOD], "malignant", 1, {("BC145", "info")}),
        ([GLASS] * 6, None, 0, {("BC171", "blocking")}),
        ([BLOCKED] * 2 + [GOOD] * 4, "malignant", 4, {("BC145", "warning")}),
        ([BLOCKED] * 3 + [GOOD] * 3, "uncertain", 3, {("BC145", "warning"), ("BC179", "warning")}),
        ([BLOCKED] * 4 + [GOOD] * 2, None, 0, {("BC170", "blocking"), ("BC179", "blocking")}),
        (
            [GLASS] * 3 + [BLOCKED] * 2 + [GOOD],
            None,
            0,
            {("BC170", "blocking"), ("BC179", "blocking")},
        ),
        ([WARNED] * 2 + [GOOD] * 4, "malignant", 6, set()),
        (
            [WARNED, BLOCKED, BLOCKED] + [GOOD] * 3,
            "uncertain",
            4,
            {("BC145", "warning"), ("BC179", "warning")},
        ),
        ([WARNED] * 6, "uncertain", 6, {("BC179", "warning")}),
    ],
)
def test_predict_answers_only_if_most_tiles_with_tissue_are_usual(
    scaled_card: ModelCard, monkeypatch: pytest.MonkeyPatch, tiles: list[Check | None],
    outcome: str | None, n_used: int, expected: set[tuple[str, str]],
) -> None:  # fmt: skip
    found = iter(tiles)

    def check(*_: object, **__: object) -> FieldChecks:
        tile = next(found)
        return FieldChecks((tile,) if tile else ())

    monkeypatch.setattr("bc_model.inference.classifier.check_field", check)
    prediction = Classifier(engine_with((0.0, 2.0), scaled_card)).predict(
        image(1960, 828), scale=scale_from_mpp(0.55)
    )
    assert next(found, "no tile is left") == "no tile is left"
    assert prediction.outcome == outcome
    assert sum(tile.prob_malignant is not None for tile in prediction.tiles) == n_used
    names = ("BC145", "BC170", "BC171", "BC176", "BC179")
    assert expected == {(c.code, c.severity.value) for c in prediction.checks if c.code in names}


def test_predict_with_a_model_of_unknown_scale_has_no_scale_check(card: ModelCard) -> None:
    unknown = replace(card, scale=replace(card.scale, magnifications=()))
    engine = engine_with((0.0, 1.0), unknown)
    assert "BC140" not in codes(engine)
    assert predict(engine, magnification=40).is_classified


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, True), (1.5, False)])
def test_predict_with_an_uncalibrated_model_has_an_info_check(
    temperature: float, expected: bool, card: ModelCard
) -> None:
    engine = engine_with((0.0, 1.0), card, temperature=temperature)
    assert ("BC401" in codes(engine)) == expected


@pytest.mark.parametrize(
    ("name", "magnification", "expected"),
    [
        ("SOB_B_A-14-12345-40-001.png", None, "BC101"),
        ("SOB_B_A-14-12345-200-001.png", None, None),
        ("a.png", None, "BC140"),
        ("a.png", 200, None),
        ("a.png", 40, "BC101"),
        ("SOB_B_A-14-12345-40-001.png", 200, None),
        ("SOB_B_A-14-12345-200-001.png", 40, "BC101"),
    ],
)
def test_predict_with_a_magnification_prefers_the_argument_to_the_file_name(
    scaled_card: ModelCard, name: str, magnification: int | None, expected: str | None
) -> None:
    engine = engine_with((0.0, 1.0), scaled_card)
    prediction = predict(engine, name=name, magnification=magnification)
    found = {check.code for check in prediction.checks} & {"BC101", "BC140"}
    assert found == ({expected} if expected else set())
    assert prediction.is_classified == (expected is None)


def test_predict_with_a_blocking_check_returns_no_class_probability_or_heatmap(
    scaled_card: ModelCard,
) -> None:
    prediction = predict(engine_with((0.0, 1.0), scaled_card), magnification=40)
    assert not prediction.is_classified
    assert prediction.predicted_class is None
    assert prediction.prob_malignant is None
    assert prediction.heatmaps == {}
    assert prediction.logits == ()
    severities = [check.severity for check in prediction.checks]
    assert severities == sorted(severities, key=list(Severity).index)
    assert severities[0] == Severity.BLOCKING


@pytest.mark.parametrize("subset", ["training_cases", "validation_cases"])
def test_predict_with_a_training_case_has_a_warning(subset: str, card: ModelCard) -> None:
    case = getattr(card.data, subset)[0]
    engine = engine_with((0.0, 1.0), card)
    prediction = predict(engine, name=f"SOB_B_A-14-{case}-200-001.png")
    assert prediction.is_classified
    assert prediction.checks[0].code == "BC110"
    assert prediction.checks[0].params == {"case": case}


def test_predict_with_training_images_and_near_duplicates_has_a_warning(
    card: ModelCard, tiny_run: Run, synthetic_dataset: Path
) -> None:
    engine = engine_with((0.0, 1.0), replace(card, files=open_bundle(tiny_run.path).card.files))
    engine.bundle = Bundle(tiny_run.model_dir, engine.bundle.card)
    split = read_split(tiny_run.split_file)
    own, other = (
        read_image(synthetic_dataset / split.loc[split["subset"] == subset, "path"].iloc[0])
        for subset in ("train", "test")
    )

    resized = cv2.resize(own, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    case = min(engine.bundle.seen_cases)
    assert seen_codes(engine, own) == ["BC111"]
    assert seen_codes(engine, resized) == ["BC112"]
    assert seen_codes(engine, other) == []
    assert seen_codes(engine, own, f"SOB_B_A-14-{case}-200-1.png") == ["BC110"]  # reported once


def test_predict_with_a_synthetic_image_is_blocked_for_a_model_of_tissue(card: ModelCard) -> None:
    name = "SOB_B_A-14-90099-200-001.png"
    of_tissue = replace(card, data=replace(card.data, is_synthetic=False))
    assert codes(engine_with((0.0, 1.0), of_tissue), name=name)[0] == "BC102"
    assert "BC102" not in codes(engine_with((0.0, 1.0), card), name=name)


def test_predict_with_other_staining_warns_and_with_grayscale_is_blocked(card: ModelCard) -> None:
    columns = dict.fromkeys(STAIN_COLUMNS, (0.2, 0.3, 0.4))
    stain = StainStatistics((0.01, 0.5, 0.99), columns, 0.0)
    engine = engine_with((0.0, 1.0), replace(card, input=replace(card.input, stain=stain)))
    blank = predict(engine, np.full((64, 96, 3), 244, np.uint8))
    assert not blank.is_classified
    assert blank.checks[0].code == "BC104"
    other = predict(engine)
    assert other.is_classified  # it may be another stain
    assert other.checks[0].code == "BC120"


@pytest.mark.parametrize("name", ["SOB_B_A-14-12345-200-001.png", "my image.png", ""])
def test_predict_with_an_ordinary_name_has_only_info_checks(name: str, card: ModelCard) -> None:
    checks = predict(engine_with((0.0, 1.0), card), name=name).checks
    assert {check.severity for check in checks} == {Severity.INFO}
