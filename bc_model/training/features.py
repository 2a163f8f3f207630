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

    from bc_model.serving.precision import supported_precisions

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
