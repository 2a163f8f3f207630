"""Build the network: a convolutional backbone, global average pooling and a small dense head.

The layers of the backbone are layers of the model itself and not of a nested model, so Grad-CAM,
freezing and export find them by name. Importing this module does not load TensorFlow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.errors import ConfigError, DataError, ModelError, WeightsError
from bc_model.utils.arrays import open_weights
from bc_model.utils.io import describe_error, open_regular
from bc_model.utils.processor import require_tensorflow

if TYPE_CHECKING:
    import keras

NAMED_WEIGHTS = ("imagenet", "none", "bundled")
"""Names of initial weights. `bc_model.training.initial_weights` resolves 'bundled'."""

SCRATCH_BN_MOMENTUM = 0.9
"""Batch-norm momentum for training from scratch.

A small dataset has few steps per epoch, so with 0.99 the statistics lag far behind the weights.
"""

HEAD_NEGATIVE_SLOPE = 0.1
"""Slope of the dense layers of the head for negative inputs.

With ReLU, every unit of a layer can be off for unusual images, and the answer is then the constant
of the last bias.
"""

_FIRST_BYTES = {".h5": b"\x89HDF\r\n\x1a\n", ".keras": b"PK\x03\x04"}
_MAX_HEAD_BYTES = 256 * 2**20
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Backbone:
    """One convolutional network that `build_model` can use.

    Attributes
    ----------
    build : callable
        ``build(input_tensor, 'imagenet' or None)`` returns a Keras model without its top layers.
    preprocessing : {'caffe', 'scale', 'efficientnet'}
        'caffe' converts RGB to BGR and subtracts the ImageNet mean. 'scale' maps to [-1, 1].
        'efficientnet' leaves the pixels unchanged, because the network normalizes them itself.
    blocks : tuple of str
        Prefixes of layer names, from input to output, at which fine-tuning can start.
    default_block : str
        Start of fine-tuning for pretrained weights.
    weights_file : str
        Keras's name for the file of ImageNet weights; empty if there is none.
    gflop : float
        Cost of a forward pass at 224x224 in 10^9 operations, two per multiply-add. The value of
        EfficientNetB0 is higher than its operations, because its layers are bound by memory.
    stride_px : int
        Distance between the centers of two cells of the last activations, in input pixels.
    stride_padding : {'centered', 'pooling', 'same'}
        How each layer of stride 2 is padded, which decides where its first cell is centered:
        'centered' at pixel 0 of its input, 'pooling' at 0.5 (2x2 without padding), and 'same' at 1
        if the side of its input is even and at 0 if it is odd.
    """

    name: str
    build: Callable[[Any, str | None], Any]
    preprocessing: str
    blocks: tuple[str, ...]
    default_block: str
    weights_file: str = ""
    min_side_px: int = 32
    gflop: float = 1.0
    stride_px: int = 32
    stride_padding: str = "centered"

    def first_cell_px(self, side_px: int) -> float:
        """Return the center of the first cell of the last activations, in input pixels.

        The center of pixel 0 is 0, and cell i is centered at ``first_cell_px + stride_px * i``.
        With the padding 'same', the center depends on the side of the input.

        Examples
        --------
        >>> [get_backbone(name).first_cell_px(224) for name in ("resnet50", "vgg16")]
        [0.0, 15.5]
        >>> [get_backbone("efficientnetb0").first_cell_px(side) for side in (224, 240)]
        [31.0, 15.0]
        """
        center, scale, side = 0.0, 1, side_px
        while scale < self.stride_px:
            shift = {"centered": 0.0, "pooling": 0.5, "same": 1.0 - side % 2}[self.stride_padding]
            center += scale * shift
            scale, side = 2 * scale, -(-side // 2)
        return center


def build_model(
    name: str = "resnet50",
    *,
    weights: str | Path | keras.Model = "none",
    image_size: tuple[int, int] | None = (224, 224),
    dense_units: tuple[int, ...] = (256,),
    dropout: float = 0.3,
    head_negative_slope: float = HEAD_NEGATIVE_SLOPE,
) -> keras.Model:
    """Build a convolutional network for two classes.

    Parameters
    ----------
    name : {'resnet50', 'efficientnetb0', 'vgg16', 'tiny'}
        Name of the backbone.
    weights : str, Path or keras.Model
        Initial weights of the backbone: 'imagenet' (Keras downloads and verifies the file), 'none'
        (random), the path of a ``.h5``, ``.weights.h5`` or ``.keras`` file that Keras wrote, or a
        model with the same backbone. The head always starts with random weights.
    image_size : (int, int) or None
        Height and width of the input in pixels. With None the model accepts any size.
    dense_units : tuple of int
        Number of units of each dense layer between pooling and logits; may be empty.
    dropout : float
        Dropout rate in [0, 1) before each dense layer and before the logits.
    head_negative_slope : float
        Slope in [0, 1) of the leaky ReLU of the dense layers; 0 is ReLU.

    Returns
    -------
    keras.Model
        Input of shape (n, height, width, 3), float32, RGB in [0, 255], not scaled, because the
        graph contains the preprocessing. Output of shape (n, 2), float32, probabilities in the
        order of `CLASSES`. The model has the layers 'pool' and 'logits', and is not compiled.

    Raises
    ------
    ConfigError
        The backbone is unknown, or a size or rate is out of range.
    WeightsError
        The weights cannot be downloaded or read, or belong to another backbone.

    References
    ----------
    .. [1] He, K., Zhang, X., Ren, S. and Sun, J. "Deep Residual Learning for Image Recognition."
       CVPR 2016. https://arxiv.org/abs/1512.03385

    Examples
    --------
    >>> model = build_model("tiny", image_size=(32, 32))
    >>> model.output_shape
    (None, 2)
    """
    require_tensorflow()
    import keras

    entry = get_backbone(name)
    if image_size is not None and min(image_size) < entry.min_side_px:
        raise ConfigError(
            f"The image size is too small for {entry.name}. Expected at least {entry.min_side_px} "
            f"px per side, got {image_size[0]}x{image_size[1]}. Use larger images."
        )
    has_valid_rates = 0.0 <= dropout < 1.0 and 0.0 <= head_negative_slope < 1.0
    if not has_valid_rates or any(units < 1 for units in dense_units):
        raise ConfigError(
            "Invalid head. Expected 0 <= dropout < 1, 0 <= slope < 1 and dense layers with at "
            f"least one unit, got dropout {dropout}, slope {head_negative_slope} and dense units "
            f"{list(dense_units)}. Change these values."
        )

    # === Input and preprocessing ===
    image = keras.Input((*(image_size or (None, None)), 3), name="image")
    # === Backbone ===
    base = _build_backbone(entry, _preprocess(image, entry), weights)
    # === Classification head ===
    x = keras.layers.GlobalAveragePooling2D(name="pool")(base.output)
    for number, units in enumerate(dense_units, start=1):
        x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
        # The activation is a part of the dense layer and not a layer of its own, so that the
        # output of 'dense_1' is activated.
        activation = keras.layers.LeakyReLU(head_negative_slope) if head_negative_slope else "relu"
        x = keras.layers.Dense(units, activation=activation, name=f"dense_{number}")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(len(CLASSES), name="logits")(x)
    x = keras.layers.Activation("softmax", name="probabilities")(x)

    model = keras.Model(base.inputs[0], x, name=entry.name)
    if _is_named(weights, "none"):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = SCRATCH_BN_MOMENTUM
    return model


def freeze_backbone(model: keras.Model) -> None:
    """Freeze the backbone for transfer learning, so that only the head is trained.

    Parameters
    ----------
    model : keras.Model
        Model from `build_model`, changed in place.

    See Also
    --------
    unfreeze_from : Unfreeze the last blocks for fine-tuning.

    Notes
    -----
    Compile the model afterwards, because Keras reads `trainable` when it compiles.

    Examples
    --------
    >>> model = build_model("tiny", image_size=(32, 32))
    >>> freeze_backbone(model)
    >>> [layer.name for layer in model.layers if layer.trainable_weights]
    ['dense_1', 'logits']
    """
    start = _pool_index(model)
    for layer in model.layers[:start]:
        layer.trainable = False
    for layer in model.layers[start:]:
        layer.trainable = True


def unfreeze_from(model: keras.Model, block: str, *, train_batch_norm: bool = False) -> None:
    """Unfreeze the backbone from a block to its output, for fine-tuning.

    The layers before the block are frozen, and the head stays trainable.

    Parameters
    ----------
    model : keras.Model
        Model from `build_model`, changed in place.
    block : str
        Prefix of layer names such as 'conv5' or 'conv4_block6', or 'all'.
    train_batch_norm : bool
        With False, batch normalization stays in inference mode. This fits pretrained weights,
        because a few small batches would degrade their statistics. Use True when training from
        scratch.

    Raises
    ------
    ConfigError
        No layer of the backbone has this prefix.

    See Also
    --------
    freeze_backbone : Freeze the entire backbone. Its note applies here as well.

    Examples
    --------
    >>> model = build_model("tiny", image_size=(32, 32))
    >>> unfreeze_from(model, "block3")
    >>> [layer.name for layer in model.layers if layer.trainable_weights]
    ['block3_conv', 'dense_1', 'logits']
    """
    import keras

    layers = backbone_layers(model)
    starts = [i for i, layer in enumerate(layers) if block == "all" or layer.name.startswith(block)]
    if not starts:
        blocks = BACKBONES[model.name].blocks if model.name in BACKBONES else ("its blocks",)
        raise ConfigError(
            f"Invalid block '{block}'. Expected a prefix of a layer name of {model.name}, such as "
            f"{', '.join(blocks)}. Choose one of them or 'all'."
        )
    freeze_backbone(model)
    for layer in layers[starts[0] :]:
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = train_batch_norm or not is_batch_norm


def backbone_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers before 'pool', in topological order."""
    return model.layers[: _pool_index(model)]


