"""The classifier: a backbone built flat, global average pooling, a small head, two logits.

Flat means that the backbone's layers are the model's own layers, so that Grad-CAM, freezing and
export find them by name. Pixels go in as they come, RGB in [0, 255]: the backbone's preprocessing
is in the graph, exactly once. Importing this module loads TensorFlow on first use only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.backbones import BACKBONES, Backbone, backbone
from bc_model.data.names import CLASSES
from bc_model.errors import ModelError, SettingsError, WeightsError
from bc_model.weights_file import require_weights_file

if TYPE_CHECKING:
    import keras

SCRATCH_BN_MOMENTUM = 0.9
"""From scratch on few pictures an epoch has few steps: Keras's 0.99 would leave the moving
statistics far behind the weights, and validation would be judged with stale ones."""

_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def build_model(
    backbone_name: str = "resnet50",
    *,
    image_size: tuple[int, int] | None = (224, 224),
    weights: str = "none",
    dense_units: tuple[int, ...] = (256,),
    dropout: float = 0.3,
) -> keras.Model:
    """Build the classifier.

    Parameters
    ----------
    backbone_name : {'resnet50', 'efficientnetb0', 'vgg16', 'tiny'}
    image_size : (int, int) or None
        Height and width, px; None leaves both free.
    weights : str
        'imagenet' (fetched and hash-checked by Keras), 'bundled' (of the model that comes with
        the program), 'none' (random), or the path of a file written by Keras: ``.h5``,
        ``.weights.h5`` or ``.keras``.
    dense_units : tuple of int
        Width of each dense layer between pooling and logits; may be empty.
    dropout : float
        In [0, 1), before each dense layer and before the logits.

    Returns
    -------
    keras.Model
        Input (n, height, width, 3) float32 RGB in [0, 255]; output (n, 2) float32 probabilities
        in the order of `CLASSES`. The layers 'pool', 'logits' and 'probabilities' bear these
        names. Not compiled.

    Raises
    ------
    SettingsError
        Unknown backbone, or a size too small for it.
    WeightsError
        Weights that cannot be fetched, found or fitted.
    """
    import keras

    entry = backbone(backbone_name)
    if image_size is not None and min(image_size) < entry.min_side_px:
        raise SettingsError(
            f"{entry.name} needs pictures of at least {entry.min_side_px} px a side; "
            f"asked for {image_size[0]}x{image_size[1]}."
        )
    if not 0.0 <= dropout < 1.0 or any(units < 1 for units in dense_units):
        raise SettingsError(
            f"Dropout lies in [0, 1) and dense layers have at least one unit; asked for {dropout} "
            f"and {list(dense_units)}."
        )

    # === Layers ===
    picture = keras.Input((*(image_size or (None, None)), 3), name="picture")
    base = _build_backbone(entry, _preprocess(picture, entry), weights)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(base.output)
    for number, units in enumerate(dense_units, start=1):
        x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
        x = keras.layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(len(CLASSES), name="logits")(x)
    x = keras.layers.Activation("softmax", name="probabilities")(x)

    # === Functional model ===
    model = keras.Model(base.inputs[0], x, name=entry.name)
    if weights == "none":
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = SCRATCH_BN_MOMENTUM
    return model


def freeze(model: keras.Model) -> None:
    """Freeze the backbone for transfer learning; only the head behind 'pool' trains.

    Compile afterwards: Keras reads `trainable` when it compiles.
    """
    for layer in backbone_layers(model):
        layer.trainable = False
    for layer in model.layers[model.layers.index(model.get_layer("pool")) :]:
        layer.trainable = True


def unfreeze(model: keras.Model, from_block: str, *, train_batch_norm: bool) -> None:
    """Unfreeze the backbone from a block on, for fine-tuning.

    Parameters
    ----------
    model : keras.Model
    from_block : str
        A prefix of layer names such as 'conv5' or 'conv4_block6', or 'all'.
    train_batch_norm : bool
        False keeps batch normalisation in inference mode: right for pretrained weights, whose
        statistics a few small batches would spoil. True when training from scratch.

    Raises
    ------
    SettingsError
        No layer of the backbone begins with `from_block`.
    """
    import keras

    freeze(model)
    layers = backbone_layers(model)
    starts = [i for i, layer in enumerate(layers) if layer.name.startswith(from_block)]
    if from_block != "all" and not starts:
        blocks = ", ".join(BACKBONES[model.name].blocks) if model.name in BACKBONES else "?"
        raise SettingsError(
            f"No layer of {model.name} begins with '{from_block}'; fine-tune from one of {blocks} "
            "or 'all'."
        )
    for layer in layers[0 if from_block == "all" else starts[0] :]:
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = train_batch_norm or not is_batch_norm


def backbone_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers before 'pool', in topological order."""
    return model.layers[: model.layers.index(model.get_layer("pool"))]


