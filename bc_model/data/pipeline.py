"""Image batches for training: images are decoded once, then augmented in tf.data.

All random numbers of an augmented image follow from the seed, the epoch and the position, so a run
can be repeated, and resumed in the middle, with the same images in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.data.images import Decode, decode_image, preprocess_image, read_image
from bc_model.utils.processor import require_tensorflow, usable_cores

if TYPE_CHECKING:
    import tensorflow as tf

CROP_MARGIN = 1.25
"""Ratio of the stored training images to the model input, so that crops lose no detail."""
MIN_CROP_PROPORTION = 0.8
HUE_SHIFT = 0.03
SATURATION_RANGE = (0.75, 1.3)
BRIGHTNESS_SHIFT = 0.1


def load_pixels(
    root: Path,
    paths: Sequence[str],
    image_size: tuple[int, int],
    *,
    progress: Callable[[int, int], None] | None = None,
    decode: Decode = decode_image,
) -> np.ndarray:
    """Return the preprocessed images of a dataset, of shape (n, *image_size, 3), uint8.

    `paths` are relative to `root`, and `image_size` is the height and width of the model input, px.
    `progress` is called with the number of finished images and of all images. `decode` is that of
    `read_image`.
    """

    def read(path: str) -> np.ndarray:
        return preprocess_image(read_image(root / path, decode=decode), image_size)

    pixels = np.empty((len(paths), *image_size, 3), np.uint8)
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for i, image in enumerate(pool.map(read, paths)):
            pixels[i] = image
            if progress:
                progress(i + 1, len(paths))
    return pixels


def training_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of stored training images for a model input size, px."""
    return round(image_size[0] * CROP_MARGIN), round(image_size[1] * CROP_MARGIN)


def one_hot(classes: Iterable[str]) -> np.ndarray:
    """Return class names as one-hot rows, float32, in the order of `CLASSES`.

    Examples
    --------
    >>> one_hot(["malignant", "benign"])
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    return np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(name) for name in classes]]


def class_weights(labels: np.ndarray) -> dict[int, float]:
    """Return the weight of each class that balances the classes in the loss.

    The weight is n / (number of classes * number of images of the class), with a mean of 1.

    Parameters
    ----------
    labels : ndarray of shape (n, n_classes)
        One-hot labels with at least one image of each class.

    Examples
    --------
    >>> class_weights(one_hot(["benign", "benign", "malignant", "malignant"]))
    {0: 1.0, 1: 1.0}
    """
    counts = labels.sum(axis=0)
    return {i: float(len(labels) / (len(counts) * count)) for i, count in enumerate(counts)}


def shuffle_epochs(n: int, *, seed: int, first_epoch: int, last_epoch: int) -> np.ndarray:
    """Return the order of `n` images in each epoch, of shape (last_epoch - first_epoch, n)."""
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
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Return the shuffled and augmented batches of several epochs.

    `pixels` has the shape (n, *training_size(image_size), 3), uint8, and `labels` (n, 2), float32.
    The batches contain images of shape (b, *image_size, 3), float32, 0 to 255, and labels (b, 2).
    Epochs count over the run, and `last_epoch` is not included.
    """
    require_tensorflow()
    import tensorflow as tf

    orders = shuffle_epochs(len(pixels), seed=seed, first_epoch=first_epoch, last_epoch=last_epoch)

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return pixels[index], labels[index]

    def load_example(epoch: tf.Tensor, position: tf.Tensor, index: tf.Tensor) -> tuple:
        # As a tensor, the images would be in memory two or three times.
        image, label = tf.numpy_function(read, [index], (tf.uint8, tf.float32), stateful=False)
        image = tf.ensure_shape(image, pixels.shape[1:])
        image = augment(image, image_size, tf.stack([seed * 1_000_003 + epoch, position]))
        return image, tf.ensure_shape(label, labels.shape[1:])

    def load_epoch(number: tf.Tensor, order: tf.Tensor) -> tf.data.Dataset:
        examples = tf.data.Dataset.from_tensor_slices(order).enumerate()
        examples = examples.map(
            lambda position, index: load_example(number + first_epoch, position, index),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return examples.batch(batch_size, drop_remainder=drop_remainder)

    epochs = tf.data.Dataset.from_tensor_slices(orders).enumerate()
    return epochs.flat_map(load_epoch).prefetch(2)


def steps_in_epoch(n: int, batch_size: int, *, drop_remainder: bool = False) -> int:
    """Return the number of batches of `training_dataset` for `n` images in an epoch."""
    return n // batch_size if drop_remainder else -(-n // batch_size)


def validation_dataset(
    pixels: np.ndarray, labels: np.ndarray, *, batch_size: int, n_replicas: int = 1
) -> tf.data.Dataset:
    """Return batches in order, without augmentation, with balanced class weights.

    The few validation cases rarely have the class proportions of training. Without weights, the
    loss would select the epoch that predicts the majority class. Batches contain images, float32,
    labels and weights. `n_replicas` devices share each batch; see `validation_order`.
    """
    require_tensorflow()
    import tensorflow as tf

    index, weights, batch_size = validation_order(labels, batch_size, n_replicas)
    if len(index) > len(labels):
        pixels, labels = pixels[index], labels[index]
    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels, weights)).batch(batch_size)
    return dataset.map(lambda x, *rest: (tf.cast(x, tf.float32), *rest)).prefetch(2)


