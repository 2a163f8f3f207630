"""The fast layers and optimizer compute the same as those of Keras."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from bc_model.distillation import student
from bc_model.distillation.fast_layers import (
    FastAdamW,
    FastBatchNormalization,
    FastConv2D,
    with_fast_layers,
)
from bc_model.distillation.student import (
    ViewTargets,
    build_network,
    build_student,
    train_student,
)
from bc_model.distillation.view_pool import ViewSampler
from bc_model.training.devices import use_compute_dtype
from tests.bc_model.distillation.conftest import QUICK

TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 0.02}
"""Relative to the largest absolute value."""


def assert_same(found: list[np.ndarray], expected: list[np.ndarray], policy: str) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other).max()
        assert scale > 0.01
        np.testing.assert_allclose(one, other, atol=TOLERANCE[policy] * scale, rtol=0)


def result_and_gradients(layer: keras.layers.Layer, x: np.ndarray) -> list[np.ndarray]:
    """Return the output, and the gradients of a nonuniform loss for the inputs and weights."""
    inputs = tf.Variable(tf.cast(x, layer.compute_dtype))
    with tf.GradientTape() as tape:
        result = layer(inputs, training=True)
        loss = tf.reduce_sum(tf.sin(tf.cast(result, tf.float32)))
    assert result.dtype == layer.compute_dtype
    sources = [inputs, *(weight.value for weight in layer.trainable_weights)]
    found = [result, *tape.gradient(loss, sources)]
    return [np.asarray(tf.cast(one, tf.float32)) for one in found]


def pair(
    kinds: tuple[type, type], make: Callable[[type], keras.layers.Layer], shape: tuple, scale: float
) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Return a layer of each kind, with the same random weights."""
    plain, fast = (make(kind) for kind in kinds)
    rng = np.random.default_rng(1)
    for layer in (plain, fast):
        layer.build(shape)
    fast.set_weights([rng.uniform(scale, 5 * scale, weight.shape) for weight in fast.weights])
    plain.set_weights(fast.get_weights())
    return plain, fast


@pytest.mark.parametrize("policy", TOLERANCE)
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
def test_fast_conv2d_matches_keras(side, strides, padding, channels, size, policy):
    x = np.random.default_rng(0).normal(size=(3, *size, channels))
    plain, fast = pair(
        (keras.layers.Conv2D, FastConv2D),
        lambda kind: kind(8, side, strides=strides, padding=padding, dtype=policy),
        (None, *size, channels),
        0.02,
    )
    assert_same(result_and_gradients(fast, x), result_and_gradients(plain, x), policy)


@pytest.mark.parametrize("policy", TOLERANCE)
def test_fast_batch_normalization_matches_keras_and_updates_statistics(policy):
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(4, 5, 6, 8))
    plain, fast = pair(
        (keras.layers.BatchNormalization, FastBatchNormalization),
        lambda kind: kind(momentum=0.7, epsilon=1e-2, dtype=policy),
        x.shape,
        0.5,
    )
    before = fast.get_weights()
    assert_same(result_and_gradients(fast, x), result_and_gradients(plain, x), policy)

    *_, mean, variance = fast.get_weights()
    values = np.asarray(tf.cast(tf.cast(x, fast.compute_dtype), tf.float64)).reshape(-1, 8)
    np.testing.assert_allclose(mean, 0.7 * before[2] + 0.3 * values.mean(axis=0), rtol=1e-5)
    sample_variance = values.var(axis=0, ddof=1)
    np.testing.assert_allclose(variance, 0.7 * before[3] + 0.3 * sample_variance, rtol=1e-4)


