"""Write model bundles, rebuild their Keras models, and export models to other formats.

This is the only part of inference that loads TensorFlow. A file is written completely or not at
all, and only after a comparison with the Keras model.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.data.images import preprocess_image
from bc_model.data.synthetic import generate_image
from bc_model.errors import BundleError, ConfigError, ModelError
from bc_model.gradcam import GradCAM
from bc_model.inference.bundle import KERAS_FILE, SERVED_FILES, Bundle, file_sha256, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.head import Head
from bc_model.inference.model_card import ModelCard, write_model_card
from bc_model.inference.precision import GRAPH_FILES
from bc_model.model import (
    build_model,
    head_matrices,
    head_slope,
    last_conv_output,
    load_keras,
    load_weights,
    reference_logits,
    require_finite_weights,
    without_optimizer,
)
from bc_model.utils.console import silence_native_stderr
from bc_model.utils.io import write_text_atomic

if TYPE_CHECKING:
    import keras
    import openvino

FORMATS = ("keras", "onnx", "tflite")

MAX_GRAPH_DIFFERENCE = 1e-3
"""Largest difference between the inference graph and Keras, relative to the largest value."""

MAX_HALF_PRECISION_DIFFERENCE = 0.02
"""Largest difference of a logit through half precision, relative to max(1, largest logit)."""

MAX_EXPORT_DIFFERENCE = 1e-4
"""Largest difference of a probability, because two float32 engines add in different orders."""


def write_bundle(
    model: keras.Model, folder: Path, card: ModelCard, tables: Mapping[str, str] | None = None
) -> Bundle:
    """Write a bundle with the Keras model, the inference graph, the head and the model card.

    Parameters
    ----------
    model : keras.Model
        Trained model from `build_model` with a fixed input size.
    folder : Path
        Directory of the bundle, replaced if it exists.
    card : ModelCard
        Model card without `files`, which this function fills in.
    tables : mapping of str to str, optional
        Texts of additional files by file name.

    Raises
    ------
    BundleError
        The model card is not valid.
    """
    tables = tables or {}
    require_finite_weights(model, f"The weights of {card.name}")
    with _draft_of(folder) as draft:
        without_optimizer(model).save(draft / KERAS_FILE)
        export_graph(model, draft / "served.xml")
        _write_head(model, draft)
        for name, text in tables.items():
            write_text_atomic(draft / name, text)
        complete = _with_hashes(card, draft, (KERAS_FILE, *SERVED_FILES, *tables))
        write_model_card(draft, complete)
    return Bundle(folder, complete)


def write_half_precision_bundle(
    model: keras.Model,
    folder: Path,
    card: ModelCard,
    pixels: np.ndarray,
    *,
    complete: Callable[[Bundle], None] = lambda draft: None,
) -> Bundle:
    """Write the bundle of a ResNet50 with float16 weights and without a Keras file.

    The bundle is compared with the model on a few images, `pixels`, as in `check_bundle`.
    `complete` is called with the draft of the bundle, to add to it before it moves to its place. A
    `ModelError` is raised if the outputs differ too much.
    """
    require_finite_weights(model, f"The weights of {card.name}")
    with _draft_of(folder) as draft:
        export_graph(model, draft / "served.xml", half_precision=True)
        _write_head(model, draft)
        write_model_card(draft, _with_hashes(card, draft, SERVED_FILES))
        bundle = open_bundle(draft)
        check_bundle(bundle, pixels)
        _check_rounding(bundle, model, pixels)
        complete(bundle)
    return open_bundle(folder)


@contextmanager
def _draft_of(folder: Path) -> Iterator[Path]:
    """Yield a temporary directory that replaces `folder` if the block succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        _replace_directory(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace_directory(draft: Path, folder: Path) -> None:
    """Move a directory to its place; delete the old one only after the new one is there."""
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


def _write_head(model: keras.Model, folder: Path) -> None:
    kernels, biases = zip(*head_matrices(model), strict=True)
    Head(kernels, biases, head_slope(model)).save(folder / "head.npz")


def _with_hashes(card: ModelCard, folder: Path, names: tuple[str, ...]) -> ModelCard:
    return replace(card, files={name: file_sha256(folder / name) for name in names})


def export_graph(model: keras.Model, path: Path, *, half_precision: bool = False) -> None:
    """Write the inference graph: from pixels to the last activations and their means."""
    import keras
    import openvino

    served = keras.Model(
        model.inputs[0], [last_conv_output(model), model.get_layer("pool").output], name="served"
    )
    raw = path.with_name("raw.xml")
    served.export(str(raw), format="openvino", verbose=False)
    graph = openvino.Core().read_model(raw)
    # Activations with their own gradient, such as the swish of EfficientNet, add one output each.
    for extra in graph.get_results()[2:]:
        graph.remove_result(extra)
    if half_precision:
        _halve_convolutions(graph, model)
    # Compressing the entire graph would also round the pixel means of the preprocessing.
    openvino.save_model(graph, path, compress_to_fp16=False)
    del graph  # the graph keeps raw.bin open, and Windows cannot delete an open file
    raw.unlink()
    raw.with_suffix(".bin").unlink()


def check_bundle(bundle: Bundle, pixels: np.ndarray) -> None:
    """Raise a `ModelError` if a bundle differs from its own Keras model.

    `pixels` are a few images at the input size of the network, shape (n, height, width, 3), uint8.
    """
    model = rebuild_keras_model(bundle)
    logits, heatmaps, *_ = Engine(bundle).explain(pixels)
    differences = [_relative_difference(logits, reference_logits(model, pixels))]
    explain = GradCAM(model)
    for name in CLASSES:
        for maps, expected in zip(heatmaps, explain(pixels, name), strict=True):
            differences.append(_relative_difference(maps[name].raw, expected.raw))
    if not max(differences) <= MAX_GRAPH_DIFFERENCE:
        raise ModelError(
            f"The inference graph of {bundle.label} differs from its Keras model. Expected a "
            f"relative difference of at most {MAX_GRAPH_DIFFERENCE:g}, got {max(differences):.2g}."
        )


def _relative_difference(found: np.ndarray, expected: np.ndarray, min_scale: float = 1e-6) -> float:
    return float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), min_scale)


