"""The inputs of a phase: images, or cached features of the frozen layers.

Frozen layers compute the same features of the same image in every epoch. With the cache, they run
once for a fixed number of augmented copies; then only the trained layers run. If all layers are
trained, images are the input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_model.data.pipeline import steps_in_epoch, training_dataset, validation_dataset
from bc_model.training.devices import resolve_batch_size
from bc_model.training.feature_cache import (
    AugmentedImages,
    CachedFeatures,
    Source,
    compute_feature_shape,
    compute_features,
    count_bytes,
)
from bc_model.training.feature_extraction import (
    TENSORFLOW,
    Extractor,
    cut_at_pool,
    cut_before_block,
    fastest_extractor_name,
    make_bridge_to_pool,
    make_fastest_extractor,
    make_tensorflow_extractor,
)

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from bc_model.training.config import TrainingConfig

STORED_DTYPE = {"head": "float32", "finetune": "bfloat16"}
"""Activations are about 1,000 times larger than pooled features, so they take half the bytes."""


@dataclass(frozen=True)
class Subset:
    """Images of one subset of the split, in memory.

    Attributes
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
    labels : ndarray of shape (n, 2), float32
        One-hot labels in the order of `CLASSES`.
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class PhaseInputs:
    """The model that a phase trains, and its batches.

    `model` is the classifier or its trained tail, with the same layers. The function `training`
    returns the batches from the first to the last epoch. An epoch has `n_training` images and
    `steps` batches. `seconds_per_image` is the duration of one forward pass, or 0 if unknown.
    """

    model: keras.Model
    training: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    n_training: int
    steps: int
    seconds_per_image: float = 0.0


def make_image_inputs(
    model: keras.Model, config: TrainingConfig, training: Subset, validation: Subset
) -> PhaseInputs:
    """Return augmented images as the inputs of the entire classifier."""
    n = len(training.labels)
    batch_size, n_devices = resolve_batch_size(config, n)

    def training_batches(first_epoch: int, last_epoch: int) -> tf.data.Dataset:
        return training_dataset(
            training.pixels, training.labels, config.image_size, batch_size=batch_size,
            seed=config.seed, first_epoch=first_epoch, last_epoch=last_epoch,
            drop_remainder=n_devices > 1,
        )  # fmt: skip

    validation_batches = validation_dataset(
        validation.pixels, validation.labels, batch_size=batch_size, n_replicas=n_devices
    )
    steps = steps_in_epoch(n, batch_size, drop_remainder=n_devices > 1)
    return PhaseInputs(model, training_batches, validation_batches, n, steps)


def make_cached_inputs(
    model: keras.Model, phase: str, config: TrainingConfig, training: Subset, validation: Subset,
    directory: Path, progress: dict[str, Callable[[int, int], None]],
) -> PhaseInputs | None:  # fmt: skip
    """Compute the features of the frozen layers, and return them as inputs of the other layers.

    `progress` contains functions of (images done, all images) for 'training' and 'validation'. The
    result is None if the phase has no frozen layers with a single output.

    Raises
    ------
    RunError
        The disk is too small.
    """
    halves = _cut(model, phase, config)
    if halves is None:
        return None
    n = len(training.labels)
    batch_size, n_devices = resolve_batch_size(config, n)
    bases = _bases(model, phase, config)
    start = time.monotonic()
    n_computed = 0

    def fill_cache(subset: Subset, name: str, n_copies: int) -> CachedFeatures:
        def report_progress(done: int, total: int) -> None:
            nonlocal n_computed
            n_computed += total if done == total else 0
            progress[name](done, total)

        source: Source = AugmentedImages(subset.pixels, config.image_size, config.seed)
        for base, dtype in bases:
            source = compute_features(
                base, source, n_copies=n_copies, batch_size=config.batch_size, dtype=dtype,
                directory=directory, extractor=_make_extractor(base, source.shape, config),
                progress=report_progress,
            )  # fmt: skip
        assert isinstance(source, CachedFeatures)
        return source

    training_features = fill_cache(training, "training", config.augmented_copies)
    validation_features = fill_cache(validation, "validation", 1)
    seconds_per_image = len(bases) * (time.monotonic() - start) / n_computed if n_computed else 0.0

    def training_batches(first_epoch: int, last_epoch: int) -> tf.data.Dataset:
        return training_features.training_dataset(
            training.labels, batch_size=batch_size, seed=config.seed, first_epoch=first_epoch,
            last_epoch=last_epoch, drop_remainder=n_devices > 1,
        )  # fmt: skip

    validation_batches = validation_features.validation_dataset(
        validation.labels, batch_size=batch_size, n_devices=n_devices
    )
    steps = steps_in_epoch(n, batch_size, drop_remainder=n_devices > 1)
    return PhaseInputs(halves[1], training_batches, validation_batches, n, steps, seconds_per_image)


def trained_model(model: keras.Model, phase: str, config: TrainingConfig) -> keras.Model:
    """Return the model that a phase trains: the tail with the cache, otherwise the classifier."""
    halves = _cut(model, phase, config) if config.cache_features else None
    return halves[1] if halves else model


def count_cache_bytes(
    model: keras.Model, config: TrainingConfig, n_training: int, n_validation: int
) -> int:
    """Return the size on disk of the cached features of both phases."""
    total = 0
    for phase, epochs in (("head", config.head_epochs), ("finetune", config.finetune_epochs)):
        halves = _cut(model, phase, config) if epochs else None
        if halves is not None:
            shape = compute_feature_shape(halves[0], (*config.image_size, 3))
            images = n_training * config.augmented_copies + n_validation
            total += count_bytes(images, 1, shape, STORED_DTYPE[phase])
    return total


def resolve_extractor_name(config: TrainingConfig) -> str:
    """Return the name of the extractor of a run on this machine."""
    # The activations of an untrained network have any size; bfloat16 changes them by up to 90 %.
    is_exact = config.from_scratch or config.deterministic
    return TENSORFLOW if is_exact else fastest_extractor_name()


def _bases(model: keras.Model, phase: str, config: TrainingConfig) -> list[tuple[keras.Model, str]]:
    """Return the frozen bases, from images to the inputs of a phase, each with its stored dtype."""
    halves = _cut(model, phase, config)
    assert halves is not None
    finetuning = _cut(model, "finetune", config) if config.finetune_epochs else None
    if phase == "finetune" or finetuning is None:
        return [(halves[0], STORED_DTYPE[phase])]
    # Pooled features are computed from the activations that fine-tuning needs, so that one pass
    # through the network serves both phases.
    bridge = make_bridge_to_pool(model, finetuning[0])
    return [(finetuning[0], STORED_DTYPE["finetune"]), (bridge, STORED_DTYPE["head"])]


def _cut(
    model: keras.Model, phase: str, config: TrainingConfig
) -> tuple[keras.Model, keras.Model] | None:
    if phase == "head":
        return cut_at_pool(model)
    return cut_before_block(model, config.resolved_unfreeze_from)


def _make_extractor(base: keras.Model, shape: tuple[int, ...], config: TrainingConfig) -> Extractor:
    if resolve_extractor_name(config) == TENSORFLOW:
        return make_tensorflow_extractor(base)
    return make_fastest_extractor(base, shape, config.resolved_threads)
