"""Faster precisions: written completely or not at all, and used only after a passed check."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from bc_model.errors import BundleError, ConfigError
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import MODEL_CARD_FILE, write_model_card
from bc_model.inference.precision import Parity
from bc_model.inference.quantization import measure_parity, quantize
from bc_model.training.run import Run
from bc_model.utils.serialization import to_json

INT8_FILES = {"served-int8.xml", "served-int8.bin"}
PASSED = Parity(0.001, 0.0, 6, True)
PIXELS = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
MALIGNANT = np.arange(8) % 2 == 1


def copy_without_parity(source: Path, target: Path) -> Bundle:
    """Copy a bundle without the parity checks that training stored."""
    bundle = open_bundle(Path(shutil.copytree(source, target)))
    write_model_card(target, dataclasses.replace(bundle.card, precisions={}))
    return open_bundle(target)


@pytest.fixture
def bundle(tiny_run: Run, tmp_path: Path) -> Bundle:
    return copy_without_parity(tiny_run.model_dir, tmp_path / "model")


@pytest.fixture(scope="module")
def quantized_folder(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "model"
    return quantize(copy_without_parity(tiny_run.model_dir, folder), PIXELS).folder


@pytest.fixture
def int8_bundle(quantized_folder: Path, tmp_path: Path) -> Bundle:
    """Return a bundle with an int8 graph and without a parity check."""
    return open_bundle(Path(shutil.copytree(quantized_folder, tmp_path / "int8")))


def set_supported(precisions: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a processor that supports these precisions."""
    for module in ("engine", "quantization"):
        monkeypatch.setattr(f"bc_model.inference.{module}.supported_precisions", lambda: precisions)


