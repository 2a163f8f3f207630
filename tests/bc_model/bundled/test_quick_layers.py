"""What is quicker computes what Keras's own layers and optimiser compute."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from bc_model.bundled import learner
from bc_model.bundled.learner import build_network, learn
from bc_model.bundled.quick_layers import (
    QuickAdamW,
    QuickBatchNormalization,
    QuickConv2D,
    quick_twin,
)
from bc_model.bundled.recipe import PROBE
from bc_model.model import reference_logits
from bc_model.training.arithmetic import computing_in
from tests.bc_model.bundled.conftest import QUICK

RNG = np.random.default_rng(0)


def gradients(layer: keras.layers.Layer, x: np.ndarray, dtype: str = "float32") -> list[np.ndarray]:
    """Of a loss that differs from place to place: of the inputs, then of each weight."""
    inputs = tf.Variable(tf.cast(x, dtype))
    with tf.GradientTape() as tape:
        result = layer(inputs, training=True)
        loss = tf.reduce_sum(tf.sin(tf.cast(result, tf.float32)))
    sources = [inputs, *(weight.value for weight in layer.trainable_weights)]
    found = [result, *tape.gradient(loss, sources)]
    return [np.asarray(tf.cast(one, tf.float32)) for one in found]


@pytest.mark.parametrize(
    ("side", "strides", "padding", "channels", "size"),
    [
        (1, 1, "valid", 12, (4, 6)),
        (1, 2, "valid", 12, (4, 6)),
        (1, 2, "same", 12, (5, 7)),
        (1, (2, 1), "valid", 12, (5, 7)),
        (3, 1, "same", 256, (2, 3)),
        (3, 1, "same", 256, (5, 4)),
        (3, 1, "valid", 256, (5, 4)),
        (3, 2, "same", 256, (5, 4)),
        (3, 1, "same", 12, (5, 4)),
        (7, 2, "valid", 3, (22, 30)),
    ],
)
def test_a_convolution_and_its_gradients(side, strides, padding, channels, size):
    x = RNG.normal(size=(3, *size, channels))
    kept = {"kernel_size": side, "strides": strides, "padding": padding}
    plain, quick = (kind(8, **kept) for kind in (keras.layers.Conv2D, QuickConv2D))
    for layer in (plain, quick):
        layer.build((None, *size, channels))
    quick.set_weights([RNG.normal(0, 0.1, weight.shape) for weight in quick.weights])
    plain.set_weights(quick.get_weights())

    for expected, found in zip(gradients(plain, x), gradients(quick, x), strict=True):
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_normalisation_and_what_it_remembers(training):
    x = RNG.normal(2.0, 3.0, size=(4, 5, 6, 8))
    plain, quick = (
        kind(momentum=0.7, epsilon=1e-2)
        for kind in (keras.layers.BatchNormalization, QuickBatchNormalization)
    )
    for layer in (plain, quick):
        layer.build(x.shape)
    quick.set_weights([RNG.uniform(0.5, 2.0, weight.shape) for weight in quick.weights])
    plain.set_weights(quick.get_weights())
    plain.trainable = quick.trainable = training
    before = quick.get_weights()

    for expected, found in zip(gradients(plain, x), gradients(quick, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)

    *_, mean, variance = quick.get_weights()
    if not training:
        np.testing.assert_array_equal(mean, before[2])
        return
    np.testing.assert_allclose(mean, 0.7 * before[2] + 0.3 * x.mean((0, 1, 2)), rtol=1e-5)
    of_sample = x.reshape(-1, 8).var(axis=0, ddof=1)
    np.testing.assert_allclose(variance, 0.7 * before[3] + 0.3 * of_sample, rtol=1e-4)


def test_the_optimiser_takes_the_same_steps():
    def learned(kind: type[keras.optimizers.AdamW]) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7), keras.layers.Dense(1)])
        rate = keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.1, warmup_steps=4)
        optimizer = kind(rate, weight_decay=0.5, beta_1=0.8, beta_2=0.95, epsilon=1e-3)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        model.compile(optimizer, loss="mse")
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(64, 5)), rng.normal(size=(64, 1))
        model.fit(x, y, epochs=5, batch_size=16, verbose=0, shuffle=False)
        return model.get_weights()

    keras.utils.set_random_seed(1)
    for expected, found in zip(learned(keras.optimizers.AdamW), learned(QuickAdamW), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet50", PROBE])
def test_a_twin_has_the_same_names_weights_and_function(backbone):
    keras.utils.set_random_seed(0)
    model = build_network(dataclasses.replace(QUICK, backbone=backbone), None)
    twin = quick_twin(model)

    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    kinds = {type(layer) for layer in twin.layers}
    assert {QuickConv2D, QuickBatchNormalization} < kinds
    assert not {keras.layers.Conv2D, keras.layers.BatchNormalization} & kinds
    for one, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    pictures = RNG.integers(0, 256, (2, 32, 48, 3)).astype("float32")
    np.testing.assert_allclose(twin(pictures), model(pictures), rtol=1e-4, atol=1e-5)


def test_a_twin_learns_in_bfloat16():
    keras.utils.set_random_seed(0)
    twin = quick_twin(build_network(QUICK, None))
    conv, norm = twin.get_layer("block2_conv"), twin.get_layer("block2_bn")
    x = RNG.normal(size=(2, 8, 8, conv.kernel.shape[2]))

    plain = gradients(conv, x)
    with computing_in(twin, "bfloat16"):
        rounded = gradients(conv, x, "bfloat16")
        assert norm(conv(x), training=True).dtype == tf.bfloat16
    for expected, found in zip(plain, rounded, strict=True):
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
        assert np.abs(found - expected).max() > 0.0


@pytest.mark.usefixtures("eagerly")
def test_on_a_processor_the_steps_are_taken_with_the_twin(source, monkeypatch):
    seen: list[type] = []
    lessons = learner._lessons

    def spy(model, recipe, sampler):
        seen.append(type(model.get_layer("block1_conv")))
        return lessons(model, recipe, sampler)

    monkeypatch.setattr(learner, "_lessons", spy)
    recipe = dataclasses.replace(QUICK, arithmetic="float32", learning_rate=1e-4)
    served = learn(source, recipe, seed=0)
    monkeypatch.setattr(learner, "_learns_on_processor", lambda: False)
    plain = learn(source, recipe, seed=0)

    assert seen == [QuickConv2D, keras.layers.Conv2D]
    assert type(served.get_layer("block1_conv")) is keras.layers.Conv2D
    expected = reference_logits(plain, source.pixels)
    assert expected.std() > 0.1
    np.testing.assert_allclose(reference_logits(served, source.pixels), expected, atol=0.01)
