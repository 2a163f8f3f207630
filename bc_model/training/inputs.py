"""What a phase is fed with: pictures, or what the frozen layers made of them.

A frozen layer computes the same of the same picture in every epoch. So it is computed once for a
fixed number of augmented views, kept on disk, and only the layers that learn are run: the head on
pooled features in phase one, the last blocks on the activations before them in phase two. Where
everything learns there is nothing to keep, and pictures are fed as usual.
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
    CachedViews,
    ImageViews,
    Source,
    compute,
    feature_shape,
    needed_bytes,
)
from bc_model.training.feature_extraction import (
    TENSORFLOW,
    Extractor,
    cut_at_pool,
    cut_before,
    fast_base,
    fastest_name,
    from_there_to_pool,
    tensorflow_base,
)

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from bc_model.training.config import TrainingConfig

STORED = {"head": "float32", "finetune": "bfloat16"}
"""Pooled features are small; activations are a thousand times larger and kept in half the bytes."""


@dataclass(frozen=True)
class Subset:
    """Pictures of one part of the split, in memory.

    Attributes
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
    labels : ndarray of shape (n, 2), float32
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Feed:
    """A model to fit and what to fit it with.

    Attributes
    ----------
    fitted : keras.Model
        The classifier, or the part of it that learns, made of the same layers.
    training : callable
        ``training(first_epoch, last_epoch)`` returns the batches of these epochs.
    validation : tf.data.Dataset
    n_training, steps : int
        Pictures and batches in an epoch.
    seconds_a_image : float
        Of one forward pass, as measured; 0 when nothing was computed.
    """

    fitted: keras.Model
    training: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    n_training: int
    steps: int
    seconds_a_image: float = 0.0


def plain_feed(
    model: keras.Model, config: TrainingConfig, training: Subset, validation: Subset
) -> Feed:
    """Feed augmented pictures to the whole classifier."""
    size, proportions = resolve_batch_size(config, len(training.labels))

    def batches(first_epoch: int, last_epoch: int) -> tf.data.Dataset:
        return training_dataset(
            training.pixels,
            training.labels,
            config.image_size,
            batch_size=size,
            seed=config.seed,
            first_epoch=first_epoch,
            last_epoch=last_epoch,
            drop_remainder=proportions > 1,
        )

    held_out = validation_dataset(
        validation.pixels, validation.labels, batch_size=size, n_replicas=proportions
    )
    n = len(training.labels)
    return Feed(
        model, batches, held_out, n, steps_in_epoch(n, size, drop_remainder=proportions > 1)
    )


def cached_feed(
    model: keras.Model,
    phase: str,
    config: TrainingConfig,
    training: Subset,
    validation: Subset,
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> Feed | None:
    """Compute what is frozen in a phase, once, and feed the rest from it.

    Parameters
    ----------
    model : keras.Model
    phase : {'head', 'finetune'}
    settings : TrainingConfig
    training, validation : Part
    folder : Path
        Where the features are kept.
    progress : callable
        Told (part, pictures done, pictures in all); may raise to end.

    Returns
    -------
    Feed or None
        None when nothing is frozen that could be kept.

    Raises
    ------
    RunError
        The disk has no room.
    """
    halves = _cut(model, phase, config)
    if halves is None:
        return None
    size, proportions = resolve_batch_size(config, len(training.labels))
    n = len(training.labels)
    began = time.monotonic()
    computed = 0

    def store(subset: Subset, name: str, views: int) -> CachedViews:
        def tell(done: int, total: int) -> None:
            nonlocal computed
            computed += total if done == total else 0
            progress(name, done, total)

        source: Source = ImageViews(subset.pixels, config.image_size, config.seed)
        for base, dtype in steps:
            source = compute(
                base,
                source,
                views=views,
                batch_size=config.batch_size,
                dtype=dtype,
                folder=folder,
                extract=_extractor(base, source.shape, config),
                progress=tell,
            )
        assert isinstance(source, CachedViews)
        return source

    steps = _steps(model, phase, config)
    kept = store(training, "training", config.augmented_copies)
    held_out = store(validation, "validation", 1)
    return Feed(
        halves[1],
        lambda first, last: kept.training_dataset(
            training.labels,
            batch_size=size,
            seed=config.seed,
            first_epoch=first,
            last_epoch=last,
            drop_remainder=proportions > 1,
        ),
        held_out.plain(validation.labels, batch_size=size, proportions=proportions),
        n,
        steps_in_epoch(n, size, drop_remainder=proportions > 1),
        len(steps) * (time.monotonic() - began) / computed if computed else 0.0,
    )


def fitted_subset(model: keras.Model, phase: str, config: TrainingConfig) -> keras.Model:
    """Return what is fitted in a phase, without anything to feed it with."""
    halves = _cut(model, phase, config) if config.cache_features else None
    return halves[1] if halves else model


def cache_bytes(
    model: keras.Model, config: TrainingConfig, n_training: int, n_validation: int
) -> int:
    """Return how much disk the features of both phases will take."""
    total = 0
    for phase, epochs in (("head", config.head_epochs), ("finetune", config.finetune_epochs)):
        halves = _cut(model, phase, config) if epochs else None
        if halves is not None:
            shape = feature_shape(halves[0], (*config.image_size, 3))
            images = n_training * config.augmented_copies + n_validation
            total += needed_bytes(images, 1, shape, STORED[phase])
    return total


def _steps(model: keras.Model, phase: str, config: TrainingConfig) -> list[tuple[keras.Model, str]]:
    """Return the bases from the pictures to what a phase is fed with, and how each is kept.

    Phase two begins at activations on the way to the pooled features of phase one. So they are kept
    on that way, and one pass through the network serves both phases.
    """
    halves = _cut(model, phase, config)
    assert halves is not None
    later = _cut(model, "finetune", config) if config.finetune_epochs else None
    if phase == "finetune" or later is None:
        return [(halves[0], STORED[phase])]
    return [(later[0], STORED["finetune"]), (from_there_to_pool(model, later[0]), STORED["head"])]


def _cut(
    model: keras.Model, phase: str, config: TrainingConfig
) -> tuple[keras.Model, keras.Model] | None:
    if phase == "head":
        return cut_at_pool(model)
    return cut_before(model, config.resolved_unfreeze_from)


def extractor_name(config: TrainingConfig) -> str:
    """Return by what the frozen layers of a run are computed on this machine."""
    # An untrained network has activations of any size: bfloat16 moved them by up to nine tenths.
    exact = config.from_scratch or config.deterministic
    return TENSORFLOW if exact else fastest_name()


def _extractor(base: keras.Model, shape: tuple[int, ...], config: TrainingConfig) -> Extractor:
    if extractor_name(config) == TENSORFLOW:
        return tensorflow_base(base)
    return fast_base(base, shape, config.resolved_threads)
