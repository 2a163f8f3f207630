"""Further layers: gradients of two blocks against TensorFlow, and occlusion."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bc_model.contribution_map import ContributionMap
from bc_model.data.images import HEATMAP_KINDS, preprocess_image
from bc_model.data.synthetic import generate_image
from bc_model.errors import ConfigError, ModelError
from bc_model.gradcam import Heatmap
from bc_model.inference.bundle import has_bundled_model, open_bundle, open_bundled_model
from bc_model.inference.engine import Engine
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.layers import LAYERS, explain_layer, supported_layers
from bc_model.training.run import Run

needs_model = pytest.mark.skipif(not has_bundled_model(), reason="There is no bundled model.")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(open_bundled_model())


@pytest.fixture(scope="module")
def tiny(tiny_run: Run) -> Engine:
    return Engine(open_bundle(tiny_run.path))


def field() -> np.ndarray:
    return generate_image(malignant=True, seed=2, case_seed=2, size=(224, 336))


@needs_model
def test_gradient_of_the_previous_block_equals_tensorflow(engine: Engine) -> None:
    import keras
    import tensorflow as tf

    model = rebuild_keras_model(engine.bundle)
    previous = model.get_layer("conv5_block2_out").output
    until, rest = (
        keras.Model(model.inputs[0], previous),
        keras.Model(previous, model.get_layer("logits").output),
    )
    pixels = field()
    activations = until(pixels[None].astype(np.float32), training=False)
    with tf.GradientTape() as tape:
        tape.watch(activations)
        logit = rest(activations, training=False)[:, 1]
    expected = tape.gradient(logit, activations).numpy()[0]
    block = engine.last_block()
    outputs = block.forward(pixels)
    _, gradient = engine.activations_and_gradient(pixels, 1)
    found = block.backward(outputs, gradient)
    np.testing.assert_allclose(outputs.previous, activations.numpy()[0], rtol=1e-2, atol=1e-2)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 0.02


@needs_model
@pytest.mark.parametrize("method", ["grad-cam-plus-plus", "layer-cam"])
def test_heatmaps_have_the_cells_of_the_last_block(engine: Engine, method: str) -> None:
    found = explain_layer(engine, field(), method, "malignant")
    assert isinstance(found, Heatmap)
    assert found.raw.shape == (7, 11)
    assert found.raw.min() >= 0.0
    assert not found.is_empty


@needs_model
def test_layer_cam_of_several_threads_equals_that_of_one(engine: Engine) -> None:
    images = [
        preprocess_image(generate_image(malignant=True, seed=i), engine.bundle.image_size)
        for i in range(3)
    ]
    expected = [explain_layer(engine, image, "layer-cam").raw for image in images]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda image: explain_layer(engine, image, "layer-cam").raw, images))
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_occlusion_finds_the_region_that_the_margin_depends_on(
    tiny: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(pixels: np.ndarray) -> np.ndarray:
        dark = (pixels[:, :8, :8].mean(axis=(1, 2, 3)) < 100).astype(np.float32)
        return np.stack([np.zeros_like(dark), dark], axis=1)

    monkeypatch.setattr(tiny, "predict", predict)
    pixels = np.full((32, 32, 3), 200, np.uint8)
    pixels[:8, :8] = 0
    done: list[tuple[int, int]] = []
    found = explain_layer(tiny, pixels, "occlusion", progress=lambda *n: done.append(n))
    assert isinstance(found, ContributionMap)
    assert found.cells.shape == (4, 4)
    assert found.cells[0, 0] == 1.0
    assert found.cells[2:, 2:].max() == 0.0
    assert found.baseline + found.cell_sum + found.residual == pytest.approx(found.margin)
    assert done[-1] == (16, 16)


def test_small_backbones_have_no_layer_cam(tiny: Engine) -> None:
    assert supported_layers(tiny.bundle) == ("grad-cam-plus-plus", "occlusion")
    with pytest.raises(ModelError, match="ResNet50"):
        explain_layer(tiny, np.zeros((32, 32, 3), np.uint8), "layer-cam")
    with pytest.raises(ConfigError, match="Choose one of"):
        explain_layer(tiny, np.zeros((32, 32, 3), np.uint8), "saliency")


def test_files_of_all_layers_are_recognized_as_heatmaps() -> None:
    assert set(LAYERS) < set(HEATMAP_KINDS)
