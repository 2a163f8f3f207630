"""The base of a cut model as a function: the same numbers by TensorFlow and by OpenVINO."""

import keras
import numpy as np
import pytest

from bc_model.model import build_model
from bc_model.training.feature_extraction import (
    Extractor,
    cut_at_pool,
    cut_before,
    fast_base,
    tensorflow_base,
)

SIZE = (32, 32)
IMAGES = np.random.default_rng(0).uniform(0, 255, (5, *SIZE, 3)).astype("float32")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_model("tiny", image_size=SIZE, dense_units=(4,))


@pytest.fixture(scope="module")
def base(model: keras.Model) -> keras.Model:
    return cut_at_pool(model)[0]


def test_tensorflow_runs_the_base_in_inference_mode() -> None:
    base, _ = cut_at_pool(build_model("tiny", image_size=SIZE))
    expected = base(IMAGES, training=False).numpy()
    found = tensorflow_base(base)(IMAGES)
    training = base(IMAGES, training=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(training - expected).max() > 1e-2  # the two modes can be told apart


def test_a_function_is_built_once_and_not_before_it_is_needed() -> None:
    built = []
    extract = Extractor("twice", lambda: built.append(1) or (lambda batch: batch * 2))
    assert built == []
    for _ in range(2):
        np.testing.assert_array_equal(extract(IMAGES), IMAGES * 2)
    assert built == [1]


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the error in shares of the spread."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


@pytest.mark.parametrize(("name", "place"), [("resnet50", "conv4"), ("efficientnetb0", "block6")])
def test_the_fast_base_gives_what_the_base_gives(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # bfloat16 would hide a wrong graph: in untrained networks its rounding grows to a tenth.
    monkeypatch.setattr("bc_model.inference.precision.supported_precisions", lambda: {"f32"})
    side = 64
    model = build_model(name, image_size=(side, side))
    # Nine: one more than OpenVINO takes at once.
    x = np.random.default_rng(0).uniform(0, 255, (9, side, side, 3)).astype("float32")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)  # fresh statistics would let the signal die out
    base, _ = cut_before(model, place) or pytest.fail("no cut")
    expected = tensorflow_base(base)(x)
    fast = fast_base(base, (side, side, 3))
    found = fast(x)
    assert fast.name == "openvino-f32"
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    assert error_of(found, expected) < 1e-3


def test_where_there_is_bfloat16_the_base_is_computed_in_it(model: keras.Model) -> None:
    base, _ = cut_before(model, "block3") or pytest.fail("no cut")
    fast = fast_base(base, (*SIZE, 3))
    if fast.name != "openvino-bf16":
        pytest.skip(f"this machine computes by {fast.name}")
    assert 1e-4 < error_of(fast(IMAGES), tensorflow_base(base)(IMAGES)) < 3e-2


def test_with_a_gpu_tensorflow_computes(base: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [kind])
    assert fast_base(base, (*SIZE, 3)).name == "tensorflow-f32"
