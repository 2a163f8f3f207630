"""The bundled model: its files, metrics and predictions."""

import shutil
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.dataset_rules import parse_rules
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
from bc_model.inference.bundle import (
    BUNDLED_MODEL_NAME,
    BUNDLED_MODELS_DIR,
    Bundle,
    find_bundled_models,
    open_bundled_model,
)
from bc_model.inference.engine import Engine
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.seen_images import find_seen_images
from bc_model.model import reference_logits
from bc_model.training.run import Run

MAX_BYTES = 60e6
MAX_SECONDS = 3.0


requires_bundled_model = pytest.mark.skipif(
    not (BUNDLED_MODELS_DIR / BUNDLED_MODEL_NAME).exists(),
    reason="the bundled model is not installed",
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundled_model()


@pytest.fixture(scope="module")
def pixels(bundle: Bundle) -> np.ndarray:
    images = [generate_image(malignant=bool(i), seed=i) for i in range(2)]
    return np.stack([preprocess_image(image, bundle.image_size) for image in images])


@requires_bundled_model
def test_bundled_model_is_complete_and_small(bundle: Bundle):
    bundle.verify()

    assert sum(file.stat().st_size for file in BUNDLED_MODELS_DIR.rglob("*")) <= MAX_BYTES


@requires_bundled_model
@pytest.mark.parametrize("nested_selection", [False, True])
def test_bundled_model_predictions_reproduce_the_metrics_of_the_card(
    bundle: Bundle, nested_selection
):
    if nested_selection:
        expected_result = bundle.card.metrics.nested
        predictions = read_predictions(bundle.file(NESTED_CROSS_VALIDATION_FILE))
        report = evaluate_predictions(predictions, protocol="case", has_leakage=False)
    else:
        expected_result, report = bundle.card.metrics.test, cross_validation_report(bundle)

    assert report.n_images == expected_result.n_images
    for name, expected in expected_result.metrics.items():
        metric = report.metrics[name]
        assert metric.value == pytest.approx(expected.value, abs=1e-9)
        assert metric.ci_low == pytest.approx(expected.ci_low, abs=1e-6)
        assert metric.ci_high == pytest.approx(expected.ci_high, abs=1e-6)


@requires_bundled_model
def test_bundled_model_nested_logits_give_the_nested_probabilities(bundle: Bundle):
    choices = bundle.card.metrics.nested.choices
    predictions = read_predictions(bundle.file(NESTED_CROSS_VALIDATION_FILE))
    temperature = predictions["fold"].map({choice.fold: choice.temperature for choice in choices})

    prob = 1 / (1 + np.exp(-predictions["logit"] / temperature))
    np.testing.assert_allclose(predictions["prob_malignant"], prob, atol=1e-9)


@requires_bundled_model
def test_bundled_model_loads_within_three_seconds(bundle: Bundle):
    start = time.monotonic()
    Engine(Bundle(bundle.folder, bundle.card))

    assert time.monotonic() - start < MAX_SECONDS


@requires_bundled_model
def test_bundled_model_equals_its_rebuilt_keras_model(bundle: Bundle, pixels: np.ndarray):
    rebuilt = rebuild_keras_model(bundle)
    logits, heatmaps, _, contributions, _ = Engine(bundle).explain(pixels)
    expected_logits = reference_logits(rebuilt, pixels)

    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-4)
    for contribution, (benign, malignant) in zip(contributions, expected_logits, strict=True):
        total = contribution.baseline + contribution.cell_sum
        assert total == pytest.approx(malignant - benign, abs=1e-4)
    explain = GradCAM(rebuilt)
    for name in ("benign", "malignant"):
        for maps, expected in zip(heatmaps, explain(pixels, name), strict=True):
            scale = max(expected.maximum, 1e-6)
            np.testing.assert_allclose(maps[name].raw / scale, expected.raw / scale, atol=1e-3)


@requires_bundled_model
def test_bundled_model_metrics_are_leakage_free_with_intervals(bundle: Bundle):
    test = bundle.card.metrics.test

    assert (test.protocol, test.has_leakage) == ("case", False)
    assert "BC212" in [check.code for check in test.checks]
    for name in ("roc_auc", "balanced_accuracy"):
        metric = test.metrics[name]
        assert metric.ci_low < metric.value < metric.ci_high
    # Some training cases have extra images only, which are not evaluated.
    assert len(bundle.card.data.training_cases) > test.n_cases


