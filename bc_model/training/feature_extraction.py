"""Split a model into a frozen base and a trained tail, and compute the base over batches.

TensorFlow computes the base, or OpenVINO, which is faster on a processor. The name of an
`Extractor` is part of the cache key, because the two round differently.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.errors import ConfigError
from bc_model.inference.engine import compile_options
from bc_model.model import backbone_layers, last_conv_output
from bc_model.utils.processor import require_tensorflow

if TYPE_CHECKING:
    import keras

TENSORFLOW = "tensorflow-f32"

_OPENVINO_BATCH_SIZE = 8
"""Fixed, because OpenVINO is fastest with a graph of one shape."""


class Extractor:
    """A function from images to features that is built at its first call.

    Parameters
    ----------
    name : str
        What computes the features, such as 'tensorflow-f32' or 'openvino-bf16'.
    build : callable
        Returns the function. A run that finds all features in the cache never builds it.
    """

    def __init__(self, name: str, build: Callable[[], Callable[[np.ndarray], np.ndarray]]) -> None:
        self.name = name
        self._build = build
        self._function: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Return the features (n, *feature_shape) float32 of images (n, h, w, channels) float32."""
        if self._function is None:
            self._function = self._build()
        return self._function(batch)


def make_tensorflow_extractor(base: keras.Model) -> Extractor:
    """Return an extractor that runs the base in TensorFlow, in inference mode."""

    def build() -> Callable[[np.ndarray], np.ndarray]:
        import tensorflow as tf

        # One signature for every batch size, so that the smaller last batch is not traced again.
        signature = [tf.TensorSpec(base.inputs[0].shape, tf.float32)]
        forward = tf.function(lambda x: base(x, training=False), input_signature=signature)
        return lambda batch: np.asarray(forward(batch).numpy(), np.float32)

    return Extractor(TENSORFLOW, build)


def make_fastest_extractor(
    base: keras.Model, shape: tuple[int, ...], threads: int = 0
) -> Extractor:
    """Return the fastest extractor for inputs of a shape (height, width, channels).

    TensorFlow is the fastest on a GPU; otherwise OpenVINO, in bfloat16 if the processor has it. In
    a trained ResNet50, bfloat16 changes pooled features by 0.5 % of their standard deviation over
    images; in an untrained network, by up to 10 %. With 0 `threads`, there is no limit.
    """
    name = fastest_extractor_name()
    if name == TENSORFLOW:
        return make_tensorflow_extractor(base)
    precision = name.removeprefix("openvino-")
    return Extractor(name, lambda: _compile_openvino(base, shape, precision, threads))


def fastest_extractor_name() -> str:
    """Return the name of the extractor that `make_fastest_extractor` chooses."""
    require_tensorflow()
    import tensorflow as tf

    from bc_model.inference.precision import supported_precisions

    if tf.config.list_physical_devices("GPU"):
        return TENSORFLOW
    return "openvino-bf16" if "bf16" in supported_precisions() else "openvino-f32"


def cut_at_pool(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Split a model after global average pooling, into (base, tail).

    Raises
    ------
    ModelError
        The model has no layer named 'pool'.
    """
    last_conv_output(model)  # Raises the error.
    return _make_halves(model, model.get_layer("pool").output, "pool")


def cut_before_block(model: keras.Model, block: str) -> tuple[keras.Model, keras.Model] | None:
    """Split a model before the first block that `unfreeze_from` trains.

    Parameters
    ----------
    model : keras.Model
    block : str
        A prefix of layer names such as 'conv5' or 'conv4_block6', or 'all'.

    Returns
    -------
    (base, tail) or None
        `base` computes the input of `tail` from images; `tail` computes the probabilities. None if
        all layers are trained, or if several tensors connect the two, as in a residual block.

    Raises
    ------
    ConfigError
        The backbone has no such block.
    """
    if block == "all":
        return None
    layers = backbone_layers(model)
    starts = [i for i, layer in enumerate(layers) if layer.name.startswith(block)]
    if not starts:
        raise ConfigError(
            f"Invalid block '{block}'. Expected a prefix of a layer name of {model.name}. "
            "Use one of its blocks."
        )
    tensors = _find_tail_inputs(model, {id(layer) for layer in model.layers[starts[0] :]})
    if len(tensors) != 1 or tensors[0][0] is model.inputs[0]:
        return None
    return _make_halves(model, *tensors[0])


def make_bridge_to_pool(model: keras.Model, base: keras.Model) -> keras.Model:
    """Return the layers between a base from `cut_before_block` and the pooled features."""
    import keras

    pooled = model.get_layer("pool").output
    return keras.Model(base.outputs[0], pooled, name=f"{base.name}_on_to_pool")


def _compile_openvino(
    base: keras.Model, shape: tuple[int, ...], precision: str, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory(prefix="bc-base-") as directory:
        graph = _export_graph(base, shape, Path(directory), core)
        # Without a hint, OpenVINO computes in bfloat16 wherever the processor has it.
        # Compiled inside the block, because it reads the weights from the directory.
        options = compile_options(precision, threads)
        request = core.compile_model(graph, "CPU", options).create_infer_request()
        del graph  # It keeps the file of weights open, which Windows would refuse to delete.

    def forward(batch: np.ndarray) -> np.ndarray:
        outputs = []
        for start in range(0, len(batch), _OPENVINO_BATCH_SIZE):
            images = np.ascontiguousarray(batch[start : start + _OPENVINO_BATCH_SIZE], np.float32)
            padded = np.zeros((_OPENVINO_BATCH_SIZE, *images.shape[1:]), np.float32)
            padded[: len(images)] = images
            request.infer([padded])
            # The next request overwrites the buffer, so copy it.
            outputs.append(request.get_output_tensor(0).data[: len(images)].copy())
        return np.concatenate(outputs)

    return forward


def _export_graph(base: keras.Model, shape: tuple[int, ...], directory: Path, core: Any) -> Any:
    path = directory / "base.xml"
    base.export(str(path), format="openvino", verbose=False)
    graph = core.read_model(path)
    # Activations with custom gradients, as in EfficientNet, add outputs after the first one.
    for extra in graph.get_results()[1:]:
        graph.remove_result(extra)
    graph.reshape([_OPENVINO_BATCH_SIZE, *shape])
    return graph


def _find_tail_inputs(model: keras.Model, tail_ids: set[int]) -> list[tuple[Any, str]]:
    """Return the tensors that enter the tail, each with the name of its operation."""
    # The order of the layers is not enough: shortcuts skip layers, and some operations, such as a
    # subtraction, are not layers. So this follows every edge of the graph.
    import keras
    from keras import tree

    sources = {id(tensor): op for op in model.operations for tensor in tree.flatten(op.output)}
    inside = set(tail_ids)
    entering: dict[int, tuple[Any, str]] = {}
    for operation in model.operations:  # In topological order.
        if isinstance(operation, keras.layers.InputLayer):
            continue
        tensors = tree.flatten(operation.input)
        if any(id(sources[id(tensor)]) in inside for tensor in tensors):
            inside.add(id(operation))
        if id(operation) in inside:
            for tensor in tensors:
                source = sources[id(tensor)]
                if id(source) not in inside:
                    entering[id(tensor)] = (tensor, source.name)
    return list(entering.values())


def _make_halves(model: keras.Model, tensor: Any, place: str) -> tuple[keras.Model, keras.Model]:
    import keras

    base = keras.Model(model.inputs[0], tensor, name=f"{model.name}_to_{place}")
    tail = keras.Model(tensor, model.outputs[0], name=f"{model.name}_from_{place}")
    return base, tail
