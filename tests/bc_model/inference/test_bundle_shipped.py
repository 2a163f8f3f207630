"""The model in the box, as it lies in the repository."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.images import preprocess_image
from bc_model.data.synthetic import generate_image
from bc_model.errors import WeightsError
from bc_model.evaluation.cross_validation import (
    NESTED_CROSS_VALIDATION_FILE,
    cross_validation_report,
)
from bc_model.evaluation.evaluate import evaluate_predictions
from bc_model.evaluation.predictions import read_predictions
from bc_model.gradcam import GradCAM
from bc_model.inference import bundle as shipped
from bc_model.inference.bundle import (
    BUNDLED_MODEL_NAME,
    BUNDLED_MODELS_DIR,
    Bundle,
    open_bundled_model,
)
from bc_model.inference.engine import Engine
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.seen_images import find_seen_images
from bc_model.model import reference_logits
from bc_model.training.run import Run

MAX_BYTES = 60e6
MAX_SECONDS = 3.0


needs_box = pytest.mark.skipif(
    not (BUNDLED_MODELS_DIR / BUNDLED_MODEL_NAME).exists(),
    reason="no model is shipped with this version",
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundled_model()


@pytest.fixture(scope="module")
def pixels(bundle: Bundle) -> np.ndarray:
    images = [generate_image(malignant=bool(i), seed=i) for i in range(2)]
    return np.stack([preprocess_image(one, bundle.image_size) for one in images])


@needs_box
def test_it_is_whole_and_small(bundle: Bundle):
    bundle.verify()

    assert sum(file.stat().st_size for file in BUNDLED_MODELS_DIR.rglob("*")) <= MAX_BYTES


@needs_box
@pytest.mark.parametrize("nested_selection", [False, True])
def test_its_cross_validations_give_the_figures_of_its_card(bundle: Bundle, nested_selection):
    if nested_selection:
        told = bundle.card.metrics.nested
        predictions = read_predictions(bundle.file(NESTED_CROSS_VALIDATION_FILE))
        report = evaluate_predictions(predictions, protocol="case", has_leakage=False)
    else:
        told, report = bundle.card.metrics.test, cross_validation_report(bundle)

    assert report.n_images == told.n_images
    for name, expected in told.metrics.items():
        metric = report.metrics[name]
        assert metric.value == pytest.approx(expected.value, abs=1e-9)
        assert metric.ci_low == pytest.approx(expected.ci_low, abs=1e-6)
        assert metric.ci_high == pytest.approx(expected.ci_high, abs=1e-6)


@needs_box
def test_what_was_chosen_inside_the_folds_gives_the_probabilities_beside_it(bundle: Bundle):
    chosen = bundle.card.metrics.nested.choices
    found = read_predictions(bundle.file(NESTED_CROSS_VALIDATION_FILE))
    temperature = found["fold"].map({one.fold: one.temperature for one in chosen})

    prob = 1 / (1 + np.exp(-found["logit"] / temperature))
    np.testing.assert_allclose(found["prob_malignant"], prob, atol=1e-9)


@needs_box
def test_it_is_ready_to_serve_in_a_moment(bundle: Bundle):
    began = time.monotonic()
    Engine(Bundle(bundle.folder, bundle.card))

    assert time.monotonic() - began < MAX_SECONDS


@needs_box
def test_it_explains_and_answers_as_its_keras_duplicate_does(bundle: Bundle, pixels: np.ndarray):
    duplicate = rebuild_keras_model(bundle)
    logits, heatmaps = Engine(bundle).explain(pixels)

    np.testing.assert_allclose(logits, reference_logits(duplicate, pixels), rtol=1e-4, atol=1e-4)
    explain = GradCAM(duplicate)
    for name in ("benign", "malignant"):
        for one, expected in zip(heatmaps, explain(pixels, name), strict=True):
            scale = max(expected.maximum, 1e-6)
            np.testing.assert_allclose(one[name].raw / scale, expected.raw / scale, atol=1e-3)


@needs_box
def test_its_figures_are_of_honest_folds_and_say_whose(bundle: Bundle):
    test = bundle.card.metrics.test

    assert (test.protocol, test.has_leakage) == ("case", False)
    assert "BC212" in [check.code for check in test.checks]
    for name in ("roc_auc", "balanced_accuracy"):
        metric = test.metrics[name]
        assert metric.ci_low < metric.value < metric.ci_high
    assert len(bundle.card.data.training_cases) == test.n_cases


def test_it_is_hashed_once_and_again_when_a_file_has_changed(
    tiny_run: Run, tmp_path: Path, monkeypatch
):
    folder = tmp_path / BUNDLED_MODEL_NAME
    shutil.copytree(tiny_run.model_dir, folder)
    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", tmp_path)
    hashed = []
    verify = Bundle.verify
    monkeypatch.setattr(Bundle, "verify", lambda self: hashed.append(1) or verify(self))

    assert open_bundled_model() == open_bundled_model()
    assert len(hashed) == 1

    with (folder / "served.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="The bundled model is damaged"):
        open_bundled_model()


def test_a_copy_of_the_program_without_it_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shipped, "BUNDLED_MODELS_DIR", tmp_path)

    with pytest.raises(WeightsError, match="The bundled model is not installed"):
        open_bundled_model()


@needs_box
@pytest.mark.real
def test_it_knows_the_originals_of_what_it_learned_from_and_no_strangers(
    bundle: Bundle, real_data: Path
):
    """It learned from JPEGs and squashed frames; these are untouched PNGs, under other names."""
    known = {}
    originals = load_dataset(real_data / "breakhis_originals").images
    for magnification in (40, 100, 200, 400):
        rows = originals[originals["magnification"] == magnification]
        numbers = [str(number) for number in range(len(rows))]
        asked = rows.assign(path=[f"{one}.png" for one in numbers], case="", group=numbers)
        known[magnification] = find_seen_images(bundle, asked).n_seen
    assert known[100] == (originals["magnification"] == 100).sum()
    assert known[200] > 0
    assert (known[40], known[400]) == (0, 0)

    unseen_images = load_dataset(
        real_data / "idc_patches", labels={"0": "benign", "1": "malignant"}
    )
    assert find_seen_images(bundle, unseen_images.images).n_seen == 0
