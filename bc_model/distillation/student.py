"""Training of the bundled model from random weights. Importing this loads Keras.

The training targets of each view are the hand-crafted features, the whitened principal components
of the ImageNet activations, the scale, the logits of the teachers, the class and the subtype. All
but the last two are functions of the view itself and prevent the network from memorizing cases
[1]_ [2]_. The targets are measured before the view is blurred, resampled and compressed, so the
network learns to compensate for these changes.

The logit is the mean of the evidence over the cells of the last activations. Its target is the
teacher's logit times the proportion of tissue, and the evidence on background should be zero. A
linear layer without bias has no units that could all be off.

Any Keras backend can train. On a processor, TensorFlow uses
`bc_model.distillation.fast_layers`.

.. [1] Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531.
.. [2] Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from bc_model.data.breakhis import CLASSES
from bc_model.distillation.cells import mean_of_cells
from bc_model.distillation.config import MAGNIFICATIONS, DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import N_FEATURES
from bc_model.distillation.teacher import Teacher, Whitening
from bc_model.distillation.view_pool import (
    BACKGROUND_CELL_PX,
    ViewBatch,
    ViewPool,
    ViewSampler,
)
from bc_model.model import build_model, last_conv_output
from bc_model.training.devices import use_compute_dtype
from bc_model.utils.arrays import read_npz
from bc_model.utils.formatting import format_duration

CHECKPOINT_INTERVAL_S = 300.0
"""Training that an interruption loses at most. A checkpoint of ResNet50 has 400 MB."""

_LOG_INTERVAL_S = 20.0
_RECALIBRATION_BATCHES = 8
_RECALIBRATION_BATCH_SIZE = 16
_MIN_BACKGROUND = 0.95
"""Proportion of background from which the evidence of a cell should be zero."""

logger = logging.getLogger("bc_model.distillation")


def train_student(
    source: TrainingImages, pool: ViewPool, is_train: np.ndarray, config: DistillationConfig, *,
    seed: int, checkpoint_file: Path | None = None,
) -> tuple[keras.Model, np.ndarray]:  # fmt: skip
    """Train a network from random weights, without a validation subset.

    Parameters
    ----------
    source : TrainingImages
    pool : ViewPool
        Views of these images.
    is_train : ndarray of shape (n,), bool
        Images whose views, labels and features are used.
    config : DistillationConfig
    seed : int
        Determines the weights and the order of the views.
    checkpoint_file : Path, optional
        File of a `TrainingCheckpoint`, from which training resumes. Delete it after the result is
        saved.

    Returns
    -------
    model : keras.Model
        Network of `build_network` with the image size of the configuration. Its last layer is not
        trained; see `bc_model.distillation.last_layer`.
    scale : ndarray of shape (channels + 1,), float32
        Kernel and bias that the training steps fitted to the scale of the views, log2 µm per pixel.
    """
    keras.utils.set_random_seed(seed)
    sampler = ViewSampler(pool, source.table, is_train, config.batch_size, seed)
    targets = ViewTargets.fit(source, pool, is_train, config)
    network, model = build_student(config, targets, fast=_trains_on_cpu())
    checkpoint = None
    if checkpoint_file and keras.backend.backend() == "tensorflow":
        checkpoint = TrainingCheckpoint(model, checkpoint_file)
    n_done = checkpoint.n_done if checkpoint else 0
    callbacks = [_ProgressLogger(n_done, config.steps), *([checkpoint] if checkpoint else [])]
    cells = _cell_shape(network, config)
    batches = (sampler.sample_batch(step) for step in range(n_done, config.steps))
    with use_compute_dtype(network, config.compute_dtype):
        model.fit(
            ((batch.pixels, targets.of(batch, cells, config.backbone)) for batch in batches),
            shuffle=False, verbose=0, steps_per_epoch=config.steps - n_done, callbacks=callbacks,
        )  # fmt: skip
    recalibrate_batch_norm(network, source.pixels[is_train & is_main(source)], seed)
    exported = build_network(config, config.image_size)
    exported.set_weights(network.get_weights())
    kernel, bias = model.get_layer("features").get_weights()
    return exported, np.append(kernel[:, -1], bias[-1])


def is_main(source: TrainingImages) -> np.ndarray:
    """Return which images have a magnification of the model, shape (n,), bool."""
    mask: np.ndarray = source.table["magnification"].astype(int).isin(MAGNIFICATIONS).to_numpy(bool)
    return mask


@dataclass(frozen=True)
class ViewTargets:
    """The training targets of all views of a pool.

    Attributes
    ----------
    features : ndarray of shape (n_views, n_targets), float32
        Hand-crafted features, components of the ImageNet activations, and the scale in log2 µm per
        pixel; NaN where there is no target.
    logits : ndarray of shape (n_views, n_teachers), float32
        Logits of the teachers, times the proportion of tissue.
    labels, subtypes : ndarray of shape (n_views, n_classes or n_subtypes), float32
        One-hot, mixed as the views, or equal for views without tissue.
    weights : ndarray of shape (n_targets,), float32
        Loss weight of each column of the features.
    """

    features: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    subtypes: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(
        cls, source: TrainingImages, pool: ViewPool, is_train: np.ndarray,
        config: DistillationConfig,
    ) -> ViewTargets:  # fmt: skip
        """Fit teacher and components to the training images, and apply them to all views."""
        use = is_train & ~source.is_extra
        teacher = Teacher.fit(
            pool.variants[use], source.malignant[use], source.case[use], config.penalties
        )
        normalized = teacher.normalize(pool.features)
        activations = normalized[:, N_FEATURES:]
        is_own = is_train[pool.image] & is_train[pool.other]
        whitening = Whitening.fit(activations[is_own], config.n_components)
        scale = np.log2(pool.mpp)[:, None]
        tissue = 1.0 - pool.background.mean(axis=(1, 2), dtype=np.float32)[:, None] / 255.0
        table = source.table
        # Only subtypes of training images: the others would show how many there are.
        subtypes = sorted(set(table.loc[is_train, "subtype"]))
        counts = (N_FEATURES, config.n_components, 1)
        weights = (config.feature_weight, config.component_weight, config.scale_weight)
        return cls(
            np.concatenate([normalized[:, :N_FEATURES], whitening(activations), scale], axis=1),
            teacher.predict_logits(normalized) * tissue,
            _mixed_one_hot(table["class"], list(CLASSES), pool),
            _mixed_one_hot(table["subtype"], subtypes, pool),
            np.concatenate(
                [np.full(n, w / n, np.float32) for n, w in zip(counts, weights, strict=True)]
            ),
        )

    def of(self, batch: ViewBatch, cells: tuple[int, int], backbone: str) -> tuple[np.ndarray, ...]:
        """Return the targets of a batch in the order of the outputs of `build_student`.

        `cells` are the rows and columns of the last activations.
        """
        i = batch.views
        background = mean_of_cells(batch.background, cells, backbone, BACKGROUND_CELL_PX)
        is_background = (background > _MIN_BACKGROUND).astype(np.float32)[..., None]
        return self.features[i], self.logits[i], is_background, self.labels[i], self.subtypes[i]


def _mixed_one_hot(values: pd.Series, names: list[str], pool: ViewPool) -> np.ndarray:
    """Return one-hot rows, mixed as the views; unknown names have equal proportions."""
    one_hot = (values.to_numpy(str)[:, None] == np.array(names)).astype(np.float32)
    one_hot[one_hot.sum(axis=1) == 0] = 1.0 / len(names)
    weight = pool.proportion[:, None]
    mixed = weight * one_hot[pool.image] + (1.0 - weight) * one_hot[pool.other]
    mixed[pool.background.min(axis=(1, 2)) == 255] = 1.0 / len(names)  # no tissue
    return mixed


def build_student(
    config: DistillationConfig, targets: ViewTargets, *, fast: bool
) -> tuple[keras.Model, keras.Model]:
    """Build the network with random weights, and the compiled model of its training targets.

    Parameters
    ----------
    config : DistillationConfig
    targets : ViewTargets
        Targets, whose numbers of columns and loss weights are used.
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
    model = _add_target_outputs(network, config, targets)
    _compile(model, config, targets.weights, optimizer_class)
    return network, model


