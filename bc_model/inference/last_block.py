"""Activations and gradients of the last two residual blocks of ResNet50, without TensorFlow.

The last block has three convolutions and a shortcut, so its gradient is a few matrix products. They
are computed in NumPy from the weights of the inference graph.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bc_model.errors import ModelError
from bc_model.inference.bundle import Bundle

if TYPE_CHECKING:
    import openvino

_N_OUTPUTS = 2
"""Outputs of the inference graph: activations and features."""


class BlockOutputs(NamedTuple):
    """The activations of one image in the last two residual blocks.

    Attributes
    ----------
    last, previous : ndarray of shape (map_height, map_width, channels), float32
        Output of the last block and of the block before it.
    hidden : tuple of two ndarray of shape (map_height, map_width, n_hidden), float32
        Activations after the first and the second convolution of the last block.
    """

    last: np.ndarray
    previous: np.ndarray
    hidden: tuple[np.ndarray, np.ndarray]


class LastBlock:
    """The last residual block of a ResNet50 in an inference graph.

    Parameters
    ----------
    graph : openvino.Model
        Inference graph in float32. It gets three further outputs.
    bundle : Bundle
        The model, for messages.

    Raises
    ------
    ModelError
        The model is no ResNet50.
    """

    def __init__(self, graph: openvino.Model, bundle: Bundle) -> None:
        import openvino

        if bundle.card.architecture.backbone != "resnet50":
            raise ModelError(
                f"This heatmap needs the last two residual blocks of ResNet50. Expected the "
                f"backbone resnet50, got {bundle.card.architecture.backbone}. Use another layer."
            )
        nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
        first, second, third = nodes[-3:]
        self._kernels = tuple(_read_kernel(node) for node in (first, second, third))
        graph.add_outputs([node.input_value(0) for node in (first, second, third)])
        self._lock = threading.Lock()
        self._compiled = openvino.Core().compile_model(
            graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        )

    def forward(self, pixels: np.ndarray) -> BlockOutputs:
        """Return the activations for one network input, shape (height, width, 3), uint8."""
        with self._lock:  # One request cannot serve two threads, and its outputs are reused.
            outputs = self._compiled(np.ascontiguousarray(pixels[None], np.float32))
            last = np.array(outputs[0][0])
            previous, first, second = (
                np.array(np.moveaxis(outputs[_N_OUTPUTS + i][0], 0, -1), order="C")
                for i in range(3)
            )
        return BlockOutputs(last, previous, (first, second))

    def backward(self, outputs: BlockOutputs, gradient: np.ndarray) -> np.ndarray:
        """Return the gradient at the previous block from that at the last one.

        Parameters
        ----------
        outputs : BlockOutputs
            From `forward`.
        gradient : ndarray of shape (channels,) or (map_height, map_width, channels), float32
            Gradient with respect to the output of the last block.

        Returns
        -------
        ndarray of shape (map_height, map_width, channels), float32
        """
        first, second, third = self._kernels
        before_relu = gradient * (outputs.last > 0.0)
        at_second = before_relu @ third[:, :, 0, 0] * (outputs.hidden[1] > 0.0)
        at_first = _transposed_convolution(at_second, second) * (outputs.hidden[0] > 0.0)
        through_path = at_first @ first[:, :, 0, 0]
        found: np.ndarray = before_relu + through_path
        return found.astype(np.float32)


def _read_kernel(node: openvino.Node) -> np.ndarray:
    """Return the weights of a convolution, shape (n_outputs, n_inputs, rows, columns), float32."""
    source = node.input_value(1).get_node()
    while source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    return np.array(source.data, np.float32)


def _transposed_convolution(gradient: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the gradient at the input of a 3x3 convolution with 'same' padding."""
    height, width, _ = gradient.shape
    padded = np.pad(gradient, ((1, 1), (1, 1), (0, 0)))
    total = np.zeros((height, width, kernel.shape[1]), np.float32)
    for row in range(3):
        for column in range(3):
            window = padded[2 - row : 2 - row + height, 2 - column : 2 - column + width]
            total += window @ kernel[:, :, row, column]
    return total