@requires_bundled_model
def test_bundled_model_card_is_robust_and_its_heatmaps_agree(bundle: Bundle):
    metrics = bundle.card.metrics
    flips = {row.name: row.flips.value for row in metrics.robustness.rows}
    checks = metrics.explanations

    assert flips["blur_2"] <= 0.08
    assert flips["crop_50"] <= 0.12
    assert flips["jpeg_50"] <= 0.03
    assert metrics.teacher_correlation >= 0.95
    assert checks.agreement_by_sum.value >= 0.97
    assert checks.agreement_by_maximum.value >= 0.96
    # The target of half the area was not reached, see docs/model-log.md.
    assert checks.pooled_background_mass <= 0.56 * checks.background_area.value


@requires_bundled_model
def test_bundled_model_has_no_constant_answers(bundle: Bundle, pixels: np.ndarray):
    rng = np.random.default_rng(0)
    size = (*bundle.image_size, 3)
    colors = [(255, 255, 255), (0, 0, 0), (255, 0, 0), (128, 128, 128), (230, 180, 210)]
    flat = [np.full(size, color, np.uint8) for color in colors]
    noise = [rng.integers(0, 256, size, np.uint8) for _ in range(2)]
    images = np.stack([*flat, *noise, *pixels])

    explained = Engine(bundle).explain(images)

    assert not explained.is_constant.any()
    margins = explained.logits[:, 1] - explained.logits[:, 0]
    assert len(np.unique(margins.round(6))) == len(images)


def test_open_bundled_model_verifies_once_and_after_a_change(
    tiny_run: Run, tmp_path: Path, monkeypatch
):
    folder = tmp_path / BUNDLED_MODEL_NAME
    shutil.copytree(tiny_run.model_dir, folder)
    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", tmp_path)
    verified = []
    verify = Bundle.verify
    monkeypatch.setattr(Bundle, "verify", lambda self: verified.append(1) or verify(self))

    assert open_bundled_model() == open_bundled_model()
    assert len(verified) == 1

    with (folder / "served.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="The bundled model is damaged"):
        open_bundled_model()


def test_open_bundled_model_without_the_model_raises_weights_error(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", tmp_path)

    with pytest.raises(WeightsError, match="The bundled model is not installed"):
        open_bundled_model()


@requires_bundled_model
@pytest.mark.real
def test_bundled_model_recognizes_original_images_and_no_unseen_images(
    bundle: Bundle, real_data: Path
):
    """The originals are renamed here, without their cases."""
    n_seen = {}
    originals = load_dataset(real_data / "breakhis_originals").images
    for magnification in (40, 100, 200, 400):
        rows = originals[originals["magnification"] == magnification]
        numbers = [str(number) for number in range(len(rows))]
        renamed = rows.assign(path=[f"{number}.png" for number in numbers], case="", group=numbers)
        n_seen[magnification] = find_seen_images(bundle, renamed).n_seen
    # All originals are extra training images.
    assert n_seen == originals["magnification"].value_counts().to_dict()

    unseen_images = load_dataset(
        real_data / "idc_patches", rules=parse_rules("0=benign,1=malignant")
    )
    assert find_seen_images(bundle, unseen_images.images).n_seen == 0


def test_find_bundled_models_in_an_installed_package_returns_its_assets(tmp_path: Path):
    package = tmp_path / "site-packages/bc_model"
    (package / "assets/models").mkdir(parents=True)
    (tmp_path / "site-packages/assets/models").mkdir(parents=True)
    assert find_bundled_models(package) == package / "assets/models"


def test_find_bundled_models_in_a_checkout_returns_the_assets_beside_the_package():
    root = Path(__file__).parents[3]
    assert find_bundled_models(root / "bc_model") == root / "assets/models"


def test_wheel_contains_the_bundled_models():
    root = Path(__file__).parents[3]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    assert wheel["force-include"] == {"assets/models": "bc_model/assets/models"}