def build_network(config: DistillationConfig, image_size: tuple[int, int] | None) -> keras.Model:
    """Build the network with random weights; None allows every image size."""
    # The label outputs have their own dropout.
    return build_model(
        config.backbone, image_size=image_size, weights="none", dense_units=(), dropout=0.0
    )


def _cell_shape(network: keras.Model, config: DistillationConfig) -> tuple[int, int]:
    """Return rows and columns of the last activations of a view."""
    body = keras.Model(network.inputs[0], last_conv_output(network))
    _, rows, columns, _ = body.compute_output_shape((1, *config.view_size, 3))
    return rows, columns


def _add_target_outputs(
    network: keras.Model, config: DistillationConfig, targets: ViewTargets
) -> keras.Model:
    """Return the model from pixels to features, logits, evidence, class and subtype."""
    pooled, last = network.get_layer("pool").output, last_conv_output(network)
    evidence = keras.layers.Conv2D(
        targets.logits.shape[1], 1, use_bias=False, kernel_initializer="zeros", name="evidence"
    )(last)
    dropped = keras.layers.Dropout(config.dropout, name="dropout_labels")(pooled)
    return keras.Model(
        network.inputs[0],
        [
            keras.layers.Dense(targets.features.shape[1], name="features")(pooled),
            keras.layers.GlobalAveragePooling2D(name="teacher_logits")(evidence),
            evidence,
            keras.layers.Dense(len(CLASSES), name="classes")(dropped),
            keras.layers.Dense(targets.subtypes.shape[1], name="subtypes")(dropped),
        ],
    )


