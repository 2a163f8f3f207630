"""The inference engine, compared with Keras and automatic differentiation."""

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from bc_model.contribution_map import ContributionMap
from bc_model.data.breakhis import CLASSES
from bc_model.errors import BundleError
from bc_model.gradcam import GradCAM
from bc_model.inference.bundle import Bundle, file_sha256, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.export import write_bundle
from bc_model.inference.head import Head
from bc_model.inference.model_card import ModelCard, read_model_card, write_model_card
from bc_model.inference.precision import Parity
from bc_model.model import build_model, last_conv_output, load_keras, logits_output
from bc_model.training.run import Run


@pytest.fixture(scope="module")
def tiny(tiny_run: Run) -> Engine:
    return Engine(open_bundle(tiny_run.path))


def images(n: int, side_px: int) -> np.ndarray:
    """Noise at four scales: smooth fields, spots and grain."""
    rng = np.random.default_rng(3)
    total = np.zeros((n, side_px, side_px, 3))
    for cells in (2, 4, 8, side_px):
        noise = rng.uniform(0, 64, (n, cells, cells, 3))
        total += noise.repeat(side_px // cells, axis=1).repeat(side_px // cells, axis=2)
    return total.astype(np.uint8)


def keras_logits(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    to_logits = keras.Model(model.inputs[0], logits_output(model))
    return to_logits(pixels.astype("float32"), training=False).numpy()


def assert_equals_keras(engine: Engine, model: keras.Model, pixels: np.ndarray) -> None:
    logits, heatmaps, _, contributions, _ = engine.explain(pixels)
    expected = keras_logits(model, pixels)
    assert_adds_up_to_keras(contributions, model, pixels)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    reference = GradCAM(model)
    n_positive = 0
    for name in CLASSES:
        for maps, heatmap in zip(heatmaps, reference(pixels, name), strict=True):
            assert maps[name].class_name == name
            assert maps[name].is_empty == heatmap.is_empty
            np.testing.assert_allclose(
                maps[name].raw, heatmap.raw, rtol=0, atol=1e-4 * heatmap.maximum
            )
            n_positive += not heatmap.is_empty
    assert n_positive > 0, "every heatmap is empty"


def assert_adds_up_to_keras(
    contributions: list[ContributionMap], model: keras.Model, pixels: np.ndarray
) -> None:
    """Compare with gradient times activation, which is exact for a piecewise linear head."""
    activations_of = keras.Model(model.inputs[0], last_conv_output(model))
    logits_of = keras.Model(last_conv_output(model), logits_output(model))
    activations = activations_of(pixels.astype("float32"), training=False)
    with tf.GradientTape() as tape:
        tape.watch(activations)
        logits = logits_of(activations, training=False)
        margin = logits[:, 1] - logits[:, 0]
    cells = (activations * tape.gradient(margin, activations)).numpy().sum(axis=-1)
    for found, expected, total in zip(contributions, cells, margin.numpy().tolist(), strict=True):
        tolerance = 1e-4 * max(1.0, abs(total))
        np.testing.assert_allclose(found.cells, expected, rtol=0, atol=tolerance)
        assert found.baseline == pytest.approx(total - float(expected.sum()), abs=tolerance)
        assert found.baseline + found.cell_sum == pytest.approx(total, abs=tolerance)
        assert abs(found.residual) < 1e-4


def edit_file(folder: Path, name: str, content: bytes) -> Bundle:
    """Replace a file of a bundle and its hash in the model card."""
    (folder / name).write_bytes(content)
    card = read_model_card(folder)
    files = card.files | {name: file_sha256(folder / name)}
    write_model_card(folder, replace(card, files=files))
    return open_bundle(folder)


def test_explain_with_a_trained_model_equals_keras(tiny: Engine) -> None:
    model = load_keras(tiny.bundle.file("model.keras"))
    assert_equals_keras(tiny, model, images(6, 32))


@pytest.mark.parametrize(
    "backbone",
    ["resnet50", "vgg16", pytest.param("efficientnetb0", marks=pytest.mark.slow)],
)
def test_explain_with_each_backbone_equals_keras(
    backbone: str, tiny: Engine, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(5)
    model = build_model(backbone, image_size=(64, 64), dense_units=(16,))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):  # Keras starts with biases of zero.
            layer.bias.assign(np.random.default_rng(0).normal(size=layer.bias.shape))
    bundle = write_bundle(model, tmp_path / "model", resized(tiny.bundle.card, 64))
    assert_equals_keras(Engine(bundle), load_keras(bundle.file("model.keras")), images(2, 64))


def resized(card: ModelCard, side_px: int) -> ModelCard:
    return replace(card, input=replace(card.input, height_px=side_px, width_px=side_px))


def test_predict_and_explain_return_the_same_logits(tiny: Engine) -> None:
    pixels = images(4, 32)
    np.testing.assert_array_equal(tiny.predict(pixels), tiny.explain(pixels)[0])


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_explain_adds_up_with_means_of_lower_precision(
    precision: str, tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, pixels = Engine(open_bundle(tiny_run.path)), images(2, 32)
    infer = engine._graph.infer

    def infer_rounded(batch: np.ndarray) -> tuple[np.ndarray, ...]:
        activations, pooled = infer(batch)
        return activations, pooled.astype(np.float16).astype(np.float32) * np.float32(1.01)

    monkeypatch.setattr(engine._graph, "infer", infer_rounded)
    monkeypatch.setattr(engine, "precision", precision)
    logits, _, _, contributions, _ = engine.explain(pixels)
    for contribution in contributions:
        assert abs(contribution.residual) < 1e-4
    np.testing.assert_array_equal(engine.predict(pixels), logits)


def test_predict_does_not_depend_on_the_batch(tiny: Engine) -> None:
    pixels = images(5, 32)
    together = tiny.predict(pixels)
    alone = np.concatenate([tiny.predict(pixel[None]) for pixel in pixels])
    assert together.shape == (5, 2)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_predict_accepts_strided_views(tiny: Engine) -> None:
    pixels = images(2, 32)
    flipped = pixels[:, ::-1, ::-1]
    np.testing.assert_array_equal(tiny.predict(flipped), tiny.predict(flipped.copy()))


def test_explain_result_is_not_overwritten_by_the_next_call(tiny: Engine) -> None:
    first_logits, first_maps, *_ = tiny.explain(images(1, 32))
    logits, raw = first_logits.copy(), first_maps[0]["malignant"].raw.copy()
    tiny.explain(255 - images(1, 32))
    np.testing.assert_array_equal(first_logits, logits)
    np.testing.assert_array_equal(first_maps[0]["malignant"].raw, raw)


def test_explain_in_several_threads_returns_correct_results(tiny: Engine) -> None:
    pixels = images(8, 32)
    expected = [tiny.explain(pixel[None]) for pixel in pixels]

    def repeat_10_times(i: int) -> bool:
        for _ in range(10):
            logits, maps, *_ = tiny.explain(pixels[i][None])
            same = np.array_equal(logits, expected[i][0]) and all(
                np.array_equal(maps[0][name].raw, expected[i][1][0][name].raw) for name in CLASSES
            )
            if not same:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(repeat_10_times, range(8)))


@pytest.mark.parametrize("name", ["served.xml", "head.npz"])
def test_engine_with_a_damaged_file_of_valid_hash_raises_bundle_error(
    name: str, tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    half = (folder / name).read_bytes()[: (folder / name).stat().st_size // 2]
    bundle = edit_file(folder, name, half)
    with pytest.raises(BundleError, match=name):
        Engine(bundle)


def test_engine_with_truncated_weights_of_valid_hash_raises_bundle_error(
    tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    bundle = edit_file(folder, "served.bin", (folder / "served.bin").read_bytes()[:100])
    with pytest.raises(BundleError, match=r"served\.xml"):
        Engine(bundle)


ENTITIES = "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">'
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
XML_EDITS = {
    "entities": lambda xml: f'<!DOCTYPE x [<!ENTITY a "a">{ENTITIES}]><net name="&i;"/>',
    "offset": lambda xml: re.sub(r'offset="\d+"', 'offset="99999999999"', xml),
    "size": lambda xml: re.sub(r' size="\d+"', ' size="99999999999"', xml),
    "shape": lambda xml: xml.replace('shape="8, 3,', 'shape="80000000, 3,'),
}


@pytest.mark.parametrize("edit", XML_EDITS.values(), ids=list(XML_EDITS))
def test_engine_with_a_hostile_graph_of_valid_hash_raises_bundle_error(
    edit: Callable[[str], str], tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    xml = (folder / "served.xml").read_text(encoding="utf-8")
    assert edit(xml) != xml
    bundle = edit_file(folder, "served.xml", edit(xml).encode())
    with pytest.raises(BundleError, match=r"served\.xml"):
        Engine(bundle)


def test_engine_with_weights_that_are_not_finite_raises_bundle_error(
    tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    first = re.search(r'shape="8, 3, 3, 3" offset="(\d+)"', (folder / "served.xml").read_text())
    assert first
    weights = bytearray((folder / "served.bin").read_bytes())
    start = int(first[1])
    weights[start : start + 4] = np.float32(np.nan).tobytes()
    bundle = edit_file(folder, "served.bin", bytes(weights))
    with pytest.raises(BundleError, match="weights that are not finite"):
        Engine(bundle)


def test_engine_with_changed_weights_raises_bundle_error(tiny_run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    (folder / "served.bin").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"served\.bin"):
        Engine(open_bundle(folder))


def test_explain_with_an_empty_batch_returns_empty_results(tiny: Engine) -> None:
    logits, heatmaps, *_ = tiny.explain(np.zeros((0, 32, 32, 3), np.uint8))
    assert logits.shape == (0, 2)
    assert heatmaps == []


def test_predict_with_several_chunks_keeps_the_order(tiny: Engine) -> None:
    pixels = images(19, 32)
    alone = np.concatenate([tiny.predict(pixel[None]) for pixel in pixels])
    np.testing.assert_allclose(tiny.predict(pixels), alone, atol=1e-5)


def test_engine_with_the_head_of_another_model_raises_bundle_error(
    tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    other = tmp_path / "head.npz"
    Head((np.zeros((7, 2), np.float32),), (np.zeros(2, np.float32),)).save(other)
    bundle = edit_file(folder, "head.npz", other.read_bytes())
    with pytest.raises(BundleError, match="are from different models"):
        Engine(bundle)


def test_engine_with_differences_above_the_limits_raises_bundle_error(tiny: Engine) -> None:
    parity = Parity(0.5, 0.0, 9, True)
    card = replace(tiny.bundle.card, precisions={"bf16": parity})
    with pytest.raises(BundleError, match="did not pass"):
        Engine(Bundle(tiny.bundle.folder, card), "bf16")