def last_conv_output(model: keras.Model) -> Any:
    """Return the symbolic activations of the last convolutional block: the input of 'pool'.

    Raises
    ------
    ModelError
        The model has no layer named 'pool'.
    """
    return _named_layer(model, "pool").input


def logits_output(model: keras.Model) -> Any:
    """Return the symbolic logits, before the softmax.

    Raises
    ------
    ModelError
        The model has no layer named 'logits'.
    """
    return _named_layer(model, "logits").output


def head_matrices(model: keras.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return kernel and bias of each dense layer between 'pool' and the softmax, in order."""
    start = model.layers.index(_named_layer(model, "pool"))
    _named_layer(model, "logits")
    matrices = []
    for layer in model.layers[start:]:
        if layer.weights:
            kernel, bias = layer.get_weights()
            matrices.append((kernel, bias))
    return matrices


def reference_logits(model: keras.Model, pixels: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Return the logits of pictures by Keras, in float32: what serving is held against.

    Parameters
    ----------
    model : keras.Model
    pixels : ndarray of shape (n, height, width, 3), uint8
    batch_size : int

    Returns
    -------
    ndarray of shape (n, 2), float32
    """
    import keras

    graph = keras.Model(model.inputs[0], logits_output(model))
    batches = [
        graph.predict_on_batch(pixels[start : start + batch_size].astype(np.float32))
        for start in range(0, len(pixels), batch_size)
    ]
    return np.concatenate(batches)


def load_keras(path: Path) -> keras.Model:
    """Load a ``.keras`` file in safe mode: no code in it is ever run.

    Raises
    ------
    ModelError
        No such file, not a Keras model, or one that holds code.
    """
    import keras

    if not path.is_file():
        raise ModelError(f"There is no model file {path}; check the path.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its readers raise
        raise ModelError(
            f"{path} is not a Keras model that can be loaded safely; "
            "give the folder that `train` wrote."
        ) from error


def weights_fingerprint(model: keras.Model) -> str:
    """Hash all weights, in order: equal fingerprints mean bit-equal networks."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def without_optimizer(model: keras.Model) -> keras.Model:
    """Return the same layers and weights as a model that was never compiled.

    Keras writes and reads the optimizer's state with a compiled model, whatever one asks for.
    """
    import keras

    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _named_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    try:
        return model.get_layer(name)
    except ValueError as error:
        raise ModelError(
            f"The model '{model.name}' has no layer '{name}'; "
            "only models built by this project can be served and explained."
        ) from error


def _preprocess(picture: Any, entry: Backbone) -> Any:
    from keras import ops

    if entry.preprocessing == "caffe":
        return ops.subtract(picture[..., ::-1], np.array(_CAFFE_MEAN_BGR, "float32"))
    if entry.preprocessing == "scale":
        return ops.subtract(ops.divide(picture, 127.5), 1.0)
    return picture


def _build_backbone(entry: Backbone, pixels: Any, weights: str) -> keras.Model:
    if weights == "imagenet":
        if not entry.weights_file:
            raise WeightsError(f"There are no ImageNet weights for '{entry.name}'; use 'none'.")
        try:
            return entry.build(pixels, "imagenet")
        except Exception as error:  # get_file raises a bare Exception when the network is away
            raise WeightsError(
                f"The ImageNet weights of {entry.name} could not be fetched. Without a network: "
                f"copy {entry.weights_file} into the folder .keras/models of your home, "
                "or give its path as the initial weights, or begin with the model in the box "
                "('bundled') where there is one, or train from scratch ('none')."
            ) from error
    base = entry.build(pixels, None)
    if weights == "bundled":
        from bc_model.serving.shipped import bundled_model
        from bc_model.serving.twin import load_twin

        _copy_weights(load_twin(bundled_model()), base)
    elif weights != "none":
        _load_weights_file(base, Path(weights))
    return base


def _load_weights_file(base: keras.Model, path: Path) -> None:
    require_weights_file(path)
    try:
        if path.suffix == ".keras":
            _copy_weights(load_keras(path), base)
        else:
            base.load_weights(path)
    except WeightsError:
        raise
    except Exception as error:  # h5py and Keras raise many kinds for a file that does not fit
        raise WeightsError(
            f"The weights in {path} do not fit {base.name}; they must come from the same backbone, "
            "without its top."
        ) from error


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the backbone's weights layer by layer, in order: Keras numbers some names anew."""
    theirs = [layer for layer in backbone_layers(source) if layer.weights]
    ours = [layer for layer in target.layers if layer.weights]
    shapes = [[[w.shape for w in layer.weights] for layer in layers] for layers in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise WeightsError(
            f"The model to start from, {source.name}, does not have the layers of {target.name}; "
            "choose the same backbone."
        )
    for ours_one, theirs_one in zip(ours, theirs, strict=True):
        ours_one.set_weights(theirs_one.get_weights())
