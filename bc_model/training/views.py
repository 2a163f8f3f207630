"""A fixed number of views of each picture, so that what a frozen network sees can be computed once.

View 0 is the picture itself. Every other view is one draw of the augmentation, and follows from
(seed, view, position of the picture): the same call gives the same pictures on another day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.data.pipeline import augment

if TYPE_CHECKING:
    import tensorflow as tf

VIEW_SCHEME = 1
"""Raised whenever a view of the same number would become another picture."""


@dataclass(frozen=True)
class PictureViews:
    """Pictures as a source of views for `cache.compute`.

    Attributes
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
        As `view_dataset` takes them.
    image_size : (int, int)
    seed : int
        Of the views.
    """

    pixels: np.ndarray
    image_size: tuple[int, int]
    seed: int

    @property
    def n(self) -> int:
        """How many pictures."""
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view of one picture."""
        return (*self.image_size, 3)

    def identity(self) -> dict[str, Any]:
        """Return all that the views depend on."""
        content = np.ascontiguousarray(self.pixels).reshape(-1).data
        return {
            "pixels": [hashlib.sha256(content).hexdigest(), list(self.pixels.shape)],
            "image_size": list(self.image_size),
            "views": [VIEW_SCHEME, self.seed],
        }

    def batches(self, view: int, batch_size: int) -> Iterator[np.ndarray]:
        """Return a view of every picture, in order, float32 in [0, 255]."""
        return view_dataset(
            self.pixels, self.image_size, view=view, seed=self.seed, batch_size=batch_size
        ).as_numpy_iterator()


def view_dataset(
    pixels: np.ndarray, image_size: tuple[int, int], *, view: int, seed: int, batch_size: int
) -> tf.data.Dataset:
    """Make the batches of one view of every picture, in order.

    Parameters
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
        For training at `training_size(image_size)`; at `image_size` view 0 is the pixels' values.
    image_size : (int, int)
    view : int
        0 for the picture as it is, only resized; 1 and above for one augmentation each.
    seed : int
        Not negative, below 2**31; view 0 does not depend on it.
    batch_size : int

    Returns
    -------
    tf.data.Dataset
        Pictures (b, *image_size, 3) float32 in [0, 255].
    """
    import tensorflow as tf

    def read(position: np.ndarray) -> np.ndarray:
        return pixels[position]

    def example(position: tf.Tensor) -> tf.Tensor:
        # The pictures stay where they are: as a tensor they would be held two or three times.
        picture = tf.numpy_function(read, [position], tf.uint8, stateful=False)
        picture = tf.ensure_shape(picture, pixels.shape[1:])
        if view == 0:
            # Not divided by 255 and back, as `augment` must: so that no value is rounded.
            return tf.image.resize(tf.cast(picture, tf.float32), image_size)
        # Positions of `training_dataset` are not negative; these are, so no draw is ever shared.
        return augment(picture, image_size, tf.stack([seed * 1_000_003 + view, -1 - position]))

    positions = tf.data.Dataset.range(len(pixels))
    pictures = positions.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return pictures.batch(batch_size).prefetch(2)
