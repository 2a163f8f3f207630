"""From a trained Keras model to a bundle on disk: the one part of serving with TensorFlow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_model.data.names import CLASSES
from bc_model.errors import ModelError
from bc_model.files import write_text_atomic
from bc_model.gradcam import GradCAM
from bc_model.model import (
    head_matrices,
    last_conv_output,
    reference_logits,
    without_optimizer,
)
from bc_model.serving.bundle import KERAS_FILE, SERVED_FILES, Bundle, file_sha256
from bc_model.serving.engine import Engine
from bc_model.serving.head import Head
from bc_model.serving.passport import ModelCard, write_model_card
from bc_model.serving.twin import load_twin

if TYPE_CHECKING:
    import keras

MAX_RELATIVE_DIFFERENCE = 1e-3
"""Of the largest logit, and of a map's range, between the served graph and TensorFlow."""


def write_bundle(
    model: keras.Model,
    folder: Path,
    card: ModelCard,
    tables: Mapping[str, str] | None = None,
) -> Bundle:
    """Write a bundle: beside its place first, then moved there in one step.

    Parameters
    ----------
    model : keras.Model
        As `bc_model.model.build_model` builds it, trained, with a fixed input size.
    folder : Path
        Replaced when it exists.
    card : ModelCard
        Complete but for `files`, which is filled in here.
    tables : mapping of str to str, optional
        Texts to put beside the weights, by name of their file.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        The model card is not valid.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        without_optimizer(model).save(draft / KERAS_FILE)
        export_graph(model, draft / "served.xml")
        kernels, biases = zip(*head_matrices(model), strict=True)
        Head(kernels, biases).save(draft / "head.npz")
        tables = tables or {}
        for name, text in tables.items():
            write_text_atomic(draft / name, text)
        names = (KERAS_FILE, *SERVED_FILES, *tables)
        files = {name: file_sha256(draft / name) for name in names}
        complete = replace(card, files=files)
        write_model_card(draft, complete)
        draft.chmod(0o755)
        put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Bundle(folder, complete)


def check_bundle(bundle: Bundle, pixels: np.ndarray) -> None:
    """Hold the written bundle against its own Keras model, read back from the disk.

    Parameters
    ----------
    bundle : Bundle
    pixels : ndarray of shape (n, height, width, 3), uint8
        A few pictures at the bundle's input size.

    Raises
    ------
    ModelError
        Logits or heatmaps differ by more than rounding explains.
    """
    model = load_twin(bundle)
    reference = reference_logits(model, pixels)
    logits, heatmaps = Engine(bundle).explain(pixels)
    differences = [_relative(logits, reference)]
    explain = GradCAM(model)
    for name in CLASSES:
        for one, expected in zip(heatmaps, explain(pixels, name), strict=True):
            differences.append(_relative(one[name].raw, expected.raw))
    if not max(differences) <= MAX_RELATIVE_DIFFERENCE:
        raise ModelError(
            f"The served graph of {bundle.label} strays from its Keras model by "
            f"{max(differences):.2g} of the range; at most {MAX_RELATIVE_DIFFERENCE:g} is allowed."
        )


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    scale = max(float(np.abs(expected).max()), 1e-6)
    return float(np.abs(found - expected).max()) / scale


def put_in_place(draft: Path, folder: Path) -> None:
    """Move a finished bundle to its place; the old one goes only when the new one stands."""
    old = draft.with_name(f".old{draft.name}")
    if folder.exists():
        folder.replace(old)
    try:
        draft.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def export_graph(model: keras.Model, path: Path) -> None:
    """Write the graph that is served: pixels to the last block's activations and their means."""
    import keras
    import openvino

    served = keras.Model(
        model.inputs[0], [last_conv_output(model), model.get_layer("pool").output], name="served"
    )
    raw = path.with_name("raw.xml")
    served.export(str(raw), format="openvino", verbose=False)
    graph = openvino.Core().read_model(raw)
    # Activations with a gradient of their own, such as EfficientNet's swish, leave one more output
    # each in the converted graph; ours are the first two.
    for extra in graph.get_results()[2:]:
        graph.remove_result(extra)
    openvino.save_model(graph, path, compress_to_fp16=False)
    del graph  # it holds raw.bin open, which Windows would refuse to delete
    for left in (raw, raw.with_suffix(".bin")):
        left.unlink()
