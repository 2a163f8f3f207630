"""A bundle's model in other programs' formats, each compared with the reference as it is written.

`.keras` is the file of the bundle itself, where it has one. ONNX and TFLite are converted from it
and run once by their own interpreters on drawn pictures; the largest difference of a probability is
reported.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bc_model.data.pictures import model_input
from bc_model.data.synthetic import draw_picture
from bc_model.errors import ModelError, SettingsError
from bc_model.model import load_keras
from bc_model.quiet import native_stderr_silenced
from bc_model.serving.bundle import KERAS_FILE, Bundle
from bc_model.serving.twin import load_twin

if TYPE_CHECKING:
    import keras

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
    n : int
        Pictures compared.
    """

    format: str
    path: Path
    max_difference: float
    n: int


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
    SettingsError
        Unknown format.
    ModelError
        The converted model gives other probabilities; nothing is written.
    """
    if fmt not in FORMATS:
        raise SettingsError(f"There is no format '{fmt}'; choose one of {', '.join(FORMATS)}.")
    model = load_twin(bundle)
    pixels = _probe_pictures(bundle.image_size)
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


def _probe_pictures(image_size: tuple[int, int]) -> np.ndarray:
    pictures = [
        model_input(draw_picture(malignant=bool(i % 2), seed=i, case_seed=i), image_size)
        for i in range(8)
    ]
    return np.stack(pictures).astype(np.float32)


def _write_keras(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    if KERAS_FILE in bundle.card.files:
        shutil.copyfile(bundle.file(KERAS_FILE), path)
    else:
        model.save(path)
    return load_keras(path).predict_on_batch(pixels)


def _write_onnx(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    with warnings.catch_warnings(), native_stderr_silenced():
        warnings.simplefilter("ignore")  # the converter's own, about NumPy's old names
        model.export(str(path), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _write_tflite(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    with warnings.catch_warnings(), native_stderr_silenced():
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
