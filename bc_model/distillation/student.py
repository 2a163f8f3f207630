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
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.distillation.augmentation import Views, ViewSampler, batches_ahead
from bc_model.distillation.config import PROXY, DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import N_FEATURES
from bc_model.distillation.teacher import Teacher
from bc_model.evaluation.calibration import case_weights
from bc_model.model import SCRATCH_BN_MOMENTUM, build_model
from bc_model.training.devices import computing_in
from bc_model.utils.formatting import duration_in_words

_SETTLING_BATCHES = 8
_AT_ONCE = 32


def settle_batch_norm(model: keras.Model, pixels: np.ndarray, sampler: ViewSampler) -> None:
    """Measure the moving statistics anew, with the weights as they are now.

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
            body(pixels[sampler.draw(number)].astype("float32"), training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def settle_logits(
    model: keras.Model, source: TrainingImages, teacher: Teacher, penalty: float
) -> None:
    """Fit the last layer to the teacher's logits of the pictures themselves.

    What the steps made of the last layer is right on average over crops of odd colours; the verdict
    is asked of whole pictures as they are.

    Parameters
    ----------
    model : keras.Model
        With one hidden layer, 'dense_1'.
    source : Source
        The pictures it learned from.
    teacher : Teacher
    penalty : float
        See `fit_line`.
    """
    hidden = hidden_units(model, source.pixels)
    case = source.table["case"].to_numpy(str)
    logit = teacher.logit(teacher.normalized(source.features))
    kernel, bias = fit_line(hidden, logit, case, penalty)
    # Benign first: half of the difference on either side.
    model.get_layer("logits").set_weights(
        [np.stack([-kernel, kernel], axis=1) / 2.0, np.array([-bias, bias]) / 2.0]
    )


def hidden_units(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Return what the hidden layer says of whole pictures, shape (n, units), float32."""
    body = keras.Model(model.inputs[0], model.get_layer("dense_1").output)
    return np.concatenate(
        [
            np.asarray(body.predict_on_batch(pixels[i : i + _AT_ONCE].astype("float32")))
            for i in range(0, len(pixels), _AT_ONCE)
        ]
    )


def fit_line(
    hidden: np.ndarray, logit: np.ndarray, case: np.ndarray, penalty: float
) -> tuple[np.ndarray, float]:
    """Fit logits by ridge regression in which every case weighs the same.

    Parameters
    ----------
    hidden : ndarray of shape (n, units), float
    logit : ndarray of shape (n,), float
    case : ndarray of shape (n,), str
    penalty : float
        Of standardised units: scikit-learn's alpha.

    Returns
    -------
    kernel : ndarray of shape (units,), float64
    bias : float
        Of the units as they come.
    """
    from sklearn.linear_model import Ridge

    hidden = hidden.astype(np.float64)
    mean, spread = hidden.mean(axis=0), hidden.std(axis=0) + 1e-3
    line = Ridge(alpha=penalty).fit(
        (hidden - mean) / spread, logit, sample_weight=case_weights(case) * len(case)
    )
    kernel = line.coef_ / spread
    return kernel, float(line.intercept_ - mean @ kernel)


KEPT_EVERY_S = 300.0
"""What a cut costs at most; ResNet50 and its optimiser take 400 MB and a second to write."""