def validation_order(
    labels: np.ndarray, batch_size: int, n_replicas: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the order of the validation images, their weights, and the batch size.

    Every device needs images in every batch, else the loss is NaN. Therefore several devices get a
    smaller batch size with a small remainder, and the first images fill the last batch with a
    weight of 0. The loss is exact; the unweighted accuracy counts these images twice.
    """
    n = len(labels)
    weights = np.array(list(class_weights(labels).values()), np.float32)[labels.argmax(axis=1)]
    if n_replicas == 1:
        return np.arange(n), weights, batch_size
    largest, smallest = batch_size - batch_size % n_replicas, max(n_replicas, batch_size // 2)
    size = min(range(largest, smallest - 1, -n_replicas), key=lambda size: -n % size)
    n_filled = -n % size
    weights = np.concatenate([weights * ((n + n_filled) / n), np.zeros(n_filled)])
    return np.resize(np.arange(n), n + n_filled), weights.astype(np.float32), size


def augment(image: tf.Tensor, image_size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    """Return an image with a random rotation, flip, crop and color, as float32 from 0 to 255.

    Quarter turns and flips keep the tissue unchanged. Hue, saturation and brightness imitate
    stains and scanners. Equal seeds (shape (2,), int64) give equal images.
    """
    import tensorflow as tf

    random = tf.random.stateless_uniform((8,), seed)
    x = tf.cast(image, tf.float32) / 255.0
    x = tf.image.rot90(x, tf.cast(random[0] * 4.0, tf.int32))
    x = tf.cond(random[1] < 0.5, lambda: tf.image.flip_left_right(x), lambda: x)
    proportion = MIN_CROP_PROPORTION + random[2] * (1.0 - MIN_CROP_PROPORTION)
    size = tf.cast(tf.shape(x)[:2], tf.float32)
    extent = tf.cast(tf.round(size * proportion), tf.int32)
    room = size - tf.cast(extent, tf.float32) + 0.999
    corner = tf.cast(tf.floor(room * random[3:5]), tf.int32)
    x = tf.slice(x, tf.concat([corner, [0]], 0), tf.concat([extent, [3]], 0))
    x = tf.image.resize(x, image_size)
    x = tf.image.adjust_hue(x, (random[5] * 2.0 - 1.0) * HUE_SHIFT)
    low, high = SATURATION_RANGE
    x = tf.image.adjust_saturation(x, low + random[6] * (high - low))
    x = x + (random[7] * 2.0 - 1.0) * BRIGHTNESS_SHIFT
    return tf.ensure_shape(tf.clip_by_value(x, 0.0, 1.0) * 255.0, (*image_size, 3))
