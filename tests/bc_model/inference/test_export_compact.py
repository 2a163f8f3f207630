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

SIDE = 32


@pytest.fixture(scope="module")
def resnet():
    """A ResNet50 whose batch normalisations are not what they begin as."""
    import keras

    model = build_model("resnet50", image_size=(SIDE, SIDE), weights="none", dense_units=(5,))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def card(tiny_run: Run) -> ModelCard:
    found = open_bundle(tiny_run.path).card
    return replace(
        found,
        architecture=replace(
            found.architecture, backbone="resnet50", dense_units=(5,), dropout=0.3
        ),
        input=replace(found.input, height_px=SIDE, width_px=SIDE),
        precisions={},
    )


@pytest.fixture(scope="module")
def compact(resnet, card, pixels, tmp_path_factory) -> Bundle:
    return write_half_precision_bundle(
        resnet, tmp_path_factory.mktemp("compact") / BUNDLED_MODEL_NAME, card, pixels
    )


def test_it_is_half_as_large_and_complete(compact):
    compact.verify()
    weights = compact.file("served.bin").stat().st_size

    assert 2 * 23.5e6 < weights < 2.02 * 23.6e6
    assert "model.keras" not in compact.card.files
    assert [path.name for path in compact.folder.glob("*whole*")] == []


def test_it_answers_as_the_whole_model_but_for_rounding(compact, resnet, pixels):
    whole = reference_logits(resnet, pixels)
    scale = np.abs(whole).max()

    np.testing.assert_allclose(Engine(compact).predict(pixels), whole, atol=5e-3 * scale)


def test_its_duplicate_is_the_very_same_network(compact, pixels):
    duplicate = reference_logits(rebuild_keras_model(compact), pixels)

    np.testing.assert_allclose(Engine(compact).predict(pixels), duplicate, rtol=1e-4, atol=1e-5)


def test_a_new_model_begins_with_its_weights(compact, pixels, monkeypatch):
    import keras

    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", compact.folder.parent)
    weights = load_initial_weights("bundled")
    model = build_model("resnet50", image_size=(SIDE, SIDE), weights=weights, dense_units=())
    features = keras.Model(model.inputs[0], model.get_layer("pool").output)

    _, expected = Engine(compact).predict_with_features(pixels)
    found = features.predict_on_batch(pixels.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_a_graph_that_does_not_name_its_layers_is_refused(compact, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(compact.folder, folder)
    xml = folder / "served.xml"
    xml.write_text(xml.read_text().replace("conv1_conv", "another"))
    files = compact.card.files | {"served.xml": file_sha256(xml)}

    with pytest.raises(ModelError, match="does not name the layers of resnet50"):
        rebuild_keras_model(Bundle(folder, replace(compact.card, files=files)))


def test_a_graph_with_other_convolutions_than_the_model_is_refused(
    card, pixels, tmp_path, monkeypatch
):
    model = build_model("tiny", image_size=(SIDE, SIDE), weights="none", dense_units=())
    monkeypatch.setattr(
        "bc_model.inference.export.convolution_layers", lambda model: model.layers[:1]
    )

    with pytest.raises(ModelError, match="only plain ones such as ResNet50's"):
        write_half_precision_bundle(model, tmp_path / "box", card, pixels)
    assert list(tmp_path.iterdir()) == []