class Draft(keras.callbacks.Callback):
    """Keeps weights, optimiser and random states of a model that learns, every few minutes.

    TensorFlow alone: with JAX the variables are elsewhere while they learn, and on the accelerators
    that it is for a learning takes minutes.

    Parameters
    ----------
    model : keras.Model
        Compiled.
    file : Path
        Ending in ``.npz``. One of another model is left aside.

    Attributes
    ----------
    done : int
        Steps that the model has taken; those of the file to begin with.
    """

    def __init__(self, model: keras.Model, file: Path) -> None:
        super().__init__()
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._file, self._kept = file, time.monotonic()
        self.done = self._restored()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the step, and keep all when it is time."""
        self.done += 1
        is_last = batch + 1 == self.params["steps"]  # which cannot be gone on from
        if not is_last and time.monotonic() - self._kept >= KEPT_EVERY_S:
            self._keep()
            self._kept = time.monotonic()

    def remove(self) -> None:
        """Remove the file: the learning is over."""
        self._file.unlink(missing_ok=True)

    def _keep(self) -> None:
        arrays: dict[str, Any] = {str(i): np.asarray(v) for i, v in enumerate(self._variables)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        written = self._file.with_name(f".{self._file.name}")
        with written.open("wb") as stream:
            np.savez(stream, done=self.done, **arrays)
        written.replace(self._file)

    def _restored(self) -> int:
        if not self._file.exists():
            return 0
        try:
            # Opened here: NumPy leaves half a file open.
            with self._file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                arrays = [kept[str(i)] for i in range(len(self._variables))]
                done = int(kept["done"])
        except (KeyError, OSError, ValueError, zipfile.BadZipFile):
            return 0
        if any(a.shape != tuple(v.shape) for a, v in zip(arrays, self._variables, strict=True)):
            return 0
        for array, variable in zip(arrays, self._variables, strict=True):
            variable.assign(array)
        logger.info("goes on after step %d", done)
        return done


_WIDTH = 16
_STAGES = ((1, 2), (2, 2), (4, 3), (8, 2))
"""Multiple of the width and number of blocks."""


def build_proxy(config: DistillationConfig, image_size: tuple[int, int] | None) -> keras.Model:
    """Build it with random weights; inputs, outputs and names are those of `build_model`."""
    image = keras.Input((*(image_size or (None, None)), 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2)(image)
    x = _convolved(x, _WIDTH, 7, 2, "stem")
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, (multiple, blocks) in enumerate(_STAGES):
        for block in range(blocks):
            halved = block == 0 and stage > 0
            x = _bottleneck(x, _WIDTH * multiple, 2 if halved else 1, f"stage{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(config.hidden_units, activation="relu", name="dense_1")(x)
    x = keras.layers.Dense(len(CLASSES), name="logits")(x)
    x = keras.layers.Activation("softmax", name="probabilities")(x)
    return keras.Model(image, x, name=PROXY)


def _bottleneck(x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    inner = keras.layers.Activation("relu")(_convolved(x, width, 1, stride, f"{name}_1"))
    inner = keras.layers.Activation("relu")(_convolved(inner, width, 3, 1, f"{name}_2"))
    inner = _convolved(inner, 4 * width, 1, 1, f"{name}_3")
    if stride != 1 or x.shape[-1] != 4 * width:
        x = _convolved(x, 4 * width, 1, stride, f"{name}_0")
    return keras.layers.Activation("relu")(keras.layers.Add()([x, inner]))


def _convolved(
    x: keras.KerasTensor, filters: int, side: int, stride: int, name: str
) -> keras.KerasTensor:
    convolution = keras.layers.Conv2D(
        filters, side, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )
    return keras.layers.BatchNormalization(momentum=SCRATCH_BN_MOMENTUM, name=f"{name}_bn")(
        convolution(x)
    )


logger = logging.getLogger("bc_model.distillation")

_TOLD_EVERY_S = 20.0


def learn(
    source: TrainingImages,
    config: DistillationConfig,
    *,
    seed: int,
    processes: int = 0,
    draft: Path | None = None,
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
        source.features,
        source.malignant,
        source.table["case"].to_numpy(str),
        config.penalty,
    )
    spread = float(teacher.logit(teacher.normalized(source.features)).std())
    sampler = ViewSampler(source, config, seed)
    model, targets = build_student(config, sampler, fast=_learns_on_processor())
    kept = Draft(targets, draft) if draft and keras.backend.backend() == "tensorflow" else None
    done = kept.done if kept else 0
    with (
        computing_in(model, config.compute_dtype),
        batches_ahead(sampler, range(done, config.steps), processes) as batches,
    ):
        targets.fit(
            (_target(views, teacher, spread) for views in batches),
            steps_per_epoch=config.steps - done,
            shuffle=False,
            verbose=0,
            callbacks=[_Told(done, config.steps), *([kept] if kept else [])],
        )
    settle_batch_norm(model, source.pixels, sampler)
    settle_logits(model, source, teacher, config.last_penalty)
    served = build_network(config, config.image_size)
    served.set_weights(model.get_weights())
    if kept:
        kept.remove()
    return served


def build_student(
    config: DistillationConfig, sampler: ViewSampler, *, fast: bool
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
    network, adamw_kind = build_network(config, None), keras.optimizers.AdamW
    if fast:
        from bc_model.distillation.fast_layers import QuickAdamW, with_quick_layers

        network, adamw_kind = with_quick_layers(network), QuickAdamW
    targets = _targets(network, config, sampler)
    _compile(targets, config, adamw_kind)
    return network, targets


def build_network(config: DistillationConfig, image_size: tuple[int, int] | None) -> keras.Model:
    """Build the network that learns, with random weights; an image size of None leaves it free."""
    if config.backbone == PROXY:
        return build_proxy(config, image_size)
    # What labels teach has a dropout of its own while it learns.
    return build_model(
        config.backbone, image_size=image_size, weights="none",
        dense_units=(config.hidden_units,), dropout=0.0,
    )  # fmt: skip


def _targets(model: keras.Model, config: DistillationConfig, sampler: ViewSampler) -> keras.Model:
    """From pixels to the four answers: descriptors, the teacher's logit, class and subtype."""
    hidden = model.get_layer("dense_1").output
    dropped = keras.layers.Dropout(config.dropout, name="dropout_labels")(hidden)
    return keras.Model(
        model.inputs[0],
        [
            keras.layers.Dense(N_FEATURES, name="descriptors")(hidden),
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
    targets: keras.Model, config: DistillationConfig, adamw_kind: type[keras.optimizers.AdamW]
) -> None:
    optimizer = adamw_kind(
        keras.optimizers.schedules.CosineDecay(
            0.0,
            config.steps,
            alpha=0.02,
            warmup_target=config.learning_rate,
            warmup_steps=config.warmup_steps,
        ),
        weight_decay=config.weight_decay,
        use_ema=True,
        ema_momentum=config.averaging,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    of_classes = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing
    )
    labels = config.label_weight
    targets.compile(
        optimizer,
        loss=["mse", "mse", of_classes, of_classes],
        loss_weights=[1.0, 1.0, labels, labels * config.subtype_weight],
        # TensorFlow's own kernels are the faster ones on processors.
        jit_compile=keras.backend.backend() == "jax",
    )


def _target(
    views: Views, teacher: Teacher, spread: float
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return pixels and the four right answers."""
    normalized = teacher.normalized(views.features)
    taught = teacher.logit(normalized)[:, None] / np.float32(spread)
    return views.pixels, (normalized, taught, views.labels, views.subtypes)


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
