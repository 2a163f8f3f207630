"""Faster precisions: made whole or not at all, and used only after a comparison that was passed."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from bc_model.errors import BundleError, ConfigError
from bc_model.inference import quantization
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


def uncompared_copy(source: Path, target: Path) -> Bundle:
    """Copy a bundle and forget its comparisons: training made those that this processor can."""
    bundle = open_bundle(Path(shutil.copytree(source, target)))
    write_model_card(target, dataclasses.replace(bundle.card, precisions={}))
    return open_bundle(target)


@pytest.fixture
def bundle(tiny_run: Run, tmp_path: Path) -> Bundle:
    return uncompared_copy(tiny_run.model_dir, tmp_path / "model")


@pytest.fixture(scope="module")
def quantised_folder(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "model"
    return quantize(uncompared_copy(tiny_run.model_dir, folder), PIXELS).folder


@pytest.fixture
def int8_bundle(quantised_folder: Path, tmp_path: Path) -> Bundle:
    """Return a bundle with an int8 graph that was never compared."""
    return open_bundle(Path(shutil.copytree(quantised_folder, tmp_path / "int8")))


def computes(precisions: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processor have these precisions."""
    for module in ("engine", "quantization"):
        monkeypatch.setattr(f"bc_model.inference.{module}.supported_precisions", lambda: precisions)