def _check_rounding(bundle: Bundle, model: keras.Model, pixels: np.ndarray) -> None:
    logits, expected = Engine(bundle).predict(pixels), reference_logits(model, pixels)
    difference = _relative_difference(logits, expected, min_scale=1.0)
    if not difference <= MAX_HALF_PRECISION_DIFFERENCE:
        raise ModelError(
            f"Half precision changes the logits of {model.name} too much. Expected at most "
            f"{MAX_HALF_PRECISION_DIFFERENCE:g} of the largest logit, got {difference:.2g}."
        )


def _halve_convolutions(graph: Any, model: keras.Model) -> None:
    """Give each convolution of a graph the name of its layer, and a float16 kernel."""
    from openvino import Type
    from openvino import opset13 as ops

    nodes, layers = _convolution_nodes(graph), convolution_layers(model)
    kernels = [node.input_value(1).get_node().get_data() for node in nodes]
    if len(nodes) != len(layers) or any(
        kernel.transpose(2, 3, 1, 0).shape != tuple(layer.kernel.shape)
        for kernel, layer in zip(kernels, layers, strict=True)
    ):
        raise ModelError(
            f"The inference graph of {model.name} does not have the convolutions of its layers. "
            "Half precision supports only plain convolutions, such as those of ResNet50."
        )
    for node, kernel, layer in zip(nodes, kernels, layers, strict=True):
        half = ops.convert(ops.constant(kernel.astype(np.float16)), Type.f32)
        node.input(1).replace_source_output(half.output(0))
        node.set_friendly_name(layer.name)


def rebuild_keras_model(bundle: Bundle) -> keras.Model:
    """Return the network of a bundle as a Keras model, for explanations and training.

    Raises
    ------
    BundleError
        A file is damaged or belongs to another network than the model card.
    WeightsError
        A weight is not finite.
    """
    architecture = bundle.card.architecture
    model = build_model(
        architecture.backbone,
        image_size=bundle.image_size,
        weights="none",
        dense_units=architecture.dense_units,
        dropout=architecture.dropout,
        head_negative_slope=architecture.negative_slope,
    )
    if KERAS_FILE in bundle.card.files:
        path = bundle.file(KERAS_FILE)
        try:
            load_weights(model, path)
        except (OSError, ModelError) as error:
            raise BundleError(
                f"{path} is not the network of its model card. {error} Export the model again."
            ) from error
    else:
        _set_served_weights(model, bundle)
    require_finite_weights(model, f"The weights of {bundle.label}")
    return model


def _set_served_weights(model: keras.Model, bundle: Bundle) -> None:
    """Set the weights of a model from the inference graph and the head of a bundle."""
    import openvino

    graph = openvino.Core().read_model(*(bundle.file(name) for name in GRAPH_FILES["f32"]))
    _set_convolutions(graph, model, bundle.label)
    head = Head.load(bundle.file("head.npz"))
    start = model.layers.index(model.get_layer("pool"))
    dense = [layer for layer in model.layers[start:] if layer.weights]
    shapes = [kernel.shape for kernel in head.kernels]
    slope = np.float32(head_slope(model))
    if [layer.kernel.shape for layer in dense] != shapes or slope != head.negative_slope:
        raise BundleError(
            f"The head of {bundle.label} is not that of its model card. Export the model again."
        )
    for layer, kernel, bias in zip(dense, head.kernels, head.biases, strict=True):
        layer.set_weights([kernel, bias])


