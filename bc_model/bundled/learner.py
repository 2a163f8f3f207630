"""The learning of the model in the box: one loop of steps. Importing this loads TensorFlow."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bc_model.bundled.fields import FieldSampler
from bc_model.bundled.recipe import Recipe
from bc_model.model import build_model
from bc_model.serving.precision import supported_precisions
from bc_model.training.arithmetic import computing_in
from bc_model.words import duration_in_words

logger = logging.getLogger("bc_model.bundled")

_TOLD_EVERY = 50
_AVERAGED_EVERY = 2
_SETTLING_BATCHES = 8
_AHEAD = 4
"""Batches made while the network learns from one."""


def learn(
    table: pd.DataFrame,
    frames: list[np.ndarray],
    pixels: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
) -> Iterator[tuple[int, keras.Model]]:
    """Learn from random weights on, and yield the model at every checkpoint.

    Nothing is watched on the way, so that no picture need be kept back for it.

    Parameters
    ----------
    table, frames
        As `read_fields` returns them; those to learn from.
    pixels : ndarray of shape (n, height, width, 3), uint8
        The same pictures as they are served: whole, at the recipe's input size.
    recipe : Recipe
    seed : int

    Yields
    ------
    steps : int
    model : keras.Model
        As `build_model` builds it, free in its input size, with averaged weights: until the next
        checkpoint is asked for.
    """
    keras.utils.set_random_seed(seed)
    subtypes = sorted(set(table["subtype"]))
    model = build_model(
        recipe.backbone, image_size=None, weights="none", dense_units=(), dropout=recipe.dropout
    )
    told = keras.layers.Dropout(recipe.dropout, name="dropout_subtype")(
        model.get_layer("pool").output
    )
    told = keras.layers.Dense(len(subtypes), name="subtype")(told)
    network = keras.Model(model.inputs[0], [model.get_layer("logits").output, told])
    sampler = FieldSampler(table, frames, subtypes, recipe, seed)
    average = _Average(network, recipe.averaging)
    arithmetic = "bfloat16" if "bf16" in supported_precisions() else "float32"
    with computing_in(model, arithmetic):
        step_of = _step(network, recipe)
        batch = sampler.batch(0)
        step_of.get_concrete_function(*map(tf.constant, batch))  # in this block's arithmetic
    last = recipe.checkpoints[-1]
    began, losses = time.monotonic(), []
    for step, batch in enumerate(_batches(sampler, last)):
        losses.append(float(step_of(*map(tf.constant, batch))))
        if step % _AVERAGED_EVERY == 0:
            average.update(step)
        if (step + 1) % _TOLD_EVERY == 0:
            seconds = time.monotonic() - began
            left = seconds / (step + 1) * (last - step - 1)
            logger.info(
                "step %d of %d, loss %.3f, about %s left",
                step + 1, last, np.mean(losses[-_TOLD_EVERY:]), duration_in_words(left),
            )  # fmt: skip
        if step + 1 in recipe.checkpoints:
            with average.lent():
                settle_batch_norm(model, pixels, sampler)
                yield step + 1, model


def settle_batch_norm(model: keras.Model, pixels: np.ndarray, sampler: FieldSampler) -> None:
    """Measure the moving statistics anew: on whole pictures, with the weights as they are now.

    Averaged weights never saw a batch, and crops are another view of tissue than what is served
    (Izmailov et al., "Averaging weights leads to wider optima", UAI 2018).

    Parameters
    ----------
    model : keras.Model
    pixels : ndarray of shape (n, height, width, 3), uint8
    sampler : FieldSampler
        Says which, so that classes, magnifications and cases count the same.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    body = keras.Model(model.inputs[0], model.get_layer("pool").output)
    try:
        for number in range(_SETTLING_BATCHES):
            for layer in layers:
                layer.momentum = number / (number + 1)  # the mean over all batches so far
            body(tf.constant(pixels[sampler.draw(number)], tf.float32), training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _step(network: keras.Model, recipe: Recipe) -> tf.types.experimental.PolymorphicFunction:
    optimizer = keras.optimizers.AdamW(
        # Its warm-up is all that is used of it: a decay to 1 stays where it is.
        keras.optimizers.schedules.CosineDecay(
            0.0,
            1,
            alpha=1.0,
            warmup_target=recipe.learning_rate,
            warmup_steps=recipe.warmup_steps,
        ),
        weight_decay=recipe.weight_decay,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss_of = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )

    @tf.function(reduce_retracing=True)
    def step(pixels: tf.Tensor, labels: tf.Tensor, subtypes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits, told = network(pixels, training=True)
            loss = loss_of(labels, logits) + recipe.subtype_weight * loss_of(subtypes, told)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return loss

    return step


def _batches(
    sampler: FieldSampler, steps: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Make the batches in another thread, a few ahead."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(sampler.batch, step) for step in range(min(_AHEAD, steps))]
        for step in range(steps):
            batch = waiting.pop(0).result()
            if step + _AHEAD < steps:
                waiting.append(pool.submit(sampler.batch, step + _AHEAD))
            yield batch


class _Average:
    """The running mean of every weight, moving statistics with them."""

    def __init__(self, network: keras.Model, decay: float) -> None:
        self._variables = [v for v in network.variables if v.dtype == "float32"]
        self._decay = decay
        self._mean: list[np.ndarray] | None = None

    def update(self, step: int) -> None:
        """Take the weights after a step in; early ones are soon forgotten."""
        values = [variable.numpy() for variable in self._variables]
        if self._mean is None:
            self._mean = [value.copy() for value in values]
            return
        keep = min(self._decay**_AVERAGED_EVERY, (1 + step) / (10 + step))
        for mean, value in zip(self._mean, values, strict=True):
            mean *= keep
            mean += (1.0 - keep) * value

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Give the network its averaged weights for a while."""
        own = [variable.numpy() for variable in self._variables]
        try:
            self._put(self._mean or own)
            yield
        finally:
            self._put(own)

    def _put(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