def last_conv_output(model: keras.Model) -> Any:
    """Return the symbolic activations of the last convolutional block, the input of 'pool'."""
    return _named_layer(model, "pool").input


def logits_output(model: keras.Model) -> Any:
    """Return the symbolic logits, the input of the softmax."""
    return _named_layer(model, "logits").output


def head_matrices(model: keras.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return kernel and bias of each dense layer between 'pool' and the softmax, in order."""
    _named_layer(model, "logits")
    layers = model.layers[_pool_index(model) :]
    weights = [layer.get_weights() for layer in layers if layer.weights]
    return [(kernel, bias) for kernel, bias in weights]


def head_slope(model: keras.Model) -> float:
    """Return the slope of the dense layers of the head for negative inputs; 0 for ReLU.

    A `ModelError` is raised if a dense layer has another activation.
    """
    _named_layer(model, "logits")
    dense = [layer for layer in model.layers[_pool_index(model) :] if layer.weights]
    slopes = {_negative_slope(layer.activation) for layer in dense[:-1]}
    slope = slopes.pop() if slopes else 0.0
    if slope is None or slopes:
        raise ModelError(
            f"The head of {model.name} has other activations. Expected ReLU or one leaky ReLU. Use "
            "a model that `build_model` built."
        )
    return slope


def _negative_slope(activation: Any) -> float | None:
    import keras

    if activation is keras.activations.relu:
        return 0.0
    is_leaky = isinstance(activation, keras.layers.LeakyReLU)
    return float(activation.negative_slope) if is_leaky else None


def reference_logits(model: keras.Model, pixels: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Compute logits with Keras in float32, the reference for the inference engine.

    `pixels` has the shape (n, height, width, 3), uint8, and the result (n, 2), float32.
    """
    import keras

    graph = keras.Model(model.inputs[0], logits_output(model))
    batches = [
        graph.predict_on_batch(pixels[start : start + batch_size].astype(np.float32))
        for start in range(0, len(pixels), batch_size)
    ]
    return np.concatenate(batches)


def load_keras(path: Path) -> keras.Model:
    """Load a ``.keras`` file in safe mode, which never runs code from the file."""
    require_tensorflow()
    import keras

    if not path.is_file():
        raise ModelError(f"There is no model file {path}. Check the path.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on every error of its file readers.
        raise ModelError(
            f"{path} is not a Keras model that can be loaded safely. Use the model of a "
            "finished run."
        ) from error


def load_weights(model: keras.Model, path: Path) -> None:
    """Load the weights of a ``.keras``, ``.h5`` or ``.weights.h5`` file into a model.

    The network in a ``.keras`` file is not built, because it can have any size or code. Further
    layers of the file, such as its head, are ignored.

    Raises
    ------
    OSError
        The file cannot be read.
    ModelError
        The file is too large, damaged, or without the layers of the model.
    """
    n_bytes = 4 * sum(math.prod(weight.shape) for weight in model.weights)
    try:
        # The file can also contain a head, and the optimizer's two moments of each weight.
        with open_weights(path, max_bytes=4 * n_bytes + _MAX_HEAD_BYTES) as file:
            _load_hdf5(model, file)
    except DataError as error:
        raise ModelError(str(error)) from error


def _load_hdf5(model: keras.Model, file: Path) -> None:
    try:
        model.load_weights(file)
    except Exception as error:  # Keras and h5py raise many types for a file that does not fit.
        raise ModelError("It does not have the layers of this network.") from error


def require_finite_weights(model: keras.Model, source: str) -> None:
    """Raise a `WeightsError` if a weight is NaN or infinite; `source` begins the message.

    A ReLU hides NaN, so that such a model trains and predicts the same class for every image.
    """
    for weight in model.weights:
        if not np.isfinite(weight.numpy()).all():
            raise WeightsError(
                f"{source} contain values that are not finite, for example in {weight.path}. "
                "Expected finite numbers. Use other initial weights or lower learning rates."
            )


def weights_fingerprint(model: keras.Model) -> str:
    """Return the SHA-256 of all weights in order; equal values mean bit-identical weights."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def without_optimizer(model: keras.Model) -> keras.Model:
    """Return the model without the optimizer state, which Keras would save with it."""
    import keras

    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def require_weights_file(path: Path) -> None:
    """Raise a `WeightsError` if a weights file is missing or has another type.

    This check does not load TensorFlow. `build_model` checks whether the weights fit the backbone.
    """
    if not path.is_file():
        raise WeightsError(
            f"There is no weights file {path}. Check the path, or choose one of "
            f"{', '.join(NAMED_WEIGHTS)}."
        )
    try:
        with open_regular(path) as stream:
            first = _FIRST_BYTES.get(path.suffix)
            is_weights = first is not None and stream.read(len(first)) == first
    except OSError as error:
        raise WeightsError(
            f"The weights file {path} cannot be read. {describe_error(error)}"
        ) from error
    if not is_weights:
        raise WeightsError(
            f"{path} is not a weights file. Use a .h5, .weights.h5 or .keras file that Keras "
            f"wrote, or one of {', '.join(NAMED_WEIGHTS)}."
        )


def _named_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    try:
        return model.get_layer(name)
    except ValueError as error:
        raise ModelError(
            f"The model '{model.name}' has no layer '{name}'. Use a model that `build_model` built."
        ) from error


def _pool_index(model: keras.Model) -> int:
    return model.layers.index(_named_layer(model, "pool"))


def _is_named(weights: str | Path | keras.Model, name: str) -> bool:
    return isinstance(weights, str) and weights == name


def _preprocess(image: Any, entry: Backbone) -> Any:
    from keras import ops

    if entry.preprocessing == "caffe":
        return ops.subtract(image[..., ::-1], np.array(_CAFFE_MEAN_BGR, "float32"))
    if entry.preprocessing == "scale":
        return ops.subtract(ops.divide(image, 127.5), 1.0)
    return image


def _build_backbone(entry: Backbone, pixels: Any, weights: str | Path | keras.Model) -> keras.Model:
    if _is_named(weights, "none"):
        return entry.build(pixels, None)
    if _is_named(weights, "imagenet"):
        base = _build_pretrained(entry, pixels)
    else:
        base = entry.build(pixels, None)
        if isinstance(weights, str | Path):
            _load_weights_file(base, Path(weights))
        else:
            _copy_weights(weights, base)
    require_finite_weights(base, "The initial weights")
    return base


def _build_pretrained(entry: Backbone, pixels: Any) -> keras.Model:
    if not entry.weights_file:
        raise WeightsError(f"There are no ImageNet weights for '{entry.name}'. Use 'none'.")
    try:
        return entry.build(pixels, "imagenet")
    except Exception as error:  # Keras raises a bare Exception if the download fails.
        raise WeightsError(
            f"The ImageNet weights of {entry.name} could not be downloaded. Without a network, "
            f"copy {entry.weights_file} into the directory .keras/models of your home directory, "
            "or use its path as initial weights, or start from the bundled model ('bundled') if it "
            "is installed, or train from scratch ('none')."
        ) from error


def _load_weights_file(base: keras.Model, path: Path) -> None:
    require_weights_file(path)
    try:
        load_weights(base, path)
    except OSError as error:
        raise WeightsError(
            f"The weights file {path} cannot be read. {describe_error(error)}"
        ) from error
    except ModelError as error:
        raise WeightsError(
            f"The weights in {path} do not fit {base.name}. {error} Use weights of the same "
            "backbone without its top layers."
        ) from error


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the backbone's weights by position, because Keras renumbers some layer names."""
    source_layers = [layer for layer in backbone_layers(source) if layer.weights]
    target_layers = [layer for layer in target.layers if layer.weights]
    if _weight_shapes(source_layers) != _weight_shapes(target_layers):
        raise WeightsError(
            f"The initial model {source.name} does not have the layers of {target.name}. "
            "Use a model with the same backbone."
        )
    for target_layer, source_layer in zip(target_layers, source_layers, strict=True):
        target_layer.set_weights(source_layer.get_weights())


def _weight_shapes(layers: list[keras.layers.Layer]) -> list[list[tuple[int, ...]]]:
    return [[weight.shape for weight in layer.weights] for layer in layers]


def _resnet50(input_tensor: Any, weights: str | None) -> Any:
    from keras.applications import ResNet50

    return ResNet50(include_top=False, weights=weights, input_tensor=input_tensor)


def _efficientnetb0(input_tensor: Any, weights: str | None) -> Any:
    import keras
    from keras.applications import EfficientNetB0

    base = EfficientNetB0(include_top=False, weights=weights, input_tensor=input_tensor)
    if weights == "imagenet":
        return base

    # Keras divides the normalized input by sqrt(std) once more, but only in a network that it
    # builds with 'imagenet'. The same weights loaded from a path need the same network.
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
    from keras.utils import get_source_inputs

    x = input_tensor
    for block, filters in enumerate((8, 16, 32), start=1):
        name = f"block{block}"
        x = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", use_bias=False, name=f"{name}_conv"
        )(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_out")(x)
    return keras.Model(get_source_inputs(input_tensor), x, name="tiny")


# To add a backbone, add an entry to this table.
BACKBONES: dict[str, Backbone] = {
    entry.name: entry
    for entry in (
        Backbone(
            "resnet50", _resnet50, "caffe", ("conv1", "conv2", "conv3", "conv4", "conv5"), "conv5",
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", gflop=7.7,
        ),
        Backbone(
            "efficientnetb0", _efficientnetb0, "efficientnet",
            ("stem", "block2", "block3", "block4", "block5", "block6", "block7"), "block6",
            "efficientnetb0_notop.h5", gflop=3.0, stride_padding="same",
        ),
        Backbone(
            "vgg16", _vgg16, "caffe", ("block1", "block2", "block3", "block4", "block5"), "block5",
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", gflop=30.7,
            stride_padding="pooling",
        ),
        # A small network for tests and for trial runs on a new dataset, not for results.
        Backbone(
            "tiny", _tiny, "scale", ("block1", "block2", "block3"), "block3", gflop=0.02,
            stride_px=8, stride_padding="same",
        ),
    )
}  # fmt: skip


def get_backbone(name: str) -> Backbone:
    """Return a backbone by its name; a `ConfigError` if it does not exist."""
    if name not in BACKBONES:
        raise ConfigError(f"Unknown backbone '{name}'. Choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]
