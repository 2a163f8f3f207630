"""The learning of the model in the box. Importing this loads Keras.

The network has four lessons at once: the descriptors of each view, the teacher's logit of it, its
class and its subtype. The first two have an answer for any view, however odd, and keep it from
learning cases by heart; all four go through the same layers. A network that learns another model's
outputs: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531;
for long, and of ever new views: Beyer et al., "Knowledge distillation: a good teacher is patient
and consistent", CVPR 2022.

Any backend of Keras will do, so that a machine with an accelerator may learn with another one than
TensorFlow (``KERAS_BACKEND``); on a processor TensorFlow takes the steps of `quick_steps`.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import keras
import numpy as np

from bc_model.bundled.batches import batches_ahead
from bc_model.bundled.descriptors import N_DESCRIPTORS
from bc_model.bundled.drafts import Draft
from bc_model.bundled.probe import build_probe
from bc_model.bundled.recipe import PROBE, Recipe
from bc_model.bundled.settling import settle_batch_norm, settle_logits
from bc_model.bundled.source import Source
from bc_model.bundled.teacher import Teacher
from bc_model.bundled.views import Views, ViewSampler
from bc_model.data.names import CLASSES
from bc_model.model import build_model
from bc_model.training.arithmetic import computing_in
from bc_model.words import duration_in_words

logger = logging.getLogger("bc_model.bundled")

_TOLD_EVERY_S = 20.0


def learn(
    source: Source, recipe: Recipe, *, seed: int, processes: int = 0, draft: Path | None = None
) -> keras.Model:
    """Learn from random weights on.

    Nothing is watched on the way, so that no picture need be kept back for it.

    Parameters
    ----------
    source : Source
        The pictures to learn from.
    recipe : Recipe
    seed : int
    processes : int
        That make views beside this one.
    draft : Path, optional
        File that keeps the steps so far, see `Draft`; gone when the learning is over.

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
    spread = float(teacher.logit(teacher.squashed(source.descriptors)).std())
    sampler = ViewSampler(source, recipe, seed)
    model, lessons = prepare(recipe, sampler, quick=_learns_on_processor())
    kept = Draft(lessons, draft) if draft and keras.backend.backend() == "tensorflow" else None
    done = kept.done if kept else 0
    with (
        computing_in(model, recipe.arithmetic),
        batches_ahead(sampler, range(done, recipe.steps), processes) as batches,
    ):
        lessons.fit(
            (_lesson(views, teacher, spread) for views in batches),
            steps_per_epoch=recipe.steps - done,
            shuffle=False,
            verbose=0,
            callbacks=[_Told(done, recipe.steps), *([kept] if kept else [])],
        )
    settle_batch_norm(model, source.pixels, sampler)
    settle_logits(model, source, teacher, recipe.last_penalty)
    served = build_network(recipe, recipe.image_size)
    served.set_weights(model.get_weights())
    if kept:
        kept.remove()
    return served


def prepare(
    recipe: Recipe, sampler: ViewSampler, *, quick: bool
) -> tuple[keras.Model, keras.Model]:
    """Build the network with random weights, and around it what learns, compiled.

    Parameters
    ----------
    recipe : Recipe
    sampler : ViewSampler
    quick : bool
        With the layers and the optimiser of `quick_steps`.

    Returns
    -------
    network, lessons : keras.Model
        The second one goes through the layers of the first.
    """
    network, adamw_kind = build_network(recipe, None), keras.optimizers.AdamW
    if quick:
        from bc_model.bundled.quick_steps import QuickAdamW, with_quick_layers

        network, adamw_kind = with_quick_layers(network), QuickAdamW
    lessons = _lessons(network, recipe, sampler)
    _compile(lessons, recipe, adamw_kind)
    return network, lessons


def build_network(recipe: Recipe, image_size: tuple[int, int] | None) -> keras.Model:
    """Build the network that learns, with random weights; an image size of None leaves it free."""
    if recipe.backbone == PROBE:
        return build_probe(recipe, image_size)
    # What labels teach has a dropout of its own while it learns.
    return build_model(
        recipe.backbone, image_size=image_size, weights="none",
        dense_units=(recipe.hidden_units,), dropout=0.0,
    )  # fmt: skip


def _lessons(model: keras.Model, recipe: Recipe, sampler: ViewSampler) -> keras.Model:
    """From pixels to the four answers: descriptors, the teacher's logit, class and subtype."""
    hidden = model.get_layer("dense_1").output
    dropped = keras.layers.Dropout(recipe.dropout, name="dropout_labels")(hidden)
    return keras.Model(
        model.inputs[0],
        [
            keras.layers.Dense(N_DESCRIPTORS, name="descriptors")(hidden),
            keras.layers.Dense(1, name="taught")(hidden),
            keras.layers.Dense(len(CLASSES), name="classes")(dropped),
            keras.layers.Dense(len(sampler.subtypes), name="subtypes")(dropped),
        ],
    )


def _learns_on_processor() -> bool:
    """Tell whether TensorFlow does, which has quicker steps for it."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _compile(
    lessons: keras.Model, recipe: Recipe, adamw_kind: type[keras.optimizers.AdamW]
) -> None:
    optimizer = adamw_kind(
        keras.optimizers.schedules.CosineDecay(
            0.0,
            recipe.steps,
            alpha=0.02,
            warmup_target=recipe.learning_rate,
            warmup_steps=recipe.warmup_steps,
        ),
        weight_decay=recipe.weight_decay,
        use_ema=True,
        ema_momentum=recipe.averaging,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    of_classes = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.label_smoothing
    )
    labels = recipe.label_weight
    lessons.compile(
        optimizer,
        loss=["mse", "mse", of_classes, of_classes],
        loss_weights=[1.0, 1.0, labels, labels * recipe.subtype_weight],
        # TensorFlow's own kernels are the faster ones on processors.
        jit_compile=keras.backend.backend() == "jax",
    )


def _lesson(
    views: Views, teacher: Teacher, spread: float
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return pixels and the four right answers."""
    squashed = teacher.squashed(views.descriptors)
    taught = teacher.logit(squashed)[:, None] / np.float32(spread)
    return views.pixels, (squashed, taught, views.labels, views.subtypes)


class _Told(keras.callbacks.Callback):
    """Says in the log how far the learning is."""

    async_safe = True
    """A step need not wait until this one's loss is known."""

    def __init__(self, done: int, steps: int) -> None:
        super().__init__()
        self._done, self._steps = done, steps
        self._began = self._told = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.monotonic()
        if now - self._told > _TOLD_EVERY_S:
            self._told = now
            step = self._done + batch + 1
            left = (now - self._began) / (batch + 1) * (self._steps - step)
            logger.info(
                "step %d of %d, mean loss so far %.3f, about %s left",
                step, self._steps, (logs or {})["loss"], duration_in_words(left),
            )  # fmt: skip
