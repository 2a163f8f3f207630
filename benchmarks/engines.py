"""The inference engines that the benchmarks compare, each in its own process.

A factory gets the folder that `prepare` writes and returns functions by name. It is called in the
process of these functions, so that OpenVINO runs there without TensorFlow, as it does in the app.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peak_throughput import matrix_product

BATCH = 32
IMAGES = 3 * BATCH
"""Images of a timed run. The first batch of `Model.predict` after a pause is unusually fast."""
SIZE = (224, 224)
PRECISIONS = ("f32", "bf16", "int8")
Functions = dict[str, Callable[[], Any]]


def prepare(folder: Path) -> Any:
    """Write images, a ResNet50 with random weights, its bundle and its ONNX export.

    Returns
    -------
    keras.Model
        The model of the bundle.
    """
    from bc_model.data import generate_image, preprocess_image
    from bc_model.inference import export_model, measure_parity, quantize, write_bundle
    from bc_model.model import build_model
    from benchmarks.model_card import dummy_model_card

    synthetic = [generate_image(malignant=bool(i % 2), seed=i, case_seed=i) for i in range(IMAGES)]
    pixels = np.stack([preprocess_image(rgb, SIZE) for rgb in synthetic])
    np.save(folder / "pixels.npy", pixels)
    model = build_model("resnet50", image_size=SIZE)
    bundle = write_bundle(model, folder / "model", dummy_model_card(SIZE))
    bundle = quantize(bundle, pixels)
    bundle = measure_parity(bundle, pixels, np.arange(IMAGES) % 2 == 1)
    export_model(bundle, "onnx", folder)
    return model


def tensorflow_batch(folder: Path) -> Functions:
    """Return two ways to predict with Keras."""
    import tensorflow as tf

    model, pixels = _keras(folder), _pixels(folder).astype(np.float32)
    compiled = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec((None, *SIZE, 3), tf.float32)],
    )
    tensors = [tf.constant(batch) for batch in _batches(pixels)]
    return {
        "Model.predict": lambda: model.predict(pixels, batch_size=BATCH, verbose=0),
        "tf.function": lambda: [compiled(tensor).numpy() for tensor in tensors],
    }


def onnx_batch(folder: Path) -> Functions:
    """Return ONNX Runtime with default options."""
    import onnxruntime

    batches = _batches(_pixels(folder).astype(np.float32))
    session = onnxruntime.InferenceSession(
        next(folder.glob("*.onnx")), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return {"ONNX Runtime": lambda: [session.run(None, {name: batch}) for batch in batches]}


def openvino_batch(folder: Path) -> Functions:
    """Return the engine of this project at each precision, and with all heatmaps."""
    batches = _batches(_pixels(folder))
    engines = {name: _engine(folder, name) for name in PRECISIONS}
    functions: Functions = {
        name: lambda engine=engine: [engine.predict(batch) for batch in batches]
        for name, engine in engines.items()
    }
    explain = engines["f32"].explain
    return functions | {"f32 with heatmaps": lambda: [explain(batch) for batch in batches]}


def peak_batch(folder: Path) -> Functions:
    """Return large matrix products by OpenVINO."""
    return {f"peak {name}": matrix_product(name) for name in ("f32", "bf16")}


def openvino_single(folder: Path) -> Functions:
    """Return functions for one decoded image, and for a PNG file up to both overlays."""
    from bc_model.data import CLASSES, decode_image, example_png
    from bc_model.gradcam import compute_full_scale, encode_jpeg, overlay_heatmap
    from bc_model.inference import BatchingEngine, Classifier

    engine = _engine(folder, "f32")
    single = _pixels(folder)[:1]
    classifier = Classifier(BatchingEngine(engine))
    data = example_png(malignant=True)

    def decode_to_overlay() -> None:
        rgb = decode_image(data, "example.png")
        maps = classifier.predict(rgb, magnification=200, show_anyway=True).heatmaps
        scale = compute_full_scale(maps)
        for name in CLASSES:
            encode_jpeg(overlay_heatmap(rgb, maps[name], full_scale=scale))

    return {
        "this project": lambda: engine.explain(single),
        "fine heatmaps": lambda: engine.explain(single, "fine"),
        "finest heatmaps": lambda: engine.explain(single, "finest"),
        "prediction alone": lambda: engine.predict(single),
        "decode to overlay": decode_to_overlay,
    }


def tensorflow_single(folder: Path) -> Functions:
    """Return Grad-CAM by automatic differentiation: the reference, and tf-keras-vis."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    from bc_model.gradcam import GradCAM

    model, single = _keras(folder), _pixels(folder)[:1]
    tape = GradCAM(model)
    keras_vis = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)
    return {
        "GradientTape": lambda: tape(single, "malignant"),
        "tf-keras-vis": lambda: keras_vis(
            CategoricalScore([1]),
            single.astype(np.float32),
            penultimate_layer="conv5_block3_out",
            seek_penultimate_conv_layer=False,
        ),
    }


def _pixels(folder: Path) -> np.ndarray:
    return np.load(folder / "pixels.npy")


def _batches(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH)]


def _engine(folder: Path, precision: str) -> Any:
    from bc_model.inference import Engine, open_bundle

    return Engine(open_bundle(folder / "model"), precision, require_parity=False)


def _keras(folder: Path) -> Any:
    from bc_model.inference import KERAS_FILE
    from bc_model.model import load_keras

    return load_keras(folder / "model" / KERAS_FILE)
