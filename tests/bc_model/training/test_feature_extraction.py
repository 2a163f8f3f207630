"""Extractors: TensorFlow and OpenVINO compute the same features."""

import keras
import numpy as np
import pytest

from bc_model.model import build_model
from bc_model.training.feature_extraction import (
    Extractor,
    cut_at_pool,
    cut_before_block,
    make_fastest_extractor,
    make_tensorflow_extractor,
)

SIZE = (32, 32)
IMAGES = np.random.default_rng(0).uniform(0, 255, (5, *SIZE, 3)).astype("float32")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_model("tiny", image_size=SIZE, dense_units=(4,))


@pytest.fixture(scope="module")
def base(model: keras.Model) -> keras.Model:
    return cut_at_pool(model)[0]


def test_tensorflow_extractor_runs_the_base_in_inference_mode() -> None:
    base, _ = cut_at_pool(build_model("tiny", image_size=SIZE))
    expected = base(IMAGES, training=False).numpy()
    found = make_tensorflow_extractor(base)(IMAGES)
    training = base(IMAGES, training=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(training - expected).max() > 1e-2  # The two modes differ.


def test_extractor_builds_its_function_once_at_the_first_call() -> None:
    built = []
    extractor = Extractor("twice", lambda: built.append(1) or (lambda batch: batch * 2))
    assert built == []
    for _ in range(2):
        np.testing.assert_array_equal(extractor(IMAGES), IMAGES * 2)
    assert built == [1]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the error in units of the standard deviation."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


@pytest.mark.parametrize(("name", "place"), [("resnet50", "conv4"), ("efficientnetb0", "block6")])
def test_fastest_extractor_gives_the_features_of_tensorflow(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rounding to bfloat16 would hide a wrong graph: it is large in untrained networks.
    monkeypatch.setattr("bc_model.inference.precision.supported_precisions", lambda: {"f32"})
    side = 64
    model = build_model(name, image_size=(side, side))
    # One image more than an OpenVINO batch.
    x = np.random.default_rng(0).uniform(0, 255, (9, side, side, 3)).astype("float32")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)  # With initial statistics, the signal would vanish.
    base, _ = cut_before_block(model, place) or pytest.fail("no split")
    expected = make_tensorflow_extractor(base)(x)
    fast = make_fastest_extractor(base, (side, side, 3))
    found = fast(x)
    assert fast.name == "openvino-f32"
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    assert relative_error(found, expected) < 1e-3


def test_fastest_extractor_uses_bfloat16_if_supported(model: keras.Model) -> None:
    base, _ = cut_before_block(model, "block3") or pytest.fail("no split")
    fast = make_fastest_extractor(base, (*SIZE, 3))
    if fast.name != "openvino-bf16":
        pytest.skip(f"this machine uses {fast.name}")
    assert 1e-4 < relative_error(fast(IMAGES), make_tensorflow_extractor(base)(IMAGES)) < 3e-2


def test_fastest_extractor_with_a_gpu_is_tensorflow(
    base: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [kind])
    assert make_fastest_extractor(base, (*SIZE, 3)).name == "tensorflow-f32"
