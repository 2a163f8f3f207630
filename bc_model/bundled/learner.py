"""The learning of the model in the box: one loop of steps. Importing this loads TensorFlow.

The network has four lessons at once: the descriptors of each view, the teacher's logit of it, its
class and its subtype. The first two have an answer for any view, however odd, and keep it from
learning cases by heart; all four go through the same layers. A network that learns another model's
outputs: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from bc_model.bundled.descriptors import N_DESCRIPTORS
from bc_model.bundled.recipe import Recipe
from bc_model.bundled.source import Source
from bc_model.bundled.teacher import Teacher
from bc_model.bundled.views import Views, ViewSampler
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


def learn(source: Source, recipe: Recipe, *, seed: int) -> keras.Model:
    """Learn from random weights on.

    Nothing is watched on the way, so that no picture need be kept back for it.

    Parameters
    ----------
    source : Source
        The pictures to learn from.
    recipe : Recipe
    seed : int

    Returns
    -------
    keras.Model
        As `build_model` builds it, with the recipe's input size.
    """
    keras.utils.set_random_seed(seed)
    teacher = Teacher.fit(
        source.descriptors,
        source.malignant,
        source.table["case"].to_numpy(str),
        recipe.penalty,
    )
    sampler = ViewSampler(source, recipe, seed)
    model = build_network(recipe, None)
    lessons = _lessons(model, recipe, sampler)
    average = _Average(lessons, recipe.averaging)
    spread = float(teacher.logit(teacher.squashed(source.descriptors)).std())
    arithmetic = "bfloat16" if "bf16" in supported_precisions() else "float32"
    with computing_in(model, arithmetic):
        step_of = _step(lessons, recipe)
        step_of.get_concrete_function(*_lesson(sampler.batch(0), teacher, spread))
    began, losses = time.monotonic(), []
    for step, views in enumerate(_batches(sampler, recipe.steps)):
        losses.append(float(step_of(*_lesson(views, teacher, spread))))
        if step % _AVERAGED_EVERY == 0:
            average.update(step)
        if (step + 1) % _TOLD_EVERY == 0:
            seconds = time.monotonic() - began
            left = seconds / (step + 1) * (recipe.steps - step - 1)
            logger.info(
                "step %d of %d, loss %.3f, about %s left",
                step + 1, recipe.steps, np.mean(losses[-_TOLD_EVERY:]), duration_in_words(left),
            )  # fmt: skip
    average.put()
    settle_batch_norm(model, source.pixels, sampler)
    served = build_network(recipe, recipe.image_size)
    served.set_weights(model.get_weights())
    return served


def build_network(recipe: Recipe, image_size: tuple[int, int] | None) -> keras.Model:
    """Build the network that learns, with random weights; an image size of None leaves it free."""
    # What labels teach has a dropout of its own while it learns.
    return build_model(
        recipe.backbone, image_size=image_size, weights="none",
        dense_units=(recipe.hidden_units,), dropout=0.0,
    )  # fmt: skip


def settle_batch_norm(model: keras.Model, pixels: np.ndarray, sampler: ViewSampler) -> None:
    """Measure the moving statistics anew: on whole pictures, with the weights as they are now.

    Averaged weights never saw a batch, and crops are another view of tissue than what is served
    (Izmailov et al., "Averaging weights leads to wider optima", UAI 2018).

    Parameters
    ----------
    model : keras.Model
    pixels : ndarray of shape (n, height, width, 3), uint8
    sampler : ViewSampler
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


def _lessons(model: keras.Model, recipe: Recipe, sampler: ViewSampler) -> keras.Model:
    """From pixels to the four answers: descriptors, the teacher's logit, class and subtype."""
    hidden = model.get_layer("dense_1").output
    dropped = keras.layers.Dropout(recipe.dropout, name="dropout_labels")(hidden)
    return keras.Model(
        model.inputs[0],
        [
            keras.layers.Dense(N_DESCRIPTORS, name="descriptors")(hidden),
            keras.layers.Dense(1, name="taught")(hidden),
            model.get_layer("logits")(dropped),
            keras.layers.Dense(len(sampler.subtypes), name="subtypes")(dropped),
        ],
    )


def _lesson(views: Views, teacher: Teacher, spread: float) -> tuple[tf.Tensor, ...]:
    """Return pixels and the four right answers."""
    squashed = teacher.squashed(views.descriptors)
    taught = teacher.logit(squashed)[:, None] / spread
    return tuple(map(tf.constant, (views.pixels, squashed, taught, views.labels, views.subtypes)))


def _step(lessons: keras.Model, recipe: Recipe) -> tf.types.experimental.PolymorphicFunction:
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(
            0.0,
            recipe.steps,
            alpha=0.02,
            warmup_target=recipe.learning_rate,
            warmup_steps=recipe.warmup_steps,
        ),
        weight_decay=recipe.weight_decay,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    cross_entropy = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )

    @tf.function(reduce_retracing=True)
    def step(
        pixels: tf.Tensor,
        descriptors: tf.Tensor,
        taught: tf.Tensor,
        labels: tf.Tensor,
        subtypes: tf.Tensor,
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            told = lessons(pixels, training=True)
            of_labels = cross_entropy(labels, told[2])
            of_labels += recipe.subtype_weight * cross_entropy(subtypes, told[3])
            loss = (
                tf.reduce_mean(tf.square(told[0] - descriptors))
                + tf.reduce_mean(tf.square(told[1] - taught))
                + recipe.label_weight * of_labels
            )
        gradients = tape.gradient(loss, lessons.trainable_variables)
        optimizer.apply_gradients(zip(gradients, lessons.trainable_variables, strict=True))
        return loss

    return step


def _batches(sampler: ViewSampler, steps: int) -> Iterator[Views]:
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

    def put(self) -> None:
        """Give the network its averaged weights."""
        for variable, value in zip(self._variables, self._mean or [], strict=True):
            variable.assign(value)
