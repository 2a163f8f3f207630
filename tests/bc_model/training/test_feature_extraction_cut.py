"""Splitting a model: same outputs, same layers, and all trained layers in the tail."""

from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.errors import ConfigError, ModelError
from bc_model.model import build_model, load_keras, unfreeze_from
from bc_model.training.feature_extraction import cut_at_pool, cut_before_block

PLACES = [
    ("tiny", "block1", 32),
    ("tiny", "block3", 32),
    ("vgg16", "block5", 32),
    ("resnet50", "conv1", 32),
    ("resnet50", "conv4", 64),
    ("resnet50", "conv4_block6", 64),
    ("resnet50", "conv5", 64),
    ("efficientnetb0", "stem", 64),
    ("efficientnetb0", "block6", 64),
    ("efficientnetb0", "block7", 64),
]
_built: dict[tuple[str, int], keras.Model] = {}


def make_model(name: str, side: int = 32) -> keras.Model:
    """Return a model with batch statistics, because the initial ones let deep signals vanish."""
    if (name, side) not in _built:
        keras.utils.set_random_seed(0)  # With some weights, the outputs differ too little.
        model = build_model(name, image_size=(side, side), dense_units=(8,))
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        model(images(side, 8), training=True)
        _built[name, side] = model
    return _built[name, side]


def images(side: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype("float32")


def assert_same_outputs(
    model: keras.Model, base: keras.Model, tail: keras.Model, side: int
) -> None:
    x = images(side)
    expected = model(x, training=False).numpy()
    assert np.ptp(expected[:, 0]) > 1e-3  # The outputs differ between images.
    found = tail(base(x, training=False), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(("name", "place", "side"), PLACES)
def test_cut_before_block_keeps_the_outputs(name: str, place: str, side: int) -> None:
    model = make_model(name, side)
    halves = cut_before_block(model, place)
    assert halves is not None
    assert_same_outputs(model, *halves, side)


@pytest.mark.parametrize("name", ["tiny", "vgg16", "resnet50", "efficientnetb0"])
def test_cut_at_pool_keeps_the_outputs(name: str) -> None:
    model = make_model(name, 64 if name in ("resnet50", "efficientnetb0") else 32)
    base, tail = cut_at_pool(model)
    assert base.output_shape == (None, model.get_layer("pool").output.shape[1])
    assert_same_outputs(model, base, tail, model.input_shape[1])


@pytest.mark.parametrize(("name", "place", "side"), PLACES)
def test_cut_before_block_puts_trained_weights_into_the_tail(
    name: str, place: str, side: int
) -> None:
    model = make_model(name, side)
    unfreeze_from(model, place, train_batch_norm=True)
    halves = cut_before_block(model, place)
    assert halves is not None
    base, tail = halves
    assert base.trainable_weights == []
    trained = {id(weight) for weight in model.trainable_weights}
    assert {id(weight) for weight in tail.trainable_weights} == trained
    both = [id(weight) for weight in (*base.weights, *tail.weights)]
    assert sorted(both) == sorted(id(weight) for weight in model.weights)


def test_cut_before_block_is_at_the_start_of_the_block() -> None:
    base, _ = cut_before_block(make_model("resnet50", 64), "conv5") or pytest.fail("no split")
    assert base.outputs[0] is make_model("resnet50", 64).get_layer("conv4_block6_out").output
    assert base.output_shape == (None, 4, 4, 1024)


def test_cut_before_block_inside_a_residual_block_is_none() -> None:
    # The shortcut of conv5_block1 starts before conv5_block1_1.
    assert cut_before_block(make_model("resnet50", 64), "conv5_block1_2") is None


def test_cut_before_block_all_is_none() -> None:
    assert cut_before_block(make_model("tiny"), "all") is None


def test_cut_before_block_at_the_input_is_none() -> None:
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(2, 3, name="block1_conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    assert cut_before_block(keras.Model(image, keras.layers.Softmax()(x)), "block1") is None


def test_cut_before_block_with_unknown_block_raises() -> None:
    with pytest.raises(ConfigError, match="'conv9'"):
        cut_before_block(make_model("tiny"), "conv9")


def test_cut_at_pool_without_pool_raises() -> None:
    image = keras.Input((2, 2, 3))
    with pytest.raises(ModelError, match="no layer 'pool'"):
        cut_at_pool(keras.Model(image, keras.layers.Flatten()(image)))


def test_training_the_tail_changes_the_model(tmp_path: Path) -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    unfreeze_from(model, "block3", train_batch_norm=True)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    base, tail = cut_before_block(model, "block3") or pytest.fail("no split")
    tail.compile(optimizer=keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    x = images(32, 4)
    tail.train_on_batch(base(x, training=False), np.eye(2, dtype="float32")[[0, 1, 1, 0]])
    changed = {
        layer.name
        for layer in model.layers
        if any(
            not np.array_equal(old, new)
            for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
        )
    }
    assert changed == {"block3_conv", "block3_bn", "dense_1", "logits"}
    model.save(tmp_path / "model.keras")
    loaded = load_keras(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))
