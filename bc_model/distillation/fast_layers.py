"""The same steps with quicker kernels on a processor, for TensorFlow alone.

Keras takes a batch normalisation apart into a dozen operations in float32, and an update of Adam
into as many; TensorFlow has each as one. oneDNN is slow at the gradient of a convolution's kernel
where pictures have become small, so that it is taken for what it is there: one product of matrices
(Chellapilla, Puri and Simard, "High performance convolutional neural networks for document
processing", IWFHR 2006). What that is worth: ``python -m benchmarks.box_step``.

Importing this loads Keras and TensorFlow.
"""

from __future__ import annotations

import random
from typing import Any

import keras
import tensorflow as tf

_WIDE = 256
"""Channels from which on a 3x3 kernel's gradient was quicker as one product, with AMX."""


def with_quick_layers(model: keras.Model) -> keras.Model:
    """Return a model of the same function, weights and names whose steps are quicker.

    Parameters
    ----------
    model : keras.Model
        As `learner.build_network` builds it: flat, channels last, neither groups nor dilation.
    """
    state = random.getstate()
    fast: keras.Model = keras.models.clone_model(model, clone_function=_quick)
    fast.set_weights(model.get_weights())
    # The copy drew seeds for weights that it has not kept: what is built next begins as without it.
    random.setstate(state)
    return fast


def _quick(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = type(layer)
    if kind is keras.layers.Conv2D:
        kind = QuickConv2D
    elif kind is keras.layers.BatchNormalization:
        kind = QuickBatchNormalization
    return kind.from_config(layer.get_config())


class QuickConv2D(keras.layers.Conv2D):
    """A convolution, channels last, without groups or dilation."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve as `keras.layers.Conv2D` does."""
        # Of a variable itself, a custom gradient would have to return the gradient as well.
        kernel = tf.convert_to_tensor(kernel)
        strides, padding = [1, *self.strides, 1], self.padding.upper()

        @tf.custom_gradient
        def convolved(x: tf.Tensor, k: tf.Tensor) -> Any:
            def gradients(of_result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                of_inputs = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(x), filter=k, out_backprop=of_result,
                    strides=strides, padding=padding,
                )  # fmt: skip
                return of_inputs, _of_kernel(x, of_result, k.shape, self.strides, padding)

            return tf.nn.conv2d(x, k, strides, padding), gradients

        return convolved(inputs, kernel)


def _of_kernel(
    x: tf.Tensor, of_result: tf.Tensor, shape: tf.TensorShape, strides: tuple[int, int],
    padding: str,
) -> tf.Tensor:  # fmt: skip
    """Return the gradient of a kernel of shape (height, width, channels in, channels out)."""
    height, width, channels, filters = shape
    if (height, width) == (1, 1):
        seen = x[:, :: strides[0], :: strides[1]]
    elif (height, width, *strides, padding) == (3, 3, 1, 1, "SAME") and channels >= _WIDE:
        padded, size = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), tf.shape(x)
        seen = tf.concat(
            [
                padded[:, row : row + size[1], column : column + size[2]]
                for row in range(3)
                for column in range(3)
            ],
            axis=-1,
        )
    else:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=shape, out_backprop=of_result, strides=[1, *strides, 1],
            padding=padding,
        )  # fmt: skip
    flat = tf.reshape(seen, [-1, height * width * channels])
    product = tf.matmul(flat, tf.reshape(of_result, [-1, filters]), transpose_a=True)
    return tf.reshape(product, shape)


class QuickBatchNormalization(keras.layers.BatchNormalization):
    """A batch normalisation of pictures, channels last.

    Its moving variance is that of a sample, n - 1 instead of n below the line.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise as `keras.layers.BatchNormalization` does."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        empty = tf.zeros([0])
        normalised, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=keras.ops.cast(self.gamma, "float32"),
            offset=keras.ops.cast(self.beta, "float32"), mean=empty, variance=empty,
            epsilon=self.epsilon, is_training=True,
        )  # fmt: skip
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        return normalised


class QuickAdamW(keras.optimizers.AdamW):
    """AdamW whose update is one pass over the weights."""

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
