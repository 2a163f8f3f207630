"""Pictures to batches: loaded once through the serving road, augmented in tf.data.

Every random number of an augmented picture follows from (seed, epoch, position), so a run can be
repeated, and continued in the middle, with the same pictures in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.data.images import preprocess_image, read_image

if TYPE_CHECKING:
    import tensorflow as tf

CROP_MARGIN = 1.25
"""Training pictures are kept this much larger than the input, so that crops lose no detail."""
SMALLEST_CROP = 0.8
HUE_SHIFT = 0.03
SATURATION_RANGE = (0.75, 1.3)
BRIGHTNESS_SHIFT = 0.1


def load_pixels(
    root: Path,
    paths: Sequence[str],
    image_size: tuple[int, int],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Read pictures as the network sees them.

    Parameters
    ----------
    root : Path
    paths : sequence of str
        Relative to `root`, as in a manifest.
    image_size : (int, int)
        Height and width, px.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Returns
    -------
    ndarray of shape (n, *image_size, 3), uint8

    Raises
    ------
    ImageError
        A picture cannot be read any more.
    """
    pixels = np.empty((len(paths), *image_size, 3), np.uint8)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        inputs = pool.map(lambda path: preprocess_image(read_image(root / path), image_size), paths)
        for i, image in enumerate(inputs):
            pixels[i] = image
            if progress:
                progress(i + 1, len(paths))
    return pixels


