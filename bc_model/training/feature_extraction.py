"""Run the base of a cut model over batches: by TensorFlow, or faster on a processor by OpenVINO.

The graph is built on the first batch, so that who finds everything in the cache never waits for
it. `name` says what the numbers were computed by: two extractors of other names round differently.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.errors import ConfigError
from bc_model.model import backbone_layers, last_conv_output

if TYPE_CHECKING:
    import keras


TENSORFLOW = "tensorflow-f32"

_PIECE = 8
"""Pictures that OpenVINO computes at once, always: a graph of one fixed shape is the fastest."""


class Extractor:
    """A function from pictures to activations that is built when it is first called.

    Parameters
    ----------
    name : str
        Such as 'tensorflow-f32' or 'openvino-bf16'.
    build : callable
        Returns the function itself.
    """

    def __init__(self, name: str, build: Callable[[], Callable[[np.ndarray], np.ndarray]]) -> None:
        self.name = name
        self._build = build
        self._function: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Compute a batch.

        Parameters
        ----------
        batch : ndarray of shape (n, height, width, channels), float32
            RGB in [0, 255], or what an earlier base made of it.

        Returns
        -------
        ndarray of shape (n, *features), float32
            Channels last, as Keras has them.
        """
        if self._function is None:
            self._function = self._build()
        return self._function(batch)


def tensorflow_base(base: keras.Model) -> Extractor:
    """Return an extractor that runs the base as it is, in inference mode."""

    def build() -> Callable[[np.ndarray], np.ndarray]:
        import tensorflow as tf

        # One signature for every batch size: the last, smaller batch must not be traced anew.
        signature = [tf.TensorSpec(base.inputs[0].shape, tf.float32)]
        forward = tf.function(lambda x: base(x, training=False), input_signature=signature)
        return lambda batch: np.asarray(forward(batch).numpy(), np.float32)

    return Extractor(TENSORFLOW, build)


def fast_base(base: keras.Model, shape: tuple[int, ...], threads: int = 0) -> Extractor:
    """Return the fastest extractor of this machine.

    With a GPU that is TensorFlow. Without one it is OpenVINO: in bfloat16 where the processor has
    it, else in float32. In a trained ResNet50 bfloat16 moved the pooled features by half a percent
    of their spread over pictures; in an untrained network it may be a tenth. The weights are those
    of the time of the first batch.

    Parameters
    ----------
    base : keras.Model
        A picture, or what an earlier base made of it, to one tensor.
    shape : tuple of int
        Of one input: height, width, channels.
    threads : int
        Of the processor, at most; 0 takes all.
    """
    name = fastest_name()
    if name == TENSORFLOW:
        return tensorflow_base(base)
    hint = name.removeprefix("openvino-")
    return Extractor(name, lambda: _by_openvino(base, shape, hint, threads))


def fastest_name() -> str:
    """Return the name of the extractor that `fast_base` chooses on this machine."""
    import tensorflow as tf

    from bc_model.inference.precision import supported_precisions

    if tf.config.list_physical_devices("GPU"):
        return TENSORFLOW
    return "openvino-bf16" if "bf16" in supported_precisions() else "openvino-f32"


