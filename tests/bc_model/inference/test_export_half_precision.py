"""Bundles in half precision and their rebuilt Keras models."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from bc_model.errors import ModelError
from bc_model.inference.bundle import BUNDLED_MODEL_NAME, Bundle, file_sha256, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.export import rebuild_keras_model, write_half_precision_bundle
from bc_model.inference.model_card import ModelCard
from bc_model.model import build_model, reference_logits
from bc_model.training.initial_weights import load_initial_weights
from bc_model.training.run import Run
from tests.bc_model.networks import randomize_batch_norm

SIDE_PX = 32


@pytest.fixture(scope="module")
def resnet():
    """Return a ResNet50 with random batch normalization weights."""
    model = build_model("resnet50", image_size=(SIDE_PX, SIDE_PX), weights="none", dense_units=(5,))
    randomize_batch_norm(model)
    return model


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def card(tiny_run: Run) -> ModelCard:
    card = open_bundle(tiny_run.path).card
    return replace(
        card,
        architecture=replace(card.architecture, backbone="resnet50", dense_units=(5,), dropout=0.3),
        input=replace(card.input, height_px=SIDE_PX, width_px=SIDE_PX),
        precisions={},
    )


@pytest.fixture(scope="module")
def half_precision(resnet, card, pixels, tmp_path_factory) -> Bundle:
    return write_half_precision_bundle(
        resnet, tmp_path_factory.mktemp("half_precision") / BUNDLED_MODEL_NAME, card, pixels
    )


def test_write_half_precision_bundle_is_complete_and_half_as_large(half_precision):
    half_precision.verify()
    weights = half_precision.file("served.bin").stat().st_size

    assert 2 * 23.5e6 < weights < 2.02 * 23.6e6
    assert "model.keras" not in half_precision.card.files
    assert [path.name for path in half_precision.folder.glob("raw*")] == []


def test_write_half_precision_bundle_changes_logits_by_rounding_only(
    half_precision, resnet, pixels
):
    expected = reference_logits(resnet, pixels)
    scale = np.abs(expected).max()

    np.testing.assert_allclose(Engine(half_precision).predict(pixels), expected, atol=5e-3 * scale)


def test_rebuild_keras_model_returns_the_same_network(half_precision, pixels):
    rebuilt = reference_logits(rebuild_keras_model(half_precision), pixels)

    np.testing.assert_allclose(
        Engine(half_precision).predict(pixels), rebuilt, rtol=1e-4, atol=1e-5
    )


def test_load_initial_weights_with_bundled_returns_the_features_of_the_bundle(
    half_precision, pixels, monkeypatch
):
    import keras

    monkeypatch.setattr(
        "bc_model.inference.bundle.BUNDLED_MODELS_DIR", half_precision.folder.parent
    )
    weights = load_initial_weights("bundled")
    model = build_model("resnet50", image_size=(SIDE_PX, SIDE_PX), weights=weights, dense_units=())
    features = keras.Model(model.inputs[0], model.get_layer("pool").output)

    _, expected = Engine(half_precision).predict_with_features(pixels)
    found = features.predict_on_batch(pixels.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_rebuild_keras_model_without_layer_names_raises_model_error(half_precision, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(half_precision.folder, folder)
    xml = folder / "served.xml"
    xml.write_text(xml.read_text().replace("conv1_conv", "another"))
    files = half_precision.card.files | {"served.xml": file_sha256(xml)}

    with pytest.raises(ModelError, match="does not contain the layers of resnet50"):
        rebuild_keras_model(Bundle(folder, replace(half_precision.card, files=files)))


def test_write_half_precision_bundle_with_other_convolutions_raises_model_error(
    card, pixels, tmp_path, monkeypatch
):
    model = build_model("tiny", image_size=(SIDE_PX, SIDE_PX), weights="none", dense_units=())
    monkeypatch.setattr(
        "bc_model.inference.export.convolution_layers", lambda model: model.layers[:1]
    )

    with pytest.raises(ModelError, match="only plain convolutions"):
        write_half_precision_bundle(model, tmp_path / "bundle", card, pixels)
    assert list(tmp_path.iterdir()) == []
