"""Faster training layers and AdamW for TensorFlow on a processor. Importing this loads Keras.

Keras computes batch normalization and an Adam update in many operations; TensorFlow has one for
each. oneDNN is slow at the kernel gradient of convolutions on small images, so it is computed as
one matrix product [1]_. ``python -m benchmarks.distillation_step`` measures the effect.

.. [1] Chellapilla, Puri and Simard, "High performance convolutional neural networks for document
   processing", IWFHR 2006.
"""

from __future__ import annotations

import random
from typing import Any

from bc_model.utils.processor import require_tensorflow

require_tensorflow()  # Before the import, which ends the process on other processors.

# isort: split
import keras
import tensorflow as tf

_MIN_CHANNELS = 256
"""Input channels from which a matrix product was faster for 3x3 kernels, measured with AMX."""


def with_fast_layers(model: keras.Model) -> keras.Model:
    """Return a model with the same function, weights and names, and faster training steps.

    Parameters
    ----------
    model : keras.Model
        A flat model, channels last, without groups or dilation.
    """
    state = random.getstate()
    fast: keras.Model = keras.models.clone_model(model, clone_function=_clone_layer)
    fast.set_weights(model.get_weights())
    # The clone consumed random seeds. Later layers must start as if there was no clone.
    random.setstate(state)
    return fast


def _clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = type(layer)
    if kind is keras.layers.Conv2D:
        kind = FastConv2D
    elif kind is keras.layers.BatchNormalization:
        kind = FastBatchNormalization
    return kind.from_config(layer.get_config())


class FastConv2D(keras.layers.Conv2D):
    """A convolution, channels last, without groups or dilation."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve as `keras.layers.Conv2D` does."""
        # For a variable, a custom gradient would have to return the variable's gradient as well.
        kernel = tf.convert_to_tensor(kernel)
        strides, padding = [1, *self.strides, 1], self.padding.upper()

        @tf.custom_gradient
        def convolve(x: tf.Tensor, k: tf.Tensor) -> Any:
            def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                input_gradient = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(x), filter=k, out_backprop=upstream,
                    strides=strides, padding=padding,
                )  # fmt: skip
                return input_gradient, _kernel_gradient(x, upstream, k.shape, self.strides, padding)

            return tf.nn.conv2d(x, k, strides, padding), gradients

        return convolve(inputs, kernel)


def _kernel_gradient(
    x: tf.Tensor, upstream: tf.Tensor, shape: tf.TensorShape, strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:  # fmt: skip
    """Return the gradient of a kernel of shape (height, width, channels in, channels out)."""
    height, width, channels, filters = shape
    if (height, width) == (1, 1):
        patches = x[:, :: strides[0], :: strides[1]]
    elif (height, width, *strides, padding) == (3, 3, 1, 1, "SAME") and channels >= _MIN_CHANNELS:
        padded, size = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), tf.shape(x)
        offsets = [(row, column) for row in range(3) for column in range(3)]
        patches = tf.concat(
            [padded[:, row : row + size[1], column : column + size[2]] for row, column in offsets],
            axis=-1,
        )
    else:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=shape, out_backprop=upstream, strides=[1, *strides, 1],
            padding=padding,
        )  # fmt: skip
    flat = tf.reshape(patches, [-1, height * width * channels])
    product = tf.matmul(flat, tf.reshape(upstream, [-1, filters]), transpose_a=True)
    return tf.reshape(product, shape)


class FastBatchNormalization(keras.layers.BatchNormalization):
    """A batch normalization of images, channels last.

    Its moving variance is the sample variance, with n - 1 in the denominator.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize as `keras.layers.BatchNormalization` does."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        empty = tf.zeros([0])
        normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=keras.ops.cast(self.gamma, "float32"),
            offset=keras.ops.cast(self.beta, "float32"), mean=empty, variance=empty,
            epsilon=self.epsilon, is_training=True,
        )  # fmt: skip
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return normalized


class FastAdamW(keras.optimizers.AdamW):
    """AdamW with one operation per weight update."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable as `keras.optimizers.AdamW` does."""
        index = self._get_variable_index(variable)
        moments = (self._momentums[index].value, self._velocities[index].value)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=moments[0].handle, v=moments[1].handle,
            beta1_power=tf.pow(self.beta_1, step), beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32), beta1=self.beta_1, beta2=self.beta_2,
            epsilon=self.epsilon, grad=tf.cast(gradient, tf.float32),
        )  # fmt: skip