def training_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the size at which training pictures are kept, px."""
    return round(image_size[0] * CROP_MARGIN), round(image_size[1] * CROP_MARGIN)


def one_hot(classes: Iterable[str]) -> np.ndarray:
    """Encode class names as float32 rows in the order of `CLASSES`."""
    return np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(name) for name in classes]]


def epoch_orders(n: int, *, seed: int, first_epoch: int, last_epoch: int) -> np.ndarray:
    """Shuffle the pictures anew for each epoch, each epoch by its own seed.

    Returns
    -------
    ndarray of shape (last_epoch - first_epoch, n), int64
    """
    epochs = range(first_epoch, last_epoch)
    orders = [np.random.default_rng([seed, epoch]).permutation(n) for epoch in epochs]
    return np.array(orders, np.int64).reshape(len(epochs), n)


def training_dataset(
    pixels: np.ndarray,
    labels: np.ndarray,
    image_size: tuple[int, int],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
    whole_batches: bool = False,
) -> tf.data.Dataset:
    """Make the batches of several epochs, shuffled and augmented.

    Parameters
    ----------
    pixels : ndarray of shape (n, *training_size(image_size), 3), uint8
    labels : ndarray of shape (n, 2), float32
    image_size : (int, int)
    batch_size, seed : int
    first_epoch, last_epoch : int
        Counted over the whole run, not within a phase; `last_epoch` is not included.
    whole_batches : bool
        Leave out an epoch's last batch when it is smaller; other pictures in every epoch.

    Returns
    -------
    tf.data.Dataset
        Pictures (b, *image_size, 3) float32 in [0, 255], labels (b, 2); each epoch has
        `steps_in_epoch` batches.
    """
    import tensorflow as tf

    orders = epoch_orders(len(pixels), seed=seed, first_epoch=first_epoch, last_epoch=last_epoch)

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return pixels[index], labels[index]

    def example(epoch: tf.Tensor, position: tf.Tensor, index: tf.Tensor) -> tuple:
        # The pictures stay where they are: as a tensor they would be held two or three times.
        image, truth = tf.numpy_function(read, [index], (tf.uint8, tf.float32), stateful=False)
        image = tf.ensure_shape(image, pixels.shape[1:])
        image = augment(image, image_size, tf.stack([seed * 1_000_003 + epoch, position]))
        return image, tf.ensure_shape(truth, labels.shape[1:])

    def one_epoch(number: tf.Tensor, order: tf.Tensor) -> tf.data.Dataset:
        examples = tf.data.Dataset.from_tensor_slices(order).enumerate()
        examples = examples.map(
            lambda position, index: example(number + first_epoch, position, index),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return examples.batch(batch_size, drop_remainder=whole_batches)

    epochs = tf.data.Dataset.from_tensor_slices(orders).enumerate()
    return epochs.flat_map(one_epoch).prefetch(2)


def steps_in_epoch(n: int, batch_size: int, *, whole_batches: bool = False) -> int:
    """Return how many batches `training_dataset` makes of `n` pictures in an epoch."""
    return n // batch_size if whole_batches else -(-n // batch_size)


def validation_dataset(
    pixels: np.ndarray, labels: np.ndarray, *, batch_size: int, proportions: int = 1
) -> tf.data.Dataset:
    """Make batches in order, without augmentation, each class weighing the same.

    The few cases of a validation part seldom hold both classes in the share of the training part.
    Unweighted, its loss would choose the epoch that calls everything by the commoner class.

    Parameters
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
    labels : ndarray of shape (n, 2), float32
    batch_size : int
    shares : int
        Devices among which each batch is divided; see `validation_order`.

    Returns
    -------
    tf.data.Dataset
        Pictures (b, height, width, 3) float32, labels (b, 2), weights (b,).
    """
    import tensorflow as tf

    index, weights, batch_size = validation_order(labels, batch_size, proportions)
    if len(index) > len(labels):
        pixels, labels = pixels[index], labels[index]
    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels, weights)).batch(batch_size)
    return dataset.map(lambda x, *rest: (tf.cast(x, tf.float32), *rest)).prefetch(2)


def validation_order(
    labels: np.ndarray, batch_size: int, proportions: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return in which order pictures are validated, their weights, and the size of a batch.

    One device takes them as they are. Several devices must all get a share of every batch: none
    means NaN or a crash. So the batch is made a little smaller until few pictures are missing from
    the last one, and the first pictures come once more to fill it, without weight: the loss is that
    of the pictures alone; the accuracy, not weighted, counts those few twice.

    Parameters
    ----------
    labels : ndarray of shape (n, 2)
    batch_size : int
        At most.
    shares : int

    Returns
    -------
    index : ndarray of int64
    weights : ndarray of float32
        As long; their sum over the pictures, divided by the length, is 1.
    batch_size : int
    """
    n = len(labels)
    weights = np.array(list(class_weights(labels).values()), np.float32)[labels.argmax(axis=1)]
    if proportions == 1:
        return np.arange(n), weights, batch_size
    sizes = range(
        batch_size - batch_size % proportions, max(proportions, batch_size // 2) - 1, -proportions
    )
    size = min(sizes, key=lambda one: -n % one)
    more = -n % size
    weights = np.concatenate([weights * ((n + more) / n), np.zeros(more)]).astype(np.float32)
    return np.resize(np.arange(n), n + more), weights, size


def class_weights(labels: np.ndarray) -> dict[int, float]:
    """Weigh each class by the inverse of its share, so that all count the same in the loss.

    Parameters
    ----------
    labels : ndarray of shape (n, classes)
        One-hot; every class present.

    Returns
    -------
    dict from class index to weight
        n / (classes * n_class): the mean weight over the pictures is 1.
    """
    counts = labels.sum(axis=0)
    return {i: float(len(labels) / (len(counts) * count)) for i, count in enumerate(counts)}


def augment(image: tf.Tensor, image_size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """Turn, flip, crop and tint one picture.

    Quarter turns and flips keep tissue as it is: histology has no up. (A turned picture of another
    shape than the input is stretched a little differently than an upright one.) Hue, saturation
    and brightness stand for stains and scanners.

    Parameters
    ----------
    picture : Tensor of shape (height, width, 3), uint8
    image_size : (int, int)
    seed : Tensor of shape (2,), int64
        Equal seeds give equal pictures.

    Returns
    -------
    Tensor of shape (*image_size, 3), float32
        In [0, 255].
    """
    import tensorflow as tf

    draws = tf.random.stateless_uniform((8,), seed)
    x = tf.cast(image, tf.float32) / 255.0
    x = tf.image.rot90(x, tf.cast(draws[0] * 4.0, tf.int32))
    x = tf.cond(draws[1] < 0.5, lambda: tf.image.flip_left_right(x), lambda: x)
    proportion = SMALLEST_CROP + draws[2] * (1.0 - SMALLEST_CROP)
    size = tf.cast(tf.shape(x)[:2], tf.float32)
    extent = tf.cast(tf.round(size * proportion), tf.int32)
    room = size - tf.cast(extent, tf.float32) + 0.999
    corner = tf.cast(tf.floor(room * draws[3:5]), tf.int32)
    x = tf.slice(x, tf.concat([corner, [0]], 0), tf.concat([extent, [3]], 0))
    x = tf.image.resize(x, image_size)
    x = tf.image.adjust_hue(x, (draws[5] * 2.0 - 1.0) * HUE_SHIFT)
    low, high = SATURATION_RANGE
    x = tf.image.adjust_saturation(x, low + draws[6] * (high - low))
    x = x + (draws[7] * 2.0 - 1.0) * BRIGHTNESS_SHIFT
    return tf.ensure_shape(tf.clip_by_value(x, 0.0, 1.0) * 255.0, (*image_size, 3))
