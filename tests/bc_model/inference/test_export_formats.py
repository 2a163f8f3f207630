"""Exported models: equal probabilities in other interpreters, or no file."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.errors import BundleError, ConfigError, ModelError
from bc_model.inference import export
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.export import FORMATS, ExportedModel, export_model, write_bundle
from bc_model.inference.model_card import MODEL_CARD_FILE
from bc_model.model import build_model, load_keras, weights_fingerprint
from bc_model.training.run import Run
from bc_model.utils.serialization import to_json

PIXELS = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)


def by_keras(path: Path, pixels: np.ndarray) -> np.ndarray:
    return keras.models.load_model(path, compile=False).predict_on_batch(pixels)


def by_onnxruntime(path: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def by_tflite(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Run one image at a time, at the input size of the file."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    probabilities = []
    for image in pixels:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        probabilities.append(interpreter.get_tensor(target["index"])[0])
    return np.stack(probabilities)


INTERPRETERS = {"keras": by_keras, "onnx": by_onnxruntime, "tflite": by_tflite}


@pytest.fixture
def bundle(tiny_run: Run, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model")))


@pytest.fixture(scope="module", params=FORMATS)
def exported(
    request: pytest.FixtureRequest,
    tiny_run: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> ExportedModel:
    folder = tmp_path_factory.mktemp("exported") / "new/directory"
    return export_model(open_bundle(tiny_run.path), request.param, folder)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("fmt", FORMATS)
def test_export_model_with_a_linear_head(fmt: str, tiny_run: Run, tmp_path: Path) -> None:
    card = open_bundle(tiny_run.path).card
    architecture = replace(card.architecture, dense_units=(), negative_slope=0.0)
    network = build_model("tiny", image_size=(32, 32), dense_units=())
    bundle = write_bundle(network, tmp_path / "model", replace(card, architecture=architecture))
    result = export_model(bundle, fmt, tmp_path)
    probabilities = INTERPRETERS[fmt](result.path, PIXELS)
    np.testing.assert_allclose(probabilities, network(PIXELS).numpy(), atol=1e-4)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def writer_returning(probability: float) -> Callable[..., np.ndarray]:
    """Return a writer whose file returns this probability."""

    def write(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
        path.write_text("a model")
        return np.full((len(pixels), 2), probability, np.float32)

    return write


# TensorFlow will move the interpreter to another package.
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_export_model_returns_equal_probabilities_in_its_interpreter(
    exported: ExportedModel, tiny_run: Run
) -> None:
    expected = load_keras(open_bundle(tiny_run.path).file("model.keras")).predict_on_batch(PIXELS)
    found = INTERPRETERS[exported.format](exported.path, PIXELS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_export_model_returns_the_largest_difference(exported: ExportedModel) -> None:
    assert 0 <= exported.max_difference < 1e-4
    assert exported.n_images == 8


def test_export_model_writes_one_file_with_the_model_name(exported: ExportedModel) -> None:
    assert files(exported.path.parent) == [f"tiny.{exported.format}"]


def test_export_model_does_not_change_the_bundle(exported: ExportedModel, tiny_run: Run) -> None:
    bundle = open_bundle(tiny_run.path)
    bundle.verify()
    assert set(files(bundle.folder)) == {*bundle.card.files, "model_card.json"}


def test_export_model_replaces_only_its_own_file(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("tiny.keras", "mine.txt"):
        (tmp_path / "out" / name).write_text("old")
    written = export_model(bundle, "keras", tmp_path / "out")
    exported, own = load_keras(written.path), load_keras(bundle.file("model.keras"))
    assert weights_fingerprint(exported) == weights_fingerprint(own)
    assert (tmp_path / "out/mine.txt").read_text() == "old"
    assert files(tmp_path / "out") == ["mine.txt", "tiny.keras"]


@pytest.mark.parametrize("probability", [0.25, np.nan], ids=["other", "nan"])
def test_export_model_with_other_probabilities_writes_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probability: float
) -> None:
    monkeypatch.setitem(export._WRITERS, "onnx", writer_returning(probability))
    with pytest.raises(ModelError, match="The onnx file of tiny was not written"):
        export_model(bundle, "onnx", tmp_path / "out")
    assert files(tmp_path / "out") == []


def test_export_model_with_other_probabilities_keeps_the_older_file(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/tiny.onnx").write_text("old")
    monkeypatch.setitem(export._WRITERS, "onnx", writer_returning(0.25))
    with pytest.raises(ModelError):
        export_model(bundle, "onnx", tmp_path / "out")
    assert (tmp_path / "out/tiny.onnx").read_text() == "old"


def test_export_model_with_a_failed_conversion_writes_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
        path.write_text("half a model")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export._WRITERS, "onnx", fail)
    with pytest.raises(OSError, match="No space"):
        export_model(bundle, "onnx", tmp_path / "out")
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize("fmt", ["pickle", "ONNX", ""])
def test_export_model_with_an_unknown_format_raises_config_error(
    bundle: Bundle, tmp_path: Path, fmt: str
) -> None:
    with pytest.raises(ConfigError, match="Choose one of keras, onnx, tflite"):
        export_model(bundle, fmt, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_model_with_changed_weights_raises_bundle_error(
    bundle: Bundle, tmp_path: Path
) -> None:
    (bundle.folder / "model.keras").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.keras"):
        export_model(bundle, "keras", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../stray", "{elsewhere}/stray"], ids=["up", "absolute"])
def test_export_model_with_a_path_as_name_writes_only_inside_the_directory(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    """A model card can come from an untrusted source, and no hash covers its name."""
    mine = [tmp_path / "stray.keras", tmp_path / "elsewhere/stray.keras"]
    mine[1].parent.mkdir()
    for path in mine:
        path.write_text("mine")
    card = to_json(bundle.card) | {"name": name.format(elsewhere=mine[1].parent)}
    (bundle.folder / MODEL_CARD_FILE).write_text(json.dumps(card))
    with contextlib.suppress(ModelError):  # an error, or a file with a safe name
        export_model(open_bundle(bundle.folder), "keras", tmp_path / "out")
    assert [path.is_file() and path.read_text() for path in mine] == ["mine", "mine"]
