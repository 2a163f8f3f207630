"""Training of the bundled model from random weights. Importing this loads Keras.

The network has four training targets: the hand-crafted features of each view, the teacher's logit,
the class and the subtype. The first two are valid for every view and prevent the network from
memorizing cases [1]_ [2]_.

Any Keras backend can train. On a processor, TensorFlow uses
`bc_model.distillation.fast_layers`.

.. [1] Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531.
.. [2] Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.distillation.augmentation import Views, ViewSampler, prefetch_batches
from bc_model.distillation.config import PROXY, DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import N_FEATURES
from bc_model.distillation.teacher import Teacher
from bc_model.evaluation.calibration import case_weights
from bc_model.model import HEAD_NEGATIVE_SLOPE, SCRATCH_BN_MOMENTUM, build_model
from bc_model.training.devices import use_compute_dtype
from bc_model.utils.arrays import read_npz
from bc_model.utils.formatting import format_duration

CHECKPOINT_INTERVAL_S = 300.0
"""Training that an interruption loses at most. A checkpoint of ResNet50 has 400 MB."""

_LOG_INTERVAL_S = 20.0
_RECALIBRATION_BATCHES = 8
_BATCH_SIZE = 32
_PROXY_WIDTH = 16
_PROXY_STAGES = ((1, 2), (2, 2), (4, 3), (8, 2))
"""Multiple of the width, and number of blocks, of each stage."""

logger = logging.getLogger("bc_model.distillation")


def train_student(
    source: TrainingImages, config: DistillationConfig, *, seed: int, n_processes: int = 0,
    checkpoint_file: Path | None = None,
) -> keras.Model:  # fmt: skip
    """Train a network from random weights, without a validation subset.

    The seed determines weights and views, which worker processes prepare. Training resumes from the
    file of a `TrainingCheckpoint`, which is deleted at the end. The result is the network of
    `build_network` with the image size of the configuration.
    """
    keras.utils.set_random_seed(seed)
    teacher = Teacher.fit(source.features, source.malignant, source.case, config.penalty)
    spread = float(teacher.predict_logit(teacher.normalize(source.features)).std())
    sampler = ViewSampler(source, config, seed)
    network, model = build_student(config, sampler, fast=_trains_on_cpu())
    checkpoint = None
    if checkpoint_file and keras.backend.backend() == "tensorflow":
        checkpoint = TrainingCheckpoint(model, checkpoint_file)
    n_done = checkpoint.n_done if checkpoint else 0
    callbacks = [_ProgressLogger(n_done, config.steps), *([checkpoint] if checkpoint else [])]
    with (
        use_compute_dtype(network, config.compute_dtype),
        prefetch_batches(sampler, range(n_done, config.steps), n_processes) as batches,
    ):
        model.fit(
            (make_targets(views, teacher, spread) for views in batches), shuffle=False, verbose=0,
            steps_per_epoch=config.steps - n_done, callbacks=callbacks,
        )  # fmt: skip
    recalibrate_batch_norm(network, source.pixels, sampler)
    refit_last_layer(network, source, teacher, config.last_penalty)
    exported = build_network(config, config.image_size)
    exported.set_weights(network.get_weights())
    if checkpoint:
        checkpoint.remove()
    return exported


def build_student(
    config: DistillationConfig, sampler: ViewSampler, *, fast: bool
) -> tuple[keras.Model, keras.Model]:
    """Build the network with random weights, and the compiled model of its training targets.

    Parameters
    ----------
    config : DistillationConfig
    sampler : ViewSampler
    fast : bool
        Use `bc_model.distillation.fast_layers`.

    Returns
    -------
    network, model : keras.Model
        The model shares the layers of the network.
    """
    network, optimizer_class = build_network(config, None), keras.optimizers.AdamW
    if fast:
        from bc_model.distillation.fast_layers import FastAdamW, with_fast_layers

        network, optimizer_class = with_fast_layers(network), FastAdamW
    model = _add_target_outputs(network, config, sampler)
    _compile(model, config, optimizer_class)
    return network, model


def build_network(config: DistillationConfig, image_size: tuple[int, int] | None) -> keras.Model:
    """Build the network with random weights; None allows every image size."""
    if config.backbone == PROXY:
        return _build_proxy(config, image_size)
    # The label outputs have their own dropout.
    return build_model(
        config.backbone, image_size=image_size, weights="none",
        dense_units=(config.hidden_units,), dropout=0.0,
    )  # fmt: skip


def _build_proxy(config: DistillationConfig, image_size: tuple[int, int] | None) -> keras.Model:
    """Build the proxy network, with inputs, outputs and names as those of `build_model`."""
    image = keras.Input((*(image_size or (None, None)), 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2)(image)
    x = _convolve(x, _PROXY_WIDTH, 7, 2, "stem")
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, (multiple, n_blocks) in enumerate(_PROXY_STAGES):
        for block in range(n_blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            x = _bottleneck(x, _PROXY_WIDTH * multiple, stride, f"stage{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    activation = keras.layers.LeakyReLU(HEAD_NEGATIVE_SLOPE)
    x = keras.layers.Dense(config.hidden_units, activation=activation, name="dense_1")(x)
    x = keras.layers.Dense(len(CLASSES), name="logits")(x)
    x = keras.layers.Activation("softmax", name="probabilities")(x)
    return keras.Model(image, x, name=PROXY)


def _bottleneck(x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    inner = keras.layers.Activation("relu")(_convolve(x, width, 1, stride, f"{name}_1"))
    inner = keras.layers.Activation("relu")(_convolve(inner, width, 3, 1, f"{name}_2"))
    inner = _convolve(inner, 4 * width, 1, 1, f"{name}_3")
    if stride != 1 or x.shape[-1] != 4 * width:
        x = _convolve(x, 4 * width, 1, stride, f"{name}_0")
    return keras.layers.Activation("relu")(keras.layers.Add()([x, inner]))


def _convolve(
    x: keras.KerasTensor, filters: int, side: int, stride: int, name: str
) -> keras.KerasTensor:
    convolution = keras.layers.Conv2D(
        filters, side, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )
    normalization = keras.layers.BatchNormalization(momentum=SCRATCH_BN_MOMENTUM, name=f"{name}_bn")
    return normalization(convolution(x))


def _add_target_outputs(
    network: keras.Model, config: DistillationConfig, sampler: ViewSampler
) -> keras.Model:
    """Return the model from pixels to features, teacher's logit, class and subtype."""
    hidden = network.get_layer("dense_1").output
    dropped = keras.layers.Dropout(config.dropout, name="dropout_labels")(hidden)
    return keras.Model(
        network.inputs[0],
        [
            keras.layers.Dense(N_FEATURES, name="features")(hidden),
            keras.layers.Dense(1, name="teacher_logit")(hidden),
            keras.layers.Dense(len(CLASSES), name="classes")(dropped),
            keras.layers.Dense(len(sampler.subtypes), name="subtypes")(dropped),
        ],
    )


