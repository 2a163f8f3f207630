"""The table of backbones: adding a network is adding an entry here.

An entry says how to build the convolutional part, what its pixels must look like, and at which
blocks fine-tuning may begin. TensorFlow is imported when something is built, not before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bc_model.errors import SettingsError


@dataclass(frozen=True)
class Backbone:
    """One convolutional network.

    Attributes
    ----------
    name : str
    build : callable
        ``build(input_tensor, weights)`` returns a Keras model without its top, built around
        `input_tensor`, or an input like it, so that its layers lie flat in ours; `weights` is
        'imagenet' or None.
    preprocessing : {'caffe', 'scale', 'efficientnet'}
        'caffe': RGB to BGR, minus the ImageNet mean. 'scale': to [-1, 1]. 'efficientnet': the
        network normalises itself. Done inside the graph, exactly once.
    blocks : tuple of str
        Prefixes of layer names, from the input up, where fine-tuning may begin.
    default_block : str
        Where it begins when pretrained weights were loaded.
    weights_file : str
        What Keras calls the file of pretrained weights, empty when there is none.
    min_side_px : int
        Smallest input.
    gflop : float
        Work of one forward pass at 224x224, two operations a multiply-add, in 10^9; EfficientNet's
        is raised to what it costs beside the others: its layers wait for memory.
    """

    name: str
    build: Callable[[Any, str | None], Any]
    preprocessing: str
    blocks: tuple[str, ...]
    default_block: str
    weights_file: str = ""
    min_side_px: int = 32
    gflop: float = 1.0


def _resnet50(input_tensor: Any, weights: str | None) -> Any:
    from keras.applications import ResNet50

    return ResNet50(include_top=False, weights=weights, input_tensor=input_tensor)


def _efficientnetb0(input_tensor: Any, weights: str | None) -> Any:
    import keras
    from keras.applications import EfficientNetB0

    base = EfficientNetB0(include_top=False, weights=weights, input_tensor=input_tensor)
    if weights == "imagenet":
        return base

    # Keras divides the normalised input by sqrt(std) once more, but only in the network that it
    # loads 'imagenet' into itself. The same file loaded by its path needs the same network.
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling([std**-0.5 for std in (0.229, 0.224, 0.225)])(output)
        return output

    return keras.models.clone_model(base, call_function=call)


def _vgg16(input_tensor: Any, weights: str | None) -> Any:
    from keras.applications import VGG16

    return VGG16(include_top=False, weights=weights, input_tensor=input_tensor)


def _tiny(input_tensor: Any, weights: str | None) -> Any:
    import keras

    x = input_tensor
    for block, filters in enumerate((8, 16, 32), start=1):
        name = f"block{block}"
        x = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", use_bias=False, name=f"{name}_conv"
        )(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_out")(x)
    return keras.Model(_source(input_tensor), x, name="tiny")


def _source(tensor: Any) -> Any:
    from keras.utils import get_source_inputs

    return get_source_inputs(tensor)


BACKBONES: dict[str, Backbone] = {
    entry.name: entry
    for entry in (
        Backbone(
            "resnet50",
            _resnet50,
            "caffe",
            ("conv1", "conv2", "conv3", "conv4", "conv5"),
            "conv5",
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            gflop=7.7,
        ),
        Backbone(
            "efficientnetb0",
            _efficientnetb0,
            "efficientnet",
            ("stem", "block2", "block3", "block4", "block5", "block6", "block7"),
            "block6",
            "efficientnetb0_notop.h5",
            gflop=3.0,
        ),
        Backbone(
            "vgg16",
            _vgg16,
            "caffe",
            ("block1", "block2", "block3", "block4", "block5"),
            "block5",
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            gflop=30.7,
        ),
        # Three layers, for tests and for a dry run of a new data set. Never for results.
        Backbone("tiny", _tiny, "scale", ("block1", "block2", "block3"), "block3", gflop=0.02),
    )
}


def backbone(name: str) -> Backbone:
    """Look up an entry of the table.

    Raises
    ------
    SettingsError
        No such backbone; the message lists those there are.
    """
    if name not in BACKBONES:
        raise SettingsError(f"There is no backbone '{name}'; choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]
