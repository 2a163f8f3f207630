"""Bundles in half precision, for models that are passed on: a quarter of the bytes.

Weights are rounded to 16 bits and computed with in 32, as ever. There is no ``.keras`` file; the
graph names its convolutions so that `twin` can build the Keras model anew.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.errors import ModelError
from bc_model.model import head_matrices, reference_logits
from bc_model.serving.bundle import SERVED_FILES, Bundle, file_sha256, open_bundle
from bc_model.serving.engine import Engine
from bc_model.serving.export import check_bundle, export_graph, put_in_place
from bc_model.serving.head import Head
from bc_model.serving.passport import ModelCard, write_model_card
from bc_model.serving.twin import convolution_layers, convolutions

if TYPE_CHECKING:
    import keras

MAX_ROUNDING = 0.02
"""Of the largest logit, or of 1 where all are smaller: what 16 bits may move a logit by."""


def write_compact_bundle(
    model: keras.Model,
    folder: Path,
    card: ModelCard,
    pixels: np.ndarray,
    *,
    complete: Callable[[Bundle], None] = lambda draft: None,
) -> Bundle:
    """Write a bundle in half precision, and hold its rebuilt Keras model against its graph.

    Parameters
    ----------
    model : keras.Model
        A ResNet50 as `bc_model.model.build_model` builds it, trained, with a fixed input size.
    folder : Path
        Replaced when it exists.
    card : ModelCard
        Complete but for `files`, which is filled in here.
    pixels : ndarray of shape (n, height, width, 3), uint8
        A few pictures at the model's input size, for the comparison.
    complete : callable, optional
        Called with the draft of the bundle before it is put in its place, to add to it.

    Raises
    ------
    ModelError
        The graph does not have the layers of the model, or its answers differ from those of the
        rebuilt model, or by more than rounding from those of the model itself.
    BundleError
        The model card is not valid.
    """
    import openvino

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        export_graph(model, draft / "whole.xml")
        graph = openvino.Core().read_model(draft / "whole.xml")
        _halve_convolutions(graph, model)
        # Compressing the whole graph would round the means that pixels are centred by as well.
        openvino.save_model(graph, draft / "served.xml", compress_to_fp16=False)
        del graph  # it holds whole.bin open, which Windows would refuse to delete
        for left in (draft / "whole.xml", draft / "whole.bin"):
            left.unlink()
        kernels, biases = zip(*head_matrices(model), strict=True)
        Head(kernels, biases).save(draft / "head.npz")
        files = {name: file_sha256(draft / name) for name in SERVED_FILES}
        write_model_card(draft, replace(card, files=files))
        bundle = open_bundle(draft)
        check_bundle(bundle, pixels)
        _check_rounding(bundle, model, pixels)
        complete(bundle)
        draft.chmod(0o755)
        put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return open_bundle(folder)


def _check_rounding(bundle: Bundle, model: keras.Model, pixels: np.ndarray) -> None:
    whole = reference_logits(model, pixels)
    difference = float(np.abs(Engine(bundle).predict(pixels) - whole).max())
    allowed = MAX_ROUNDING * max(1.0, float(np.abs(whole).max()))
    if not difference <= allowed:
        raise ModelError(
            f"In half precision the logits of {model.name} move by {difference:.2g}; at most "
            f"{allowed:.2g} is rounding. Keep this model whole."
        )


def _halve_convolutions(graph: Any, model: keras.Model) -> None:
    """Give each convolution of a graph the name of its layer, and a kernel in half precision."""
    from openvino import Type
    from openvino import opset13 as ops

    found, layers = convolutions(graph), convolution_layers(model)
    if len(found) != len(layers):
        raise ModelError(
            f"The graph of {model.name} has {len(found)} convolutions and its model "
            f"{len(layers)}: only plain ones such as ResNet50's can be kept in half precision."
        )
    for op, layer in zip(found, layers, strict=True):
        height, width, inputs, outputs = layer.kernel.shape
        kernel = op.input_value(1).get_node().get_data()
        if kernel.shape != (outputs, inputs, height, width):
            raise ModelError(
                f"The convolution {layer.name} has the shape {kernel.shape} in the graph of "
                f"{model.name}: only plain ones such as ResNet50's can be kept in half precision."
            )
        half = ops.convert(ops.constant(kernel.astype(np.float16)), Type.f32)
        op.input(1).replace_source_output(half.output(0))
        op.set_friendly_name(layer.name)
