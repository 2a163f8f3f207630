"""Grad-CAM from the last convolutional block (Selvaraju et al., ICCV 2017).

The map explains a *logit*: a softmax probability saturates and its gradient with it. Each channel
of the last block is weighted by the mean gradient of the logit with respect to it; the weighted
sum, cut at zero, is the map. `GradCAM` takes the gradient with TensorFlow and is the reference;
the serving engine has the same weights in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bc_model.data.names import CLASSES
from bc_model.data.pictures import field_box

if TYPE_CHECKING:
    import keras

_NOISE_FLOOR = 1e-6
"""Share of the summed magnitudes below which a positive remainder is float32 rounding."""


@dataclass(frozen=True)
class Heatmap:
    """The evidence for one class.

    Attributes
    ----------
    class_name : {'benign', 'malignant'}
    raw : ndarray of shape (map_height, map_width), float32
        Not negative, in units of the logit: its sum is what the positive regions add to it, to
        first order. All zero when nothing in the picture speaks for the class.
    """

    class_name: str
    raw: np.ndarray

    @property
    def maximum(self) -> float:
        """The largest value of `raw`."""
        return float(self.raw.max())

    @property
    def is_empty(self) -> bool:
        """True when there is no evidence for this class: the map must not be scaled or drawn."""
        return self.maximum == 0.0


def weigh_activations(activations: np.ndarray, channel_weights: np.ndarray) -> np.ndarray:
    """Sum the activation channels by their weights and keep what is positive.

    Parameters
    ----------
    activations : ndarray of shape (map_height, map_width, channels), float32
    channel_weights : ndarray of shape (channels,), float32
        Mean gradient of the logit with respect to each channel.

    Returns
    -------
    ndarray of shape (map_height, map_width), float32
        Exactly zero where the sum is no more than rounding noise, so that an empty map stays one.
    """
    # einsum and not `@`: see `serving/head.py` on BLAS's threads.
    total = np.einsum("hwc,c->hw", activations, channel_weights)
    magnitudes = np.einsum("hwc,c->hw", np.abs(activations), np.abs(channel_weights))
    magnitude = float(np.max(magnitudes, initial=0.0))
    return np.where(total > _NOISE_FLOOR * magnitude, total, 0.0).astype(np.float32)


def spread_over_picture(raw: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """Enlarge a map to a picture's own size, without rescaling its values.

    Parameters
    ----------
    raw : ndarray of shape (map_height, map_width), float32
    height_px, width_px : int
        Size of the picture as it was uploaded.

    Returns
    -------
    ndarray of shape (height_px, width_px), float32
        Zero outside the common field, which the network did not see.
    """
    top, left, height, width = field_box(height_px, width_px)
    spread = np.zeros((height_px, width_px), np.float32)
    field = cv2.resize(raw, (width, height), interpolation=cv2.INTER_CUBIC)
    # Cubic interpolation overshoots: a map must not exceed its own maximum or fall below zero.
    spread[top : top + height, left : left + width] = np.clip(field, 0.0, float(raw.max()))
    return spread


class GradCAM:
    """Grad-CAM by automatic differentiation, on a model as it was loaded from its file.

    Parameters
    ----------
    model : keras.Model
        Built by `bc_model.model.build_model`, in memory or reloaded.

    Raises
    ------
    ModelError
        The model has no layer 'pool' or 'logits'.
    """

    def __init__(self, model: keras.Model) -> None:
        import keras
        import tensorflow as tf

        from bc_model.model import last_conv_output, logits_output

        activations_of = keras.Model(model.inputs[0], last_conv_output(model))
        logits_of = keras.Model(last_conv_output(model), logits_output(model))

        @tf.function(reduce_retracing=True)
        def differentiate(pixels: tf.Tensor, class_index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            activations = activations_of(pixels, training=False)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(activations)
                logit = tf.gather(logits_of(activations, training=False), class_index, axis=1)
            return activations, tape.gradient(logit, activations)

        self._differentiate = differentiate

    def __call__(self, pixels: np.ndarray, class_name: str) -> list[Heatmap]:
        """Explain the logit of a class for each picture.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8 or float32
            RGB in [0, 255], at the model's input size.
        class_name : {'benign', 'malignant'}

        Returns
        -------
        list of Heatmap
        """
        import tensorflow as tf

        index = tf.constant(CLASSES.index(class_name))
        batch = tf.convert_to_tensor(pixels, tf.float32)
        activations, gradients = (part.numpy() for part in self._differentiate(batch, index))
        channel_weights = gradients.mean(axis=(1, 2))
        return [
            Heatmap(class_name, weigh_activations(one, weights))
            for one, weights in zip(activations, channel_weights, strict=True)
        ]