def _by_openvino(
    base: keras.Model, shape: tuple[int, ...], hint: str, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory(prefix="bc-base-") as folder:
        graph = _exported(base, shape, Path(folder), core)
        # Compiled inside the block: it reads the weights from the folder. Left alone, OpenVINO
        # computes in bfloat16 where the processor has it, and says nothing.
        how: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            how["INFERENCE_NUM_THREADS"] = threads
        request = core.compile_model(graph, "CPU", how).create_infer_request()
        del graph  # it holds the weights' file open, which Windows would refuse to delete

    def forward(batch: np.ndarray) -> np.ndarray:
        pieces = []
        for start in range(0, len(batch), _PIECE):
            piece = np.ascontiguousarray(batch[start : start + _PIECE], np.float32)
            filled = np.zeros((_PIECE, *piece.shape[1:]), np.float32)
            filled[: len(piece)] = piece
            request.infer([filled])
            # The request reuses its buffer: copy before the next piece overwrites it.
            pieces.append(request.get_output_tensor(0).data[: len(piece)].copy())
        return np.concatenate(pieces)

    return forward


def _exported(base: keras.Model, shape: tuple[int, ...], folder: Path, core: Any) -> Any:
    path = folder / "base.xml"
    base.export(str(path), format="openvino", verbose=False)
    graph = core.read_model(path)
    # Activations with a gradient of their own, such as EfficientNet's swish, leave one more output
    # each in the converted graph; ours is the first.
    for extra in graph.get_results()[1:]:
        graph.remove_result(extra)
    graph.reshape([_PIECE, *shape])
    return graph


def cut_at_pool(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut behind global average pooling.

    Returns
    -------
    base : keras.Model
        Picture (n, height, width, 3) to pooled features (n, channels).
    tail : keras.Model
        Pooled features to probabilities (n, 2).

    Raises
    ------
    ModelError
        The model has no layer named 'pool'.
    """
    last_conv_output(model)  # says in one sentence when 'pool' is not there
    return _halves(model, model.get_layer("pool").output, "pool")


def cut_before(model: keras.Model, from_block: str) -> tuple[keras.Model, keras.Model] | None:
    """Cut where fine-tuning starts; the tail contains all that `unfreeze_from` trains.

    Parameters
    ----------
    model : keras.Model
    from_block : str
        A prefix of layer names such as 'conv5' or 'conv4_block6', or 'all'.

    Returns
    -------
    (base, tail) or None
        `base` takes pictures to the one tensor that enters the tail, `tail` goes on from there to
        the probabilities. None when there is no such place: everything trains, or more than one
        tensor crosses, as inside a residual block.

    Raises
    ------
    ConfigError
        No layer of the backbone begins with `from_block`.
    """
    if from_block == "all":
        return None
    layers = backbone_layers(model)
    starts = [i for i, layer in enumerate(layers) if layer.name.startswith(from_block)]
    if not starts:
        raise ConfigError(
            f"No layer of {model.name} begins with '{from_block}'; name one of its blocks."
        )
    crossing = _crossing(model, {id(layer) for layer in model.layers[starts[0] :]})
    if len(crossing) != 1 or crossing[0][0] is model.inputs[0]:
        return None
    return _halves(model, *crossing[0])


def from_there_to_pool(model: keras.Model, base: keras.Model) -> keras.Model:
    """Return the part between the end of a base, from `cut_before`, and the pooled features."""
    import keras

    pooled = model.get_layer("pool").output
    return keras.Model(base.outputs[0], pooled, name=f"{base.name}_on_to_pool")


def _crossing(model: keras.Model, tail_ids: set[int]) -> list[tuple[Any, str]]:
    """Return the tensors that enter the tail, each with the name of the operation it comes from.

    A place in the list of layers says too little: a shortcut may leap over it, and operations that
    are not layers, such as a subtraction, are not in that list. So every arrow is looked at.
    """
    from keras import tree

    makers = {id(tensor): op for op in model.operations for tensor in tree.flatten(op.output)}
    inside = set(tail_ids)
    found: dict[int, tuple[Any, str]] = {}
    for operation in model.operations:  # in topological order: makers come before their users
        if _is_input(operation):
            continue
        tensors = tree.flatten(operation.input)
        if any(id(makers[id(tensor)]) in inside for tensor in tensors):
            inside.add(id(operation))
        if id(operation) in inside:
            for tensor in tensors:
                maker = makers[id(tensor)]
                if id(maker) not in inside:
                    found[id(tensor)] = (tensor, maker.name)
    return list(found.values())


def _is_input(operation: Any) -> bool:
    import keras

    return isinstance(operation, keras.layers.InputLayer)


def _halves(model: keras.Model, tensor: Any, place: str) -> tuple[keras.Model, keras.Model]:
    import keras

    base = keras.Model(model.inputs[0], tensor, name=f"{model.name}_to_{place}")
    tail = keras.Model(tensor, model.outputs[0], name=f"{model.name}_from_{place}")
    return base, tail