def convolution_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the convolutional layers in the order of OpenVINO: the shortcut of a block first."""
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return sorted(layers, key=lambda layer: layer.name.split("_conv")[0])


def _convolution_nodes(graph: openvino.Model) -> list[openvino.Node]:
    return [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]


def _set_convolutions(graph: openvino.Model, model: keras.Model, label: str) -> None:
    nodes = {node.get_friendly_name(): node for node in _convolution_nodes(graph)}
    layers = convolution_layers(model)
    if set(nodes) != {layer.name for layer in layers}:
        raise ModelError(
            f"The inference graph of {label} does not contain the layers of {model.name}."
        )
    for layer in layers:
        kernel, bias = _kernel_and_bias(nodes[layer.name])
        norm = model.get_layer(layer.name.replace("_conv", "_bn"))
        ones = np.ones(norm.gamma.shape, np.float32)
        # The graph contains folded batch norms, so gamma / sqrt(variance + epsilon) must be 1.
        layer.set_weights([kernel, 0 * bias] if layer.use_bias else [kernel])
        norm.set_weights([ones * np.sqrt(1.0 + norm.epsilon), bias, 0 * ones, ones])


def _kernel_and_bias(node: openvino.Node) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel (height, width, inputs, outputs) and bias of a convolution, float32."""
    addition = next(iter(node.output(0).get_target_inputs())).get_node()
    kernel, bias = (
        _constant_values(source.input_value(1).get_node()) for source in (node, addition)
    )
    return kernel.transpose(2, 3, 1, 0), bias.reshape(-1)


def _constant_values(node: openvino.Node) -> np.ndarray:
    is_half = node.get_type_name() == "Convert"
    return np.asarray((node.input_value(0).get_node() if is_half else node).get_data(), np.float32)


@dataclass(frozen=True)
class ExportedModel:
    """An exported file, and its largest difference of a probability from the Keras model."""

    format: str
    path: Path
    max_difference: float
    n_images: int


def export_model(bundle: Bundle, fmt: str, folder: Path) -> ExportedModel:
    """Export a model to another format, after a comparison with the Keras model.

    Parameters
    ----------
    bundle : Bundle
    fmt : {'keras', 'onnx', 'tflite'}
    folder : Path
        Output directory, created if missing. The file has the name of the model.

    Raises
    ------
    ConfigError
        The format is unknown.
    ModelError
        The exported model returns other probabilities. Nothing is written.
    """
    if fmt not in FORMATS:
        raise ConfigError(f"Unknown format '{fmt}'. Choose one of {', '.join(FORMATS)}.")
    model = rebuild_keras_model(bundle)
    pixels = _synthetic_pixels(bundle.image_size)
    reference = model.predict_on_batch(pixels)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        draft = Path(temporary) / f"{bundle.card.name}.{fmt}"
        probabilities = _WRITERS[fmt](bundle, model, draft, pixels)
        difference = float(np.abs(probabilities - reference).max())
        if not difference <= MAX_EXPORT_DIFFERENCE:
            raise ModelError(
                f"The {fmt} file of {bundle.card.name} was not written, because its probabilities "
                f"differ from the Keras model. Expected a difference of at most "
                f"{MAX_EXPORT_DIFFERENCE:g}, got {difference:.2g}."
            )
        path = folder / draft.name
        draft.replace(path)
    return ExportedModel(fmt, path, difference, len(pixels))


def _synthetic_pixels(image_size: tuple[int, int]) -> np.ndarray:
    images = [
        preprocess_image(generate_image(malignant=bool(i % 2), seed=i, case_seed=i), image_size)
        for i in range(8)
    ]
    return np.stack(images).astype(np.float32)


def _write_keras(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    model.save(path)
    return load_keras(path).predict_on_batch(pixels)


def _write_onnx(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    with warnings.catch_warnings(), silence_native_stderr():
        warnings.simplefilter("ignore")  # deprecated NumPy names in the converter
        model.export(str(path), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _write_tflite(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    with warnings.catch_warnings(), silence_native_stderr():
        warnings.simplefilter("ignore")  # TensorFlow will move the interpreter to another package
        model.export(str(path), format="litert", verbose=False)
        interpreter = tf.lite.Interpreter(str(path))
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


_WRITERS = {"keras": _write_keras, "onnx": _write_onnx, "tflite": _write_tflite}