def _trains_on_cpu() -> bool:
    """Return whether TensorFlow trains on a processor, for which it has faster layers."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _compile(
    model: keras.Model, config: DistillationConfig, optimizer_class: type[keras.optimizers.AdamW]
) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, config.steps, alpha=0.02,
        warmup_target=config.learning_rate, warmup_steps=config.warmup_steps,
    )  # fmt: skip
    optimizer = optimizer_class(
        schedule, weight_decay=config.weight_decay, use_ema=True, ema_momentum=config.ema_decay
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    label_loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing
    )
    weight = config.label_weight
    model.compile(
        optimizer,
        loss=["mse", "mse", label_loss, label_loss],
        loss_weights=[1.0, 1.0, weight, weight * config.subtype_weight],
        # TensorFlow's own kernels are faster on processors.
        jit_compile=keras.backend.backend() == "jax",
    )


def make_targets(
    views: Views, teacher: Teacher, spread: float
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the pixels of a batch and its four training targets."""
    normalized = teacher.normalize(views.features)
    logit = teacher.predict_logit(normalized)[:, None] / np.float32(spread)
    return views.pixels, (normalized, logit, views.labels, views.subtypes)


def recalibrate_batch_norm(model: keras.Model, pixels: np.ndarray, sampler: ViewSampler) -> None:
    """Recompute the moving statistics of the batch normalization on complete images.

    Averaged weights have processed no batch [1]_, and the training crops differ from the images.

    .. [1] Izmailov et al., "Averaging weights leads to wider optima", UAI 2018.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    body = keras.Model(model.inputs[0], model.get_layer("pool").output)
    try:
        for number in range(_RECALIBRATION_BATCHES):
            for layer in layers:
                layer.momentum = number / (number + 1)  # mean over all batches so far
            body(pixels[sampler.sample_indices(number)].astype("float32"), training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def refit_last_layer(
    model: keras.Model, source: TrainingImages, teacher: Teacher, penalty: float
) -> None:
    """Fit the last layer, whose input is 'dense_1', to the teacher's logits of complete images.

    The training steps fit it to crops of changed colors, but predictions need complete images.
    """
    hidden = hidden_activations(model, source.pixels)
    logit = teacher.predict_logit(teacher.normalize(source.features))
    kernel, bias = fit_ridge(hidden, logit, source.case, penalty)
    # Benign is the first output; each output has half of the difference.
    model.get_layer("logits").set_weights(
        [np.stack([-kernel, kernel], axis=1) / 2.0, np.array([-bias, bias]) / 2.0]
    )


def hidden_activations(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Return the hidden layer of complete images, shape (n, units), float32."""
    body = keras.Model(model.inputs[0], model.get_layer("dense_1").output)
    batches = (pixels[i : i + _BATCH_SIZE] for i in range(0, len(pixels), _BATCH_SIZE))
    hidden = [np.asarray(body.predict_on_batch(batch.astype("float32"))) for batch in batches]
    return np.concatenate(hidden)


