"""The Keras model of a bundle: its ``.keras`` file, or its served graph turned back into layers.

A bundle in half precision has no ``.keras`` file, which would be twice as large as all the rest.
Its graph holds each convolution with its batch normalisation folded in, under the layer's own
name, so nothing is lost: the layers are built anew, the convolutions get their folded weights, and
the batch normalisations only add the bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bc_model.errors import ModelError
from bc_model.model import build_model, load_keras
from bc_model.serving.bundle import KERAS_FILE, Bundle
from bc_model.serving.engine import GRAPH_FILES
from bc_model.serving.head import Head

if TYPE_CHECKING:
    import keras
    import openvino


def load_twin(bundle: Bundle) -> keras.Model:
    """Return a bundle's network as a Keras model that can explain and learn.

    Raises
    ------
    BundleError
        A file of the bundle is missing or damaged.
    ModelError
        Its graph does not hold the layers that its model card names.
    """
    if KERAS_FILE in bundle.card.files:
        return load_keras(bundle.file(KERAS_FILE))
    import openvino

    graph = openvino.Core().read_model(*(bundle.file(name) for name in GRAPH_FILES["f32"]))
    architecture = bundle.card.architecture
    model = build_model(
        architecture.backbone,
        image_size=bundle.image_size,
        weights="none",
        dense_units=architecture.dense_units,
        dropout=architecture.dropout,
    )
    _put_convolutions(graph, model, bundle.label)
    head = Head.load(bundle.file("head.npz"))
    dense = [layer for layer in model.layers[model.layers.index(model.get_layer("pool")) :]
             if layer.weights]  # fmt: skip
    for layer, kernel, bias in zip(dense, head.kernels, head.biases, strict=True):
        layer.set_weights([kernel, bias])
    return model


def convolutions(graph: openvino.Model) -> list[openvino.Node]:
    """Return the convolutions of a graph, in the order of computing."""
    return [op for op in graph.get_ordered_ops() if op.get_type_name() == "Convolution"]


def convolution_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return a model's convolutional layers, a block's shortcut before its other three.

    The order in which OpenVINO computes those of ResNet50; Keras lists shortcuts later.
    """
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return sorted(layers, key=lambda layer: layer.name.split("_conv")[0])


def _put_convolutions(graph: openvino.Model, model: keras.Model, label: str) -> None:
    folded = {op.get_friendly_name(): op for op in convolutions(graph)}
    layers = convolution_layers(model)
    if set(folded) != {layer.name for layer in layers}:
        raise ModelError(
            f"The graph of {label} does not name the layers of {model.name}: its Keras model "
            "cannot be rebuilt. Take the model as it was shipped."
        )
    for layer in layers:
        kernel, bias = _folded(folded[layer.name])
        norm = model.get_layer(layer.name.replace("_conv", "_bn"))
        ones = np.ones(norm.gamma.shape, np.float32)
        # gamma / sqrt(variance + epsilon) is 1.
        layer.set_weights([kernel, 0 * bias] if layer.use_bias else [kernel])
        norm.set_weights([ones * np.sqrt(1.0 + norm.epsilon), bias, 0 * ones, ones])


def _folded(op: openvino.Node) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel (height, width, inputs, outputs) and bias of a convolution, float32."""
    after = next(iter(op.output(0).get_target_inputs()))
    bias = _constant(after.get_node().input_value(1).get_node())
    kernel = _constant(op.input_value(1).get_node())
    return kernel.transpose(2, 3, 1, 0), bias.reshape(-1)


def _constant(node: openvino.Node) -> np.ndarray:
    """Return a constant, through the conversion that half-precision ones have behind them."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    values: np.ndarray = np.asarray(node.get_data(), np.float32)
    return values
