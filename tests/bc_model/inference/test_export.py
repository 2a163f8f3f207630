"""Writing a bundle completely or not at all."""

import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from bc_model.errors import BundleError
from bc_model.inference import export
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.export import check_bundle, rebuild_keras_model, write_bundle
from bc_model.inference.model_card import ModelCard
from bc_model.model import (
    HEAD_NEGATIVE_SLOPE,
    build_model,
    head_slope,
    load_keras,
    logits_output,
    reference_logits,
    weights_fingerprint,
)
from bc_model.training.run import Run


@pytest.fixture(scope="module")
def draft(tiny_run: Run) -> ModelCard:
    return replace(open_bundle(tiny_run.path).card, files={})


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_model("tiny", image_size=(32, 32), dense_units=(4,))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_write_bundle_then_open_returns_the_same_card(
    model: keras.Model, draft: ModelCard, tmp_path: Path
) -> None:
    written = write_bundle(model, tmp_path / "run" / "model", draft)
    written.verify()
    assert open_bundle(tmp_path / "run").card == written.card
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


def test_write_bundle_saves_the_weights_in_the_keras_file(
    model: keras.Model, draft: ModelCard, tmp_path: Path
) -> None:
    bundle = write_bundle(model, tmp_path / "model", draft)
    loaded = load_keras(bundle.file("model.keras"))
    assert weights_fingerprint(loaded) == weights_fingerprint(model)


def test_write_bundle_saves_no_optimizer_state(draft: ModelCard, tmp_path: Path) -> None:
    trained = build_model("tiny", image_size=(32, 32), dense_units=())
    trained.compile(optimizer="adam", loss="categorical_crossentropy")
    trained.train_on_batch(np.zeros((2, 32, 32, 3), "float32"), np.eye(2, dtype="float32"))
    bundle = write_bundle(trained, tmp_path / "model", draft)
    with zipfile.ZipFile(bundle.file("model.keras")) as archive:
        archive.extract("model.weights.h5", tmp_path)
    with h5py.File(tmp_path / "model.weights.h5") as weights:
        assert "optimizer" not in weights


def test_write_bundle_without_dense_layers_can_predict(draft: ModelCard, tmp_path: Path) -> None:
    bare = build_model("tiny", image_size=(32, 32), dense_units=())
    bundle = write_bundle(bare, tmp_path / "model", draft)
    assert Engine(bundle).predict(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 2)


@pytest.mark.parametrize(
    ("dense_units", "slope"), [((), 0.0), ((4,), 0.0), ((4, 3), HEAD_NEGATIVE_SLOPE)]
)
def test_rebuild_keras_model_has_the_activation_of_the_card(
    dense_units: tuple[int, ...], slope: float, draft: ModelCard, tmp_path: Path
) -> None:
    network = build_model(
        "tiny", image_size=(32, 32), dense_units=dense_units, head_negative_slope=slope
    )
    architecture = replace(draft.architecture, dense_units=dense_units, negative_slope=slope)
    card = replace(draft, architecture=architecture)
    bundle = write_bundle(network, tmp_path / "model", card)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    check_bundle(bundle, pixels)
    rebuilt = rebuild_keras_model(bundle)
    assert head_slope(rebuilt) == slope
    np.testing.assert_array_equal(
        reference_logits(rebuilt, pixels), reference_logits(network, pixels)
    )


def test_write_bundle_with_additional_outputs_keeps_the_first_two(
    draft: ModelCard, tmp_path: Path
) -> None:
    """Each swish of an EfficientNet adds an output to the converted graph."""
    network = build_model("efficientnetb0", image_size=(32, 32), dense_units=())
    engine = Engine(write_bundle(network, tmp_path / "model", draft))
    pixels = np.full((1, 32, 32, 3), 128, np.uint8)
    expected = keras.Model(network.inputs[0], logits_output(network))(pixels.astype("float32"))
    np.testing.assert_allclose(engine.predict(pixels), expected.numpy(), atol=1e-6)


def test_write_bundle_with_a_failed_export_leaves_nothing(
    model: keras.Model, draft: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: keras.Model, path: Path) -> None:
        path.write_text("half a graph")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "export_graph", fail)
    with pytest.raises(OSError, match="No space"):
        write_bundle(model, tmp_path / "model", draft)
    assert not list(tmp_path.iterdir())


def test_write_bundle_with_an_invalid_card_leaves_nothing(
    model: keras.Model, draft: ModelCard, tmp_path: Path
) -> None:
    architecture = replace(draft.architecture, config={"steps": object()})
    with pytest.raises(BundleError, match="steps"):
        write_bundle(model, tmp_path / "model", replace(draft, architecture=architecture))
    assert not list(tmp_path.iterdir())


def existing(model: keras.Model, draft: ModelCard, folder: Path) -> tuple[Bundle, dict[str, bytes]]:
    bundle = write_bundle(model, folder, draft)
    return bundle, contents(folder)


def test_write_bundle_replaces_an_existing_bundle_completely(
    model: keras.Model, draft: ModelCard, tmp_path: Path
) -> None:
    old, _ = existing(model, draft, tmp_path / "model")
    (tmp_path / "model" / "stray.txt").write_text("x")
    other = build_model("tiny", image_size=(32, 32), dense_units=(4,))
    new = write_bundle(other, tmp_path / "model", draft)
    assert new.key != old.key
    new.verify()
    assert not (tmp_path / "model" / "stray.txt").exists()


def test_write_bundle_with_a_failed_export_keeps_the_existing_bundle(
    model: keras.Model, draft: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = existing(model, draft, tmp_path / "model")

    def fail(_: keras.Model, __: Path) -> None:
        raise RuntimeError("cannot be converted")

    monkeypatch.setattr(export, "export_graph", fail)
    with pytest.raises(RuntimeError, match="converted"):
        write_bundle(model, tmp_path / "model", draft)
    assert contents(tmp_path / "model") == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_write_bundle_with_a_failed_move_keeps_the_existing_bundle(
    model: keras.Model, draft: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = existing(model, draft, tmp_path / "model")
    replace = Path.replace

    def refuse(source: Path, target: Path) -> Path:
        if Path(target) == tmp_path / "model" and source.name.startswith(".model-"):
            raise PermissionError(13, "Permission denied")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write_bundle(model, tmp_path / "model", draft)
    assert contents(tmp_path / "model") == before
