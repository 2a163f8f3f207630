"""A small residual network that stands for ResNet50 where many must be learned.

A quarter of ResNet50's width and nine bottleneck blocks instead of sixteen (He et al., "Deep
residual learning for image recognition", CVPR 2016). Importing this loads Keras.
"""

from __future__ import annotations

import keras

from bc_model.bundled.recipe import PROBE, Recipe
from bc_model.data.names import CLASSES
from bc_model.model import SCRATCH_BN_MOMENTUM

_WIDTH = 16
_STAGES = ((1, 2), (2, 2), (4, 3), (8, 2))
"""Multiple of the width and number of blocks."""


def build_probe(recipe: Recipe, image_size: tuple[int, int] | None) -> keras.Model:
    """Build it with random weights; inputs, outputs and names are those of `build_model`."""
    picture = keras.Input((*(image_size or (None, None)), 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2)(picture)
    x = _convolved(x, _WIDTH, 7, 2, "stem")
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, (multiple, blocks) in enumerate(_STAGES):
        for block in range(blocks):
            halved = block == 0 and stage > 0
            x = _bottleneck(x, _WIDTH * multiple, 2 if halved else 1, f"stage{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(recipe.hidden_units, activation="relu", name="dense_1")(x)
    x = keras.layers.Dense(len(CLASSES), name="logits")(x)
    x = keras.layers.Activation("softmax", name="probabilities")(x)
    return keras.Model(picture, x, name=PROBE)


def _bottleneck(x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    inner = keras.layers.Activation("relu")(_convolved(x, width, 1, stride, f"{name}_1"))
    inner = keras.layers.Activation("relu")(_convolved(inner, width, 3, 1, f"{name}_2"))
    inner = _convolved(inner, 4 * width, 1, 1, f"{name}_3")
    if stride != 1 or x.shape[-1] != 4 * width:
        x = _convolved(x, 4 * width, 1, stride, f"{name}_0")
    return keras.layers.Activation("relu")(keras.layers.Add()([x, inner]))


def _convolved(
    x: keras.KerasTensor, filters: int, side: int, stride: int, name: str
) -> keras.KerasTensor:
    convolution = keras.layers.Conv2D(
        filters, side, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )
    return keras.layers.BatchNormalization(momentum=SCRATCH_BN_MOMENTUM, name=f"{name}_bn")(
        convolution(x)
    )
