"""A model in other programs' formats answers there as it does here, or is not written."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.errors import BundleError, ConfigError, ModelError
from bc_model.inference import export as export_formats
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.export import FORMATS, Exported, export_model
from bc_model.inference.model_card import MODEL_CARD_FILE
from bc_model.model import load_keras
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
    """Run one picture at a time, as a phone would, at the size that the file names."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (read,), (write,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for one in pixels:
        interpreter.set_tensor(read["index"], one[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(write["index"])[0])
    return np.stack(found)


INTERPRETERS = {"keras": by_keras, "onnx": by_onnxruntime, "tflite": by_tflite}


@pytest.fixture
def bundle(tiny_run: Run, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model")))


@pytest.fixture(scope="module", params=FORMATS)
def exported(
    request: pytest.FixtureRequest,
    tiny_run: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    folder = tmp_path_factory.mktemp("exported") / "made/on the way"
    return export_model(open_bundle(tiny_run.path), request.param, folder)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def giving(found: float) -> Callable[..., np.ndarray]:
    """Return a writer whose file answers with this number."""

    def write(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
        path.write_text("a model")
        return np.full((len(pixels), 2), found, np.float32)

    return write


# TensorFlow plans to move the interpreter elsewhere.
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_the_file_answers_in_its_own_interpreter(exported: Exported, tiny_run: Run) -> None:
    expected = load_keras(open_bundle(tiny_run.path).file("model.keras")).predict_on_batch(PIXELS)
    found = INTERPRETERS[exported.format](exported.path, PIXELS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_difference_that_was_found_is_told(exported: Exported) -> None:
    assert 0 <= exported.max_difference < 1e-4
    assert exported.n_images == 8


def test_the_file_is_named_after_the_model_and_alone(exported: Exported) -> None:
    assert files(exported.path.parent) == [f"tiny.{exported.format}"]


def test_the_bundle_itself_is_not_touched(exported: Exported, tiny_run: Run) -> None:
    bundle = open_bundle(tiny_run.path)
    bundle.verify()
    assert set(files(bundle.folder)) == {*bundle.card.files, "model_card.json"}


def test_an_older_file_is_replaced_and_others_stay(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("tiny.keras", "mine.txt"):
        (tmp_path / "out" / name).write_text("old")
    written = export_model(bundle, "keras", tmp_path / "out")
    assert written.path.read_bytes() == bundle.file("model.keras").read_bytes()
    assert (tmp_path / "out/mine.txt").read_text() == "old"
    assert files(tmp_path / "out") == ["mine.txt", "tiny.keras"]


@pytest.mark.parametrize("found", [0.25, np.nan], ids=["other", "no number"])
def test_a_file_that_answers_otherwise_is_not_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: float
) -> None:
    monkeypatch.setitem(export_formats._WRITERS, "onnx", giving(found))
    with pytest.raises(ModelError, match=r"The onnx file of tiny .* was not written"):
        export_model(bundle, "onnx", tmp_path / "out")
    assert files(tmp_path / "out") == []


def test_a_file_that_answers_otherwise_leaves_the_older_one(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/tiny.onnx").write_text("old")
    monkeypatch.setitem(export_formats._WRITERS, "onnx", giving(0.25))
    with pytest.raises(ModelError):
        export_model(bundle, "onnx", tmp_path / "out")
    assert (tmp_path / "out/tiny.onnx").read_text() == "old"


def test_a_conversion_that_fails_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bundle: Bundle, model: keras.Model, path: Path, pixels: np.ndarray) -> np.ndarray:
        path.write_text("half a model")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export_formats._WRITERS, "onnx", fail)
    with pytest.raises(OSError, match="No space"):
        export_model(bundle, "onnx", tmp_path / "out")
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize("fmt", ["pickle", "ONNX", ""])
def test_an_unknown_format_is_refused(bundle: Bundle, tmp_path: Path, fmt: str) -> None:
    with pytest.raises(ConfigError, match="choose one of keras, onnx, tflite"):
        export_model(bundle, fmt, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changed_weights_are_not_exported(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "model.keras").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.keras"):
        export_model(bundle, "keras", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../stray", "{elsewhere}/stray"], ids=["up", "absolute"])
def test_a_name_in_the_card_cannot_reach_outside_the_folder(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    """The passport is as trustworthy as whoever sent the bundle; no hash covers its name."""
    mine = [tmp_path / "stray.keras", tmp_path / "elsewhere/stray.keras"]
    mine[1].parent.mkdir()
    for path in mine:
        path.write_text("mine")
    card = to_json(bundle.card) | {"name": name.format(elsewhere=mine[1].parent)}
    (bundle.folder / MODEL_CARD_FILE).write_text(json.dumps(card))
    with contextlib.suppress(ModelError):  # refused, or written under a name that is safe
        export_model(open_bundle(bundle.folder), "keras", tmp_path / "out")
    assert [path.is_file() and path.read_text() for path in mine] == ["mine", "mine"]