def compared(bundle: Bundle, **parities: Parity) -> Bundle:
    """Store comparisons in a model card."""
    precisions = bundle.card.precisions | parities
    write_model_card(bundle.folder, dataclasses.replace(bundle.card, precisions=precisions))
    return open_bundle(bundle.folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- The comparison ---


def test_float32_is_compared_and_allowed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    computes({"f32"}, monkeypatch)
    measured = measure_parity(bundle, PIXELS, MALIGNANT)
    parity = measured.card.precisions["f32"]
    assert parity.passes_parity
    assert parity.prob_difference_p99 < 1e-5
    assert (parity.auc_difference, parity.n_images) == (0.0, 8)


def test_the_comparison_is_stored_and_nothing_else_changes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes({"f32"}, monkeypatch)
    before = contents(bundle.folder)
    measured = measure_parity(bundle, PIXELS, MALIGNANT)
    after = contents(bundle.folder)
    card = json.loads(after.pop(MODEL_CARD_FILE))
    assert card == to_json(measured.card)
    assert card | {"precisions": {}} == json.loads(before.pop(MODEL_CARD_FILE))
    assert after == before
    assert measured.key == bundle.key


def test_images_in_several_batches_are_all_compared(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes({"f32"}, monkeypatch)
    monkeypatch.setattr(quantization, "BATCH", 3)
    parity = measure_parity(bundle, PIXELS, MALIGNANT).card.precisions["f32"]
    assert (parity.n_images, parity.passes_parity) == (8, True)


def test_what_this_processor_lacks_keeps_its_result(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes({"f32"}, monkeypatch)
    measured = measure_parity(compared(bundle, bf16=PASSED), PIXELS, MALIGNANT)
    assert measured.card.precisions["bf16"] == PASSED


def test_int8_is_not_compared_before_it_is_made(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes({"f32", "int8"}, monkeypatch)
    assert set(measure_parity(bundle, PIXELS, MALIGNANT).card.precisions) == {"f32"}


def test_int8_is_compared_once_it_is_made(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes({"f32", "int8"}, monkeypatch)
    measured = measure_parity(int8_bundle, PIXELS, MALIGNANT)
    int8, f32 = (measured.card.precisions[name] for name in ("int8", "f32"))
    assert int8.prob_difference_p99 > f32.prob_difference_p99, "int8 was not computed in"
    assert int8.n_images == 8


def test_one_class_is_compared_and_not_allowed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes({"f32"}, monkeypatch)
    measured = measure_parity(bundle, PIXELS, np.ones(8, bool))
    parity = measured.card.precisions["f32"]
    assert (parity.auc_difference, parity.passes_parity) == (None, False)


# --- Making int8 ---


def test_quantising_adds_files_that_verify(bundle: Bundle) -> None:
    before = contents(bundle.folder)
    made = quantize(bundle, PIXELS)
    made.verify()
    after = contents(bundle.folder)
    assert set(after) == set(before) | INT8_FILES
    assert set(made.card.files) == set(bundle.card.files) | INT8_FILES
    assert {k: v for k, v in after.items() if k in before and k != MODEL_CARD_FILE} == {
        k: v for k, v in before.items() if k != MODEL_CARD_FILE
    }
    assert open_bundle(bundle.folder).card == made.card


def test_quantising_forgets_the_int8_comparison_only(bundle: Bundle) -> None:
    made = quantize(compared(bundle, int8=PASSED, f32=PASSED), PIXELS)
    assert made.card.precisions == {"f32": PASSED}


def test_quantising_again_replaces_the_graph(int8_bundle: Bundle) -> None:
    again = quantize(compared(int8_bundle, int8=PASSED), 255 - PIXELS)
    again.verify()
    assert again.key != int8_bundle.key
    assert set(contents(again.folder)) == set(contents(int8_bundle.folder))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_an_interrupted_quantisation_changes_nothing(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    bundle = compared(int8_bundle, int8=PASSED)
    before = contents(bundle.folder)

    def fail(_: object, path: Path, **__: object) -> None:
        Path(path).write_text("half a graph")
        raise error

    monkeypatch.setattr("openvino.save_model", fail)
    with pytest.raises(type(error)):
        quantize(bundle, PIXELS)
    assert contents(bundle.folder) == before  # it would fail on a draft folder left behind
    open_bundle(bundle.folder).verify()


def test_a_quantisation_that_stops_between_its_two_files_leaves_a_bundle_that_verifies(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = compared(int8_bundle, int8=PASSED)
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
    with pytest.raises(BundleError, match="never compared"):
        Engine(left, "int8")


# --- Use ---


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_precision_that_was_never_compared_is_refused(
    int8_bundle: Bundle, precision: str
) -> None:
    with pytest.raises(BundleError, match=rf"{precision} was never compared.*models optimise"):
        Engine(int8_bundle, precision)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_precision_that_did_not_pass_is_refused(int8_bundle: Bundle, precision: str) -> None:
    failed = dataclasses.replace(PASSED, passes_parity=False)
    with pytest.raises(BundleError, match=f"{precision} is not allowed"):
        Engine(compared(int8_bundle, **{precision: failed}), precision)


def test_float32_needs_no_comparison(bundle: Bundle) -> None:
    assert Engine(bundle).precision == "f32"


def test_int8_is_used_once_it_passed(int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    computes({"f32", "int8"}, monkeypatch)
    engine = Engine(compared(int8_bundle, int8=PASSED), "int8")
    difference = np.abs(engine.predict(PIXELS) - Engine(int8_bundle).predict(PIXELS)).max()
    assert engine.precision == "int8"
    assert 0 < difference < 0.5


def test_int8_explains_too(int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    computes({"f32", "int8"}, monkeypatch)
    engine = Engine(compared(int8_bundle, int8=PASSED), "int8")
    logits, heatmaps = engine.explain(PIXELS)
    assert (logits.shape, len(heatmaps)) == ((8, 2), 8)
    assert all(np.isfinite(one.raw).all() for maps in heatmaps for one in maps.values())


def test_a_changed_int8_graph_is_refused(
    int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes({"f32", "int8"}, monkeypatch)
    (int8_bundle.folder / "served-int8.bin").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"served-int8\.bin"):
        Engine(compared(int8_bundle, int8=PASSED), "int8")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_processor_without_it_computes_in_float32_and_says_so(
    int8_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: str,
) -> None:
    computes({"f32"}, monkeypatch)
    with caplog.at_level(logging.WARNING, "bc_model.inference"):
        engine = Engine(compared(int8_bundle, **{precision: PASSED}), precision)
    assert engine.precision == "f32"
    assert f"does not compute in {precision}; using f32" in caplog.text
    np.testing.assert_array_equal(engine.predict(PIXELS), Engine(int8_bundle).predict(PIXELS))


@pytest.mark.parametrize("precision", ["fp16", "F32", "", "u1"])
def test_an_unknown_precision_is_refused(bundle: Bundle, precision: str) -> None:
    with pytest.raises(ConfigError, match="choose one of f32, bf16, int8"):
        Engine(bundle, precision)