def test_fast_batch_normalization_in_inference_uses_moving_statistics():
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(4, 5, 6, 8)).astype("float32")
    plain, fast = pair(
        (keras.layers.BatchNormalization, FastBatchNormalization),
        lambda kind: kind(),
        x.shape,
        0.5,
    )
    before = fast.get_weights()

    np.testing.assert_array_equal(fast(x, training=False), plain(x, training=False))
    plain.trainable = fast.trainable = False
    np.testing.assert_array_equal(fast(x, training=True), plain(x, training=False))
    for one, other in zip(fast.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fast_adamw_matches_keras():
    def trained_weights(kind: type[keras.optimizers.AdamW]) -> list[np.ndarray]:
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

    for expected, found in zip(
        trained_weights(keras.optimizers.AdamW), trained_weights(FastAdamW), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_network_with_fast_layers_has_the_same_names_weights_and_function():
    keras.utils.set_random_seed(0)
    model = build_network(dataclasses.replace(QUICK, backbone="resnet50"), None)
    fast = with_fast_layers(model)

    assert [layer.name for layer in fast.layers] == [layer.name for layer in model.layers]
    kinds = {type(layer) for layer in fast.layers}
    assert {FastConv2D, FastBatchNormalization} < kinds
    assert not {keras.layers.Conv2D, keras.layers.BatchNormalization} & kinds
    for one, other in zip(model.weights, fast.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3)).astype("float32")
    np.testing.assert_allclose(fast(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_fast_traced_steps_match_keras(compute_dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6, 7, 4)), rng.normal(size=(8, 1))
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 4))
    inner = keras.layers.Conv2D(256, 1, use_bias=False)(image)
    inner = keras.layers.BatchNormalization()(inner)
    inner = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inner)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(inner)
    plain = keras.Model(image, keras.layers.Dense(1)(pooled))

    def losses(model: keras.Model, kind: type[keras.optimizers.AdamW]) -> list[float]:
        model.compile(kind(1e-2), loss="mse")
        with use_compute_dtype(model, compute_dtype):
            return [float(model.train_on_batch(x, y)) for _ in range(6)]

    fast = losses(with_fast_layers(plain), FastAdamW)
    expected = losses(plain, keras.optimizers.AdamW)
    assert expected[-1] < 0.8 * expected[0]
    np.testing.assert_allclose(fast, expected, rtol=1e-3 if compute_dtype == "float32" else 0.06)


@pytest.mark.usefixtures("eagerly")
def test_build_student_fast_losses_match_keras(source, pool):
    config = dataclasses.replace(
        QUICK, compute_dtype="float32", learning_rate=3e-3, warmup_steps=1, steps=9
    )
    is_train = np.ones(len(source.table), bool)
    views = ViewTargets.fit(source, pool, is_train, config)
    batch = ViewSampler(pool, source.table, is_train, 8, 0).sample_batch(0)
    targets = views.of(batch, (4, 4), "tiny")

    def losses(fast: bool) -> list[float]:
        keras.utils.set_random_seed(0)
        _, model = build_student(config, views, fast=fast)
        return [float(model.train_on_batch(batch.pixels, targets)[0]) for _ in range(4)]

    plain, fast = losses(False), losses(True)
    assert abs(plain[-1] - plain[0]) > 0.05 * plain[0]
    np.testing.assert_allclose(fast, plain, rtol=5e-3)


@pytest.mark.usefixtures("eagerly")
def test_train_student_exports_keras_layers(source, pool, monkeypatch):
    choices: list[bool] = []

    def spy(*arguments, fast: bool):
        choices.append(fast)
        return build_student(*arguments, fast=fast)

    monkeypatch.setattr(student, "build_student", spy)
    for on_cpu in (True, False):
        monkeypatch.setattr(student, "_trains_on_cpu", lambda on_cpu=on_cpu: on_cpu)
        exported, _ = train_student(source, pool, np.ones(len(source.table), bool), QUICK, seed=0)
        kinds = {type(layer) for layer in exported.layers}
        assert not {FastConv2D, FastBatchNormalization} & kinds
    assert choices == [True, False]


@pytest.mark.parametrize(
    ("backend", "gpus", "expected"),
    [("tensorflow", [], True), ("tensorflow", ["one"], False), ("jax", [], False)],
)
def test_trains_on_cpu_depends_on_backend_and_gpus(backend, gpus, expected, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: gpus)
    assert student._trains_on_cpu() == expected
