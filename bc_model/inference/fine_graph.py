"""Finer heatmaps from the same weights: the last stages of ResNet50 without their strides.

Without the stride of a stage, its convolutions are computed at every cell of their input. Dilation
restores the distance between the cells that a 3x3 kernel combines ("à trous" [1]_), so every second
cell equals a cell of the original graph.

.. [1] Chen, L.-C., Papandreou, G., Kokkinos, I., Murphy, K. and Yuille, A. L. "DeepLab: Semantic
   Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs."
   IEEE TPAMI 40(4), 2018. https://arxiv.org/abs/1606.00915
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bc_model.errors import ConfigError, ModelError
from bc_model.inference.bundle import Bundle

if TYPE_CHECKING:
    import openvino

RESOLUTIONS = {"standard": 1, "fine": 2, "finest": 4}
"""Cells of the heatmap per cell of the original graph, in each direction."""

_N_CONVOLUTIONS = 53
_CELLWISE = frozenset({"Add", "Multiply", "Relu", "Convert"})
"""Operations that compute each cell alone, apart from convolutions."""


def supported_resolutions(bundle: Bundle) -> tuple[str, ...]:
    """Return the resolutions of heatmaps that a model supports: all for ResNet50.

    Examples
    --------
    >>> from bc_model.inference.bundle import open_bundled_model
    >>> supported_resolutions(open_bundled_model())
    ('standard', 'fine', 'finest')
    """
    names = tuple(RESOLUTIONS)
    return names if bundle.card.architecture.backbone == "resnet50" else names[:1]


def require_resolution(bundle: Bundle, resolution: str) -> None:
    """Raise an error if a resolution does not exist or the model does not support it.

    Raises
    ------
    ConfigError
        The resolution is unknown.
    ModelError
        The backbone of the model supports only the resolution 'standard'.
    """
    if resolution not in RESOLUTIONS:
        raise ConfigError(
            f"Unknown heatmap resolution '{resolution}'. Choose one of {', '.join(RESOLUTIONS)}."
        )
    if resolution not in supported_resolutions(bundle):
        raise ModelError(
            f"The model {bundle.label} does not support the heatmap resolution '{resolution}'. "
            f"Expected the backbone resnet50, got {bundle.card.architecture.backbone}. Use "
            "'standard'."
        )


def refine_graph(graph: openvino.Model, refinement: int) -> None:
    """Remove the strides of the last stages of a ResNet50, in place.

    Parameters
    ----------
    graph : openvino.Model
        Inference graph with the activations and their means as outputs. Only the activations stay.
    refinement : {2, 4}
        2 changes the last stage, and 4 the last two.

    Raises
    ------
    ModelError
        The graph does not have the structure of a ResNet50.
    """
    convolutions = [node for node in graph.get_ordered_ops() if _is_convolution(node)]
    first = [node for node in convolutions if _stride(node) == 2 and _kernel_side(node) == 1]
    n_stages = refinement.bit_length() - 1
    # Each of the last three stages starts with two strided convolutions: the one of the residual
    # path, and the one of its shortcut.
    if len(convolutions) != _N_CONVOLUTIONS or len(first) != 6 or not _are_pairs(first):
        raise ModelError(
            f"The inference graph does not have the layers of ResNet50. Expected "
            f"{_N_CONVOLUTIONS} convolutions and 6 with a 1x1 kernel and stride 2 in pairs, got "
            f"{len(convolutions)} and {len(first)}. Use the heatmap resolution 'standard'."
        )
    graph.remove_result(graph.get_results()[1])
    changed = {node.get_name() for node in first[-2 * n_stages :]}
    dilations: dict[str, int] = {}
    for node in graph.get_ordered_ops():
        sources = [value.get_node().get_name() for value in node.input_values()]
        dilation = max((dilations.get(name, 1) for name in sources), default=1)
        if node.get_name() in changed:
            node.set_attribute("strides", [1, 1])
            dilation *= 2
        elif dilation > 1:
            _dilate(node, dilation)
        dilations[node.get_name()] = dilation
    graph.validate_nodes_and_infer_types()


def _dilate(node: openvino.Node, dilation: int) -> None:
    """Adapt a node to activations with `dilation` times as many cells in each direction."""
    kind = node.get_type_name()
    if _is_convolution(node) and _stride(node) == 1 and _kernel_side(node) in (1, 3):
        if _kernel_side(node) == 3:
            # 'same' padding of the original graph is one cell on each side.
            node.set_attribute("auto_pad", "explicit")
            for name in ("dilations", "pads_begin", "pads_end"):
                node.set_attribute(name, [dilation, dilation])
    elif kind not in _CELLWISE and kind not in ("Transpose", "Result"):
        raise ModelError(
            f"The inference graph has an unexpected operation {kind} in its last stages. Expected "
            "those of ResNet50. Use the heatmap resolution 'standard'."
        )


def _is_convolution(node: openvino.Node) -> bool:
    return bool(node.get_type_name() == "Convolution")


def _stride(node: openvino.Node) -> int:
    return int(max(node.get_attributes()["strides"]))


def _kernel_side(node: openvino.Node) -> int:
    return int(max(list(node.input(1).get_partial_shape().to_shape())[2:]))


def _are_pairs(nodes: list[openvino.Node]) -> bool:
    """Return whether each two nodes in a row have the same input."""
    sources = [node.input_value(0).get_node().get_name() for node in nodes]
    return sources[::2] == sources[1::2]
