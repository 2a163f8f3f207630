"""From a trained Keras model to a bundle on disk: the one part of serving with TensorFlow."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.data.images import preprocess_image
from bc_model.data.synthetic import generate_image
from bc_model.errors import ConfigError, ModelError
from bc_model.gradcam import GradCAM
from bc_model.inference.bundle import KERAS_FILE, SERVED_FILES, Bundle, file_sha256, open_bundle
from bc_model.inference.engine import GRAPH_FILES, Engine, Head
from bc_model.inference.model_card import ModelCard, write_model_card
from bc_model.model import (
    build_model,
    head_matrices,
    last_conv_output,
    load_keras,
    reference_logits,
    without_optimizer,
)
from bc_model.utils.console import silence_native_stderr
from bc_model.utils.io import write_text_atomic

if TYPE_CHECKING:
    import keras
    import openvino


def rebuild_keras_model(bundle: Bundle) -> keras.Model:
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
    model = rebuild_keras_model(bundle)
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


FORMATS = ("keras", "onnx", "tflite")
MAX_DIFFERENCE = 1e-4
"""Of a probability; two float32 engines add in different orders."""


@dataclass(frozen=True)
class Exported:
    """One written file.

    Attributes
    ----------
    format : {'keras', 'onnx', 'tflite'}
    path : Path
    max_difference : float
        Largest absolute difference of a probability from the reference.
    n_images : int
        Number of compared images.
    """

    format: str
    path: Path
    max_difference: float
    n_images: int


def export_model(bundle: Bundle, fmt: str, folder: Path) -> Exported:
    """Write a model in one format, after comparing it with the reference.

    Parameters
    ----------
    bundle : Bundle
    fmt : {'keras', 'onnx', 'tflite'}
    folder : Path
        Made when missing; the file is named after the model.

    Returns
    -------
    Exported

    Raises
    ------
    ConfigError
        Unknown format.
    ModelError
        The converted model gives other probabilities; nothing is written.
    """
    if fmt not in FORMATS:
        raise ConfigError(f"There is no format '{fmt}'; choose one of {', '.join(FORMATS)}.")
    model = rebuild_keras_model(bundle)
    pixels = _proxy_images(bundle.image_size)
    reference = model.predict_on_batch(pixels)
    folder.mkdir(parents=True, exist_ok=True)
    draft_folder = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    draft = draft_folder / f"{bundle.card.name}.{fmt}"
    try:
        found = _WRITERS[fmt](bundle, model, draft, pixels)
        difference = float(np.abs(found - reference).max())
        if not difference <= MAX_DIFFERENCE:
            raise ModelError(
                f"The {fmt} file of {bundle.card.name} gives probabilities that differ by "
                f"{difference:.2g} from the reference; at most {MAX_DIFFERENCE:g} is allowed, so "
                "it was not written."
            )
        path = folder / draft.name
        draft.replace(path)
    finally:
        shutil.rmtree(draft_folder, ignore_errors=True)
    return Exported(fmt, path, difference, len(pixels))


def _proxy_images(image_size: tuple[int, int]) -> np.ndarray:
    images = [
        preprocess_image(generate_image(malignant=bool(i % 2), seed=i, case_seed=i), image_size)
        for i in range(8)
    ]
    return np.stack(images).astype(np.float32)


def _write_keras(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    if KERAS_FILE in bundle.card.files:
        shutil.copyfile(bundle.file(KERAS_FILE), path)
    else:
        model.save(path)
    return load_keras(path).predict_on_batch(pixels)


def _write_onnx(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    with warnings.catch_warnings(), silence_native_stderr():
        warnings.simplefilter("ignore")  # the converter's own, about NumPy's old names
        model.export(str(path), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _write_tflite(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    with warnings.catch_warnings(), silence_native_stderr():
        warnings.simplefilter("ignore")  # TensorFlow's plan to move the interpreter elsewhere
        model.export(str(path), format="litert", verbose=False)
        interpreter = tf.lite.Interpreter(str(path))
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


_WRITERS = {"keras": _write_keras, "onnx": _write_onnx, "tflite": _write_tflite}


MAX_ROUNDING = 0.02
"""Of the largest logit, or of 1 where all are smaller: what 16 bits may move a logit by."""


def write_half_precision_bundle(
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
    passes_parity = MAX_ROUNDING * max(1.0, float(np.abs(whole).max()))
    if not difference <= passes_parity:
        raise ModelError(
            f"In half precision the logits of {model.name} move by {difference:.2g}; at most "
            f"{passes_parity:.2g} is rounding. Keep this model whole."
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
