"""The engine without TensorFlow gives what Keras and automatic differentiation give."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.data.breakhis import CLASSES
from bc_model.errors import BundleError
from bc_model.gradcam import GradCAM
from bc_model.inference.bundle import Bundle, file_sha256, open_bundle
from bc_model.inference.engine import Engine, Head
from bc_model.inference.export import write_bundle
from bc_model.inference.model_card import ModelCard, read_model_card, write_model_card
from bc_model.inference.precision import Parity
from bc_model.model import build_model, load_keras, logits_output
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
    subset = keras.Model(model.inputs[0], logits_output(model))
    return subset(pixels.astype("float32"), training=False).numpy()


def assert_as_keras(engine: Engine, model: keras.Model, pixels: np.ndarray) -> None:
    logits, heatmaps = engine.explain(pixels)
    expected = keras_logits(model, pixels)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    reference = GradCAM(model)
    synthetic = 0
    for name in CLASSES:
        for maps, heatmap in zip(heatmaps, reference(pixels, name), strict=True):
            assert maps[name].class_name == name
            assert maps[name].is_empty == heatmap.is_empty
            np.testing.assert_allclose(
                maps[name].raw, heatmap.raw, rtol=0, atol=1e-4 * heatmap.maximum
            )
            synthetic += not heatmap.is_empty
    assert synthetic > 0, "every map is empty: nothing was compared"


def edit_file(folder: Path, name: str, content: bytes) -> Bundle:
    """Put other bytes in a bundle and let its passport vouch for them."""
    (folder / name).write_bytes(content)
    card = read_model_card(folder)
    files = card.files | {name: file_sha256(folder / name)}
    write_model_card(folder, replace(card, files=files))
    return open_bundle(folder)


def test_a_trained_model_is_served_as_keras_has_it(tiny: Engine) -> None:
    model = load_keras(tiny.bundle.file("model.keras"))
    assert_as_keras(tiny, model, images(6, 32))


@pytest.mark.parametrize(
    "backbone",
    ["resnet50", "vgg16", pytest.param("efficientnetb0", marks=pytest.mark.slow)],
)
def test_every_backbone_is_served_as_keras_has_it(
    backbone: str, tiny: Engine, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(5)
    model = build_model(backbone, image_size=(64, 64), dense_units=(16,))
    bundle = write_bundle(model, tmp_path / "model", resized(tiny.bundle.card, 64))
    assert_as_keras(Engine(bundle), load_keras(bundle.file("model.keras")), images(2, 64))


def resized(card: ModelCard, side_px: int) -> ModelCard:
    return replace(card, input=replace(card.input, height_px=side_px, width_px=side_px))


def test_predict_and_explain_agree(tiny: Engine) -> None:
    pixels = images(4, 32)
    np.testing.assert_array_equal(tiny.predict(pixels), tiny.explain(pixels)[0])


def test_a_image_has_the_same_logits_in_any_batch(tiny: Engine) -> None:
    pixels = images(5, 32)
    together = tiny.predict(pixels)
    alone = np.concatenate([tiny.predict(pixel[None]) for pixel in pixels])
    assert together.shape == (5, 2)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_view_with_strides_is_read_right(tiny: Engine) -> None:
    pixels = images(2, 32)
    flipped = pixels[:, ::-1, ::-1]
    np.testing.assert_array_equal(tiny.predict(flipped), tiny.predict(flipped.copy()))


def test_an_answer_is_not_overwritten_by_the_next(tiny: Engine) -> None:
    first_logits, first_maps = tiny.explain(images(1, 32))
    logits, raw = first_logits.copy(), first_maps[0]["malignant"].raw.copy()
    tiny.explain(255 - images(1, 32))
    np.testing.assert_array_equal(first_logits, logits)
    np.testing.assert_array_equal(first_maps[0]["malignant"].raw, raw)


def test_threads_proportion_an_engine(tiny: Engine) -> None:
    pixels = images(8, 32)
    expected = [tiny.explain(pixel[None]) for pixel in pixels]

    def ten_times(i: int) -> bool:
        for _ in range(10):
            logits, maps = tiny.explain(pixels[i][None])
            same = np.array_equal(logits, expected[i][0]) and all(
                np.array_equal(maps[0][name].raw, expected[i][1][0][name].raw) for name in CLASSES
            )
            if not same:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ten_times, range(8)))


@pytest.mark.parametrize("name", ["served.xml", "head.npz"])
def test_a_damaged_file_is_refused_even_if_the_card_vouches_for_it(
    name: str, tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    half = (folder / name).read_bytes()[: (folder / name).stat().st_size // 2]
    bundle = edit_file(folder, name, half)
    with pytest.raises(BundleError, match=name):
        Engine(bundle)


def test_missing_weights_are_refused_even_if_the_card_vouches_for_them(
    tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    bundle = edit_file(folder, "served.bin", (folder / "served.bin").read_bytes()[:100])
    with pytest.raises(BundleError, match=r"served\.xml"):
        Engine(bundle)


def test_changed_weights_are_refused_before_anything_is_compiled(
    tiny_run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    (folder / "served.bin").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"served\.bin"):
        Engine(open_bundle(folder))


def test_no_image_has_no_answer(tiny: Engine) -> None:
    logits, heatmaps = tiny.explain(np.zeros((0, 32, 32, 3), np.uint8))
    assert logits.shape == (0, 2)
    assert heatmaps == []


def test_more_images_than_a_piece_keep_their_order(tiny: Engine) -> None:
    pixels = images(19, 32)
    alone = np.concatenate([tiny.predict(pixel[None]) for pixel in pixels])
    np.testing.assert_allclose(tiny.predict(pixels), alone, atol=1e-5)


def test_a_head_of_another_model_is_refused(tiny_run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run.model_dir, tmp_path / "model"))
    other = tmp_path / "head.npz"
    Head((np.zeros((7, 2), np.float32),), (np.zeros(2, np.float32),)).save(other)
    bundle = edit_file(folder, "head.npz", other.read_bytes())
    with pytest.raises(BundleError, match="do not belong together"):
        Engine(bundle)


def test_a_card_cannot_allow_what_its_own_figures_forbid(tiny: Engine) -> None:
    said = Parity(0.5, 0.0, 9, True)
    card = replace(tiny.bundle.card, precisions={"bf16": said})
    with pytest.raises(BundleError, match="not allowed"):
        Engine(Bundle(tiny.bundle.folder, card), "bf16")
