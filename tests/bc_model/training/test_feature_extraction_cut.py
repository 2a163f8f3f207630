"""A model cut in two: the same numbers, the same layers, and all that trains in the tail."""

from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.errors import ConfigError, ModelError
from bc_model.model import build_model, load_keras, unfreeze_from
from bc_model.training.feature_extraction import cut_at_pool, cut_before

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


def network(name: str, side: int = 32) -> keras.Model:
    """Return a network that tells pictures apart: fresh statistics let deep signals die out."""
    if (name, side) not in _built:
        model = build_model(name, image_size=(side, side), dense_units=(8,))
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        model(images(side, 8), training=True)
        _built[name, side] = model
    return _built[name, side]


def images(side: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype("float32")


def assert_same_answers(
    model: keras.Model, base: keras.Model, tail: keras.Model, side: int
) -> None:
    x = images(side)
    expected = model(x, training=False).numpy()
    assert np.ptp(expected[:, 0]) > 1e-3  # the pictures can be told apart
    found = tail(base(x, training=False), training=False).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(("name", "place", "side"), PLACES)
def test_both_halves_are_the_model(name: str, place: str, side: int) -> None:
    model = network(name, side)
    halves = cut_before(model, place)
    assert halves is not None
    assert_same_answers(model, *halves, side)


@pytest.mark.parametrize("name", ["tiny", "vgg16", "resnet50", "efficientnetb0"])
def test_both_halves_at_the_pool_are_the_model(name: str) -> None:
    model = network(name, 64 if name in ("resnet50", "efficientnetb0") else 32)
    base, tail = cut_at_pool(model)
    assert base.output_shape == (None, model.get_layer("pool").output.shape[1])
    assert_same_answers(model, base, tail, model.input_shape[1])


@pytest.mark.parametrize(("name", "place", "side"), PLACES)
def test_all_that_trains_is_in_the_tail(name: str, place: str, side: int) -> None:
    model = network(name, side)
    unfreeze_from(model, place, train_batch_norm=True)
    halves = cut_before(model, place)
    assert halves is not None
    base, tail = halves
    assert base.trainable_weights == []
    trained = {id(weight) for weight in model.trainable_weights}
    assert {id(weight) for weight in tail.trainable_weights} == trained
    both = [id(weight) for weight in (*base.weights, *tail.weights)]
    assert sorted(both) == sorted(id(weight) for weight in model.weights)


def test_the_cut_is_where_the_block_begins() -> None:
    base, _ = cut_before(network("resnet50", 64), "conv5") or pytest.fail("no cut")
    assert base.outputs[0] is network("resnet50", 64).get_layer("conv4_block6_out").output
    assert base.output_shape == (None, 4, 4, 1024)


def test_a_shortcut_that_leaps_over_the_place_forbids_the_cut() -> None:
    # conv5_block1_2 follows conv5_block1_1, while the shortcut begins before both.
    assert cut_before(network("resnet50", 64), "conv5_block1_2") is None


def test_there_is_no_cut_when_everything_trains() -> None:
    assert cut_before(network("tiny"), "all") is None


def test_there_is_no_cut_at_the_image_itself() -> None:
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(2, 3, name="block1_conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    assert cut_before(keras.Model(image, keras.layers.Softmax()(x)), "block1") is None


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="'conv9'"):
        cut_before(network("tiny"), "conv9")


def test_a_foreign_model_is_refused() -> None:
    image = keras.Input((2, 2, 3))
    with pytest.raises(ModelError, match="no layer 'pool'"):
        cut_at_pool(keras.Model(image, keras.layers.Flatten()(image)))


def test_training_the_tail_trains_the_model_which_is_saved_as_ever(tmp_path: Path) -> None:
    model = build_model("tiny", image_size=(32, 32), dense_units=(8,))
    unfreeze_from(model, "block3", train_batch_norm=True)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    base, tail = cut_before(model, "block3") or pytest.fail("no cut")
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