def with_parity(bundle: Bundle, **parities: Parity) -> Bundle:
    """Store parity checks in a model card."""
    precisions = bundle.card.precisions | parities
    write_model_card(bundle.folder, dataclasses.replace(bundle.card, precisions=precisions))
    return open_bundle(bundle.folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- The parity check ---


def test_measure_parity_with_float32_passes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32"}, monkeypatch)
    measured = measure_parity(bundle, PIXELS, MALIGNANT)
    parity = measured.card.precisions["f32"]
    assert parity.passes_parity
    assert parity.prob_difference_p99 < 1e-5
    assert (parity.auc_difference, parity.n_images) == (0.0, 8)


def test_measure_parity_changes_only_the_model_card(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32"}, monkeypatch)
    before = contents(bundle.folder)
    measured = measure_parity(bundle, PIXELS, MALIGNANT)
    after = contents(bundle.folder)
    card = json.loads(after.pop(MODEL_CARD_FILE))
    assert card == to_json(measured.card)
    assert card | {"precisions": {}} == json.loads(before.pop(MODEL_CARD_FILE))
    assert after == before
    assert measured.card.files == bundle.card.files


def test_measure_parity_with_several_batches_compares_all_images(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32"}, monkeypatch)
    monkeypatch.setattr("bc_model.inference.engine._CHUNK", 3)
    parity = measure_parity(bundle, PIXELS, MALIGNANT).card.precisions["f32"]
    assert (parity.n_images, parity.passes_parity) == (8, True)


def test_measure_parity_keeps_results_of_unsupported_precisions(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32"}, monkeypatch)
    measured = measure_parity(with_parity(bundle, bf16=PASSED), PIXELS, MALIGNANT)
    assert measured.card.precisions["bf16"] == PASSED


def test_measure_parity_without_an_int8_graph_skips_int8(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32", "int8"}, monkeypatch)
    assert set(measure_parity(bundle, PIXELS, MALIGNANT).card.precisions) == {"f32"}


def test_measure_parity_with_an_int8_graph_measures_int8(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32", "int8"}, monkeypatch)
    measured = measure_parity(int8_bundle, PIXELS, MALIGNANT)
    int8, f32 = (measured.card.precisions[name] for name in ("int8", "f32"))
    assert int8.prob_difference_p99 > f32.prob_difference_p99, "int8 was not used"
    assert int8.n_images == 8


def test_measure_parity_with_one_class_fails(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32"}, monkeypatch)
    measured = measure_parity(bundle, PIXELS, np.ones(8, bool))
    parity = measured.card.precisions["f32"]
    assert (parity.auc_difference, parity.passes_parity) == (None, False)


# --- Quantization ---


def test_quantize_adds_valid_files(bundle: Bundle) -> None:
    before = contents(bundle.folder)
    quantized = quantize(bundle, PIXELS)
    quantized.verify()
    after = contents(bundle.folder)
    assert set(after) == set(before) | INT8_FILES
    assert set(quantized.card.files) == set(bundle.card.files) | INT8_FILES
    assert {k: v for k, v in after.items() if k in before and k != MODEL_CARD_FILE} == {
        k: v for k, v in before.items() if k != MODEL_CARD_FILE
    }
    assert open_bundle(bundle.folder).card == quantized.card


def test_quantize_removes_only_the_int8_parity_check(bundle: Bundle) -> None:
    quantized = quantize(with_parity(bundle, int8=PASSED, f32=PASSED), PIXELS)
    assert quantized.card.precisions == {"f32": PASSED}


def test_quantize_twice_replaces_the_graph(int8_bundle: Bundle) -> None:
    again = quantize(with_parity(int8_bundle, int8=PASSED), 255 - PIXELS)
    again.verify()
    assert again.key != int8_bundle.key
    assert set(contents(again.folder)) == set(contents(int8_bundle.folder))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_quantize_with_an_interruption_changes_nothing(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    bundle = with_parity(int8_bundle, int8=PASSED)
    before = contents(bundle.folder)

    def fail(_: object, path: Path, **__: object) -> None:
        Path(path).write_text("half a graph")
        raise error

    monkeypatch.setattr("openvino.save_model", fail)
    with pytest.raises(type(error)):
        quantize(bundle, PIXELS)
    assert contents(bundle.folder) == before  # fails if a draft directory remains
    open_bundle(bundle.folder).verify()


def test_quantize_interrupted_between_its_files_leaves_a_valid_bundle(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = with_parity(int8_bundle, int8=PASSED)
    replace = Path.replace

    def refuse(source: Path, target: Path) -> Path:
        if source.name == "served-int8.bin":
            raise PermissionError(13, "Permission denied")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        quantize(bundle, 255 - PIXELS)
    left = open_bundle(bundle.folder)
    left.verify()
    assert "int8" not in left.card.precisions
    assert not [path for path in left.folder.iterdir() if path.is_dir()]
    with pytest.raises(BundleError, match="no parity check for int8"):
        Engine(left, "int8")


# --- Use ---


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_engine_without_a_parity_check_raises_bundle_error(
    int8_bundle: Bundle, precision: str
) -> None:
    with pytest.raises(BundleError, match=f"no parity check for {precision}"):
        Engine(int8_bundle, precision)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_engine_with_a_failed_parity_check_raises_bundle_error(
    int8_bundle: Bundle, precision: str
) -> None:
    failed = dataclasses.replace(PASSED, passes_parity=False)
    with pytest.raises(BundleError, match=f"did not pass the parity check for {precision}"):
        Engine(with_parity(int8_bundle, **{precision: failed}), precision)


def test_engine_with_float32_needs_no_parity_check(bundle: Bundle) -> None:
    assert Engine(bundle).precision == "f32"


def test_engine_with_a_passed_parity_check_uses_int8(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32", "int8"}, monkeypatch)
    engine = Engine(with_parity(int8_bundle, int8=PASSED), "int8")
    difference = np.abs(engine.predict(PIXELS) - Engine(int8_bundle).predict(PIXELS)).max()
    assert engine.precision == "int8"
    assert 0 < difference < 0.5


def test_engine_with_int8_returns_heatmaps(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32", "int8"}, monkeypatch)
    engine = Engine(with_parity(int8_bundle, int8=PASSED), "int8")
    logits, heatmaps, _, contributions, _ = engine.explain(PIXELS)
    assert (logits.shape, len(heatmaps)) == ((8, 2), 8)
    for contribution, (benign, malignant) in zip(contributions, logits, strict=True):
        total = contribution.baseline + contribution.cell_sum
        assert total == pytest.approx(malignant - benign, abs=1e-4)
    assert all(np.isfinite(heatmap.raw).all() for maps in heatmaps for heatmap in maps.values())


def test_engine_with_a_changed_int8_graph_raises_bundle_error(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_supported({"f32", "int8"}, monkeypatch)
    (int8_bundle.folder / "served-int8.bin").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"served-int8\.bin"):
        Engine(with_parity(int8_bundle, int8=PASSED), "int8")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_engine_with_an_unsupported_precision_warns_and_uses_float32(
    int8_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: str,
) -> None:
    set_supported({"f32"}, monkeypatch)
    with caplog.at_level(logging.WARNING, "bc_model.inference"):
        engine = Engine(with_parity(int8_bundle, **{precision: PASSED}), precision)
    assert engine.precision == "f32"
    assert f"does not support {precision}" in caplog.text
    np.testing.assert_array_equal(engine.predict(PIXELS), Engine(int8_bundle).predict(PIXELS))


@pytest.mark.parametrize("precision", ["fp16", "F32", "", "u1"])
def test_engine_with_an_unknown_precision_raises_config_error(
    bundle: Bundle, precision: str
) -> None:
    with pytest.raises(ConfigError, match="Choose one of f32, bf16, int8"):
        Engine(bundle, precision)