def _trains_on_cpu() -> bool:
    """Return whether TensorFlow trains on a processor, for which it has faster layers."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _compile(
    model: keras.Model, config: DistillationConfig, feature_weights: np.ndarray,
    optimizer_class: type[keras.optimizers.AdamW],
) -> None:  # fmt: skip
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

    def feature_loss(expected: Any, found: Any) -> Any:
        """Return the weighted squared error of the targets that are not NaN."""
        difference = keras.ops.where(keras.ops.isnan(expected), 0.0, expected - found)
        return keras.ops.sum(feature_weights * keras.ops.square(difference), axis=-1)

    def background_loss(is_background: Any, evidence: Any) -> Any:
        return is_background * keras.ops.square(evidence)

    model.compile(
        optimizer,
        loss=[feature_loss, "mse", background_loss, label_loss, label_loss],
        loss_weights=[
            1.0,
            config.logit_weight,
            config.background_weight,
            config.label_weight,
            config.subtype_weight,
        ],
        # TensorFlow's own kernels are faster on processors.
        jit_compile=keras.backend.backend() == "jax",
    )


def last_activations(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from pixels to the activations of the last convolutional block."""
    body = keras.Model(model.inputs[0], last_conv_output(model))
    return lambda pixels: np.asarray(body.predict_on_batch(pixels))


def recalibrate_batch_norm(model: keras.Model, pixels: np.ndarray, seed: int) -> None:
    """Recompute the moving statistics of the batch normalization on complete images.

    Averaged weights have processed no batch [1]_, and the training views differ from the images.

    .. [1] Izmailov et al., "Averaging weights leads to wider optima", UAI 2018.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    body = keras.Model(model.inputs[0], model.get_layer("pool").output)
    rng = np.random.default_rng([seed, 1])
    try:
        for number in range(_RECALIBRATION_BATCHES):
            for layer in layers:
                layer.momentum = number / (number + 1)  # mean over all batches so far
            chosen = rng.integers(len(pixels), size=_RECALIBRATION_BATCH_SIZE)
            body(pixels[chosen].astype("float32"), training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


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
