"""Mixed precision: active within the block only, and close to float32."""

import keras
import numpy as np
import pytest

from bc_model.inference import precision
from bc_model.model import build_model
from bc_model.training.config import TrainingConfig
from bc_model.training.devices import resolve_compute_dtype, use_compute_dtype


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return build_model("tiny", image_size=(32, 32), dense_units=(8,), dropout=0.0)


def compute_dtypes(model: keras.Model) -> list[str]:
    return [layer.compute_dtype for layer in model.layers]


def test_use_compute_dtype_affects_layers_before_the_pooling_within_the_block(
    model: keras.Model,
) -> None:
    before = compute_dtypes(model)
    with use_compute_dtype(model, "bfloat16"):
        inside = dict(
            zip([layer.name for layer in model.layers], compute_dtypes(model), strict=True)
        )
        assert inside["block2_conv"] == inside["block3_bn"] == "bfloat16"
        assert inside["pool"] == inside["dense_1"] == inside["logits"] == "float32"
        assert {weight.dtype for weight in model.weights} == {"float32"}
    assert compute_dtypes(model) == before


def test_use_compute_dtype_after_an_error_restores_the_layers(model: keras.Model) -> None:
    before = compute_dtypes(model)
    with pytest.raises(KeyError), use_compute_dtype(model, "bfloat16"):
        raise KeyError
    assert compute_dtypes(model) == before


def train_step(model: keras.Model, compute_dtype: str) -> np.ndarray:
    """Return the change of a kernel in one training step."""
    start = model.get_weights()
    rng = np.random.default_rng(0)
    images = rng.random((16, 32, 32, 3), np.float32) * 255
    labels = np.eye(2, dtype=np.float32)[rng.integers(2, size=16)]
    model.compile(keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    with use_compute_dtype(model, compute_dtype):
        model.train_on_batch(images, labels)
    changed = model.get_layer("block3_conv").kernel.numpy()
    model.set_weights(start)
    return changed - model.get_layer("block3_conv").kernel.numpy()


def test_train_step_in_bfloat16_is_rounded_in_the_same_direction(model: keras.Model) -> None:
    exact, rounded = train_step(model, "float32"), train_step(model, "bfloat16")
    assert not np.array_equal(exact, rounded)
    cosine = (exact * rounded).sum() / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert cosine > 0.99


def test_resolve_compute_dtype_auto_depends_on_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = TrainingConfig(data="set")
    for supported, expected in ((("f32",), "float32"), (("f32", "bf16"), "bfloat16")):
        monkeypatch.setattr(precision, "supported_precisions", lambda value=supported: value)
        assert resolve_compute_dtype(config) == expected
    assert resolve_compute_dtype(TrainingConfig(data="set", compute_dtype="float32")) == "float32"