def fit_ridge(
    hidden: np.ndarray, logit: np.ndarray, case: np.ndarray, penalty: float
) -> tuple[np.ndarray, float]:
    """Fit logits (n,) by ridge regression on hidden units (n, units), with equal case weights.

    Return the float64 kernel of the original units, shape (units,), and the bias. The penalty is
    ``alpha`` in scikit-learn, for standardized units.
    """
    from sklearn.linear_model import Ridge

    hidden = hidden.astype(np.float64)
    mean, spread = hidden.mean(axis=0), hidden.std(axis=0) + 1e-3
    ridge = Ridge(alpha=penalty).fit(
        (hidden - mean) / spread, logit, sample_weight=case_weights(case) * len(case)
    )
    kernel = ridge.coef_ / spread
    return kernel, float(ridge.intercept_ - mean @ kernel)


class TrainingCheckpoint(keras.callbacks.Callback):
    """Save weights, optimizer and random states to an ``.npz`` file, for exact resume.

    For TensorFlow only. With JAX, the variables are elsewhere during training, and training on an
    accelerator takes minutes. `n_done` is the number of finished steps. The file of another model
    is ignored.
    """

    def __init__(self, model: keras.Model, file: Path) -> None:
        super().__init__()
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self._file, self._saved_at = file, time.monotonic()
        self.n_done = self._restore()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the step, and save if the interval has passed."""
        self.n_done += 1
        is_last = batch + 1 == self.params["steps"]  # nothing would remain for a resume
        if not is_last and time.monotonic() - self._saved_at >= CHECKPOINT_INTERVAL_S:
            self._save()
            self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Delete the file after training."""
        self._file.unlink(missing_ok=True)

    def _save(self) -> None:
        arrays: dict[str, Any] = {str(i): np.asarray(v) for i, v in enumerate(self._variables)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_name(f".{self._file.name}")
        with temporary.open("wb") as stream:
            np.savez(stream, n_done=self.n_done, **arrays)
        temporary.replace(self._file)

    def _restore(self) -> int:
        if not self._file.exists():
            return 0
        try:
            saved = read_npz(self._file)
            arrays = [saved[str(i)] for i in range(len(self._variables))]
            n_done = int(saved["n_done"])
        except (KeyError, OSError, ValueError):
            return 0
        if any(a.shape != tuple(v.shape) for a, v in zip(arrays, self._variables, strict=True)):
            return 0
        for array, variable in zip(arrays, self._variables, strict=True):
            variable.assign(array)
        logger.info("Resumed after step %d", n_done)
        return n_done


class _ProgressLogger(keras.callbacks.Callback):
    """Log step, loss and estimated duration."""

    async_safe = True
    """The next step does not wait for the loss of this one."""

    def __init__(self, n_done: int, n_steps: int) -> None:
        super().__init__()
        self._n_done, self._n_steps = n_done, n_steps
        self._started_at = self._logged_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.monotonic()
        if now - self._logged_at > _LOG_INTERVAL_S:
            self._logged_at = now
            step = self._n_done + batch + 1
            remaining_s = (now - self._started_at) / (batch + 1) * (self._n_steps - step)
            logger.info(
                "Step %d of %d, mean loss %.3f, about %s left",
                step, self._n_steps, (logs or {})["loss"], format_duration(remaining_s),
            )  # fmt: skip
