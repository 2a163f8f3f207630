"""Grad-CAM against worked examples, its closed form against TensorFlow, and overlays."""

import io
from pathlib import Path

import cv2
import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bc_model.data.breakhis import CLASSES
from bc_model.errors import ImageError
from bc_model.gradcam import (
    GradCAM,
    Heatmap,
    compute_full_scale,
    draw_color_bar,
    draw_probability_bar,
    encode_jpeg,
    find_cell_grid,
    grad_cam_from_activations,
    overlay_heatmap,
    resize_heatmap,
)
from bc_model.inference.head import Head
from bc_model.model import build_model, load_keras
from tests.bc_model.networks import random_head

RED = [[1.0, 2.0], [3.0, 4.0]]
GREEN = [[4.0, 3.0], [2.0, 1.0]]
IMAGE = np.stack([RED, GREEN, np.zeros((2, 2))], axis=-1).astype("float32")[None]

# The network's channels are RED and GREEN. logit benign = mean(R) - mean(G) and
# logit malignant = -2 mean(R) + 3 mean(G); over four cells the channel weights are a quarter.
KERNEL = np.array([[1.0, -2.0], [-1.0, 3.0]])
BENIGN_MAP = [[0.0, 0.0], [0.25, 0.75]]  # (R - G) / 4 = -0.75, -0.25, 0.25, 0.75
MALIGNANT_MAP = [[2.5, 1.25], [0.0, 0.0]]  # (-2 R + 3 G) / 4 = 2.5, 1.25, 0, -1.25


def worked_example(kernel: np.ndarray = KERNEL, *, temperature: float = 1.0) -> keras.Model:
    image = keras.Input((2, 2, 3), name="image")
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(2, name="logits")(x)
    x = keras.layers.Rescaling(1 / temperature, name="temperature")(x)
    model = keras.Model(image, keras.layers.Activation("softmax", name="probabilities")(x))
    model.get_layer("conv").set_weights([np.eye(3)[:, :2].reshape(1, 1, 3, 2)])
    model.get_layer("logits").set_weights([kernel, np.array([0.5, -0.5])])
    return model


@pytest.mark.parametrize(
    ("class_name", "expected"), [("benign", BENIGN_MAP), ("malignant", MALIGNANT_MAP)]
)
def test_grad_cam_matches_the_worked_example(class_name: str, expected: list) -> None:
    (heatmap,) = GradCAM(worked_example())(IMAGE, class_name)
    assert heatmap.class_name == class_name
    np.testing.assert_allclose(heatmap.raw, expected, atol=1e-6)
    assert heatmap.maximum == pytest.approx(np.max(expected))


def test_grad_cam_accepts_bytes_and_floats() -> None:
    explain = GradCAM(worked_example())
    (as_bytes,) = explain(IMAGE.astype(np.uint8), "malignant")
    np.testing.assert_allclose(as_bytes.raw, MALIGNANT_MAP, atol=1e-6)


def test_grad_cam_of_a_reloaded_model_is_the_same(tmp_path: Path) -> None:
    worked_example().save(tmp_path / "model.keras")
    (heatmap,) = GradCAM(load_keras(tmp_path / "model.keras"))(IMAGE, "malignant")
    np.testing.assert_allclose(heatmap.raw, MALIGNANT_MAP, atol=1e-6)


def test_grad_cam_explains_the_logit_and_not_the_probability() -> None:
    """A saturated softmax has almost no gradient; the heatmap must not depend on it."""
    (heatmap,) = GradCAM(worked_example(temperature=0.001))(IMAGE, "malignant")
    np.testing.assert_allclose(heatmap.raw, MALIGNANT_MAP, atol=1e-6)


def test_grad_cam_without_negative_values_sums_to_the_logit() -> None:
    """Without negative values, the sum of the heatmap is the logit without its bias."""
    kernel = np.array([[1.0, 0.5], [2.0, 0.25]])
    (heatmap,) = GradCAM(worked_example(kernel))(IMAGE, "benign")
    assert heatmap.raw.sum() == pytest.approx(1.0 * np.mean(RED) + 2.0 * np.mean(GREEN))


def test_grad_cam_without_positive_contribution_is_empty() -> None:
    (heatmap,) = GradCAM(worked_example(-np.ones((2, 2))))(IMAGE, "malignant")
    assert heatmap.is_empty
    np.testing.assert_array_equal(heatmap.raw, np.zeros((2, 2)))


def test_grad_cam_of_a_black_image_is_empty() -> None:
    (heatmap,) = GradCAM(worked_example())(np.zeros_like(IMAGE), "malignant")
    assert heatmap.is_empty


def test_heatmap_with_positive_values_is_not_empty() -> None:
    assert not Heatmap("benign", np.array(BENIGN_MAP, "float32")).is_empty


def test_grad_cam_from_activations_sets_rounding_error_to_zero() -> None:
    """Channels that cancel leave a remainder in float32, which scaling would make visible."""
    rng = np.random.default_rng(0)
    half, weights = rng.uniform(0, 1, (7, 7, 256)), rng.normal(size=256)
    order = rng.permutation(512)
    activations = np.concatenate([half, half], axis=-1)[..., order].astype("float32")
    canceling = np.concatenate([weights, -weights])[order].astype("float32")
    assert (activations @ canceling).max() > 0.0
    np.testing.assert_array_equal(
        grad_cam_from_activations(activations, canceling), np.zeros((7, 7))
    )


def test_grad_cam_from_activations_keeps_small_values() -> None:
    activations = np.array([[[1.0, 1.0]]], "float32")
    weights = np.array([1.0, -1.0 + 1e-4], "float32")
    assert grad_cam_from_activations(activations, weights)[0, 0] == pytest.approx(1e-4, rel=1e-2)


def test_grad_cam_from_activations_keeps_small_activations() -> None:
    activations = np.full((2, 2, 1), 1e-20, "float32")
    map_ = grad_cam_from_activations(activations, np.array([1e-10], "float32"))
    np.testing.assert_allclose(map_, 1e-30, rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_grad_cam_from_activations_without_finite_values_is_zero(value: float) -> None:
    activations = np.array([[[1.0, value]]], "float32")
    map_ = grad_cam_from_activations(activations, np.array([1.0, 1.0], "float32"))
    np.testing.assert_array_equal(map_, [[0.0]])


def test_grad_cam_of_a_batch_equals_single_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype("float32")
    explain = GradCAM(build_model("tiny", image_size=(32, 32), dense_units=(6,)))
    together = explain(images, "malignant")
    for image, heatmap in zip(images, together, strict=True):
        (alone,) = explain(image[None], "malignant")
        np.testing.assert_allclose(heatmap.raw, alone.raw, atol=1e-5 * max(alone.maximum, 1e-6))


def test_grad_cam_of_a_reloaded_resnet50_has_the_size_of_its_last_block(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    build_model("resnet50", image_size=(64, 64), dense_units=(16,)).save(tmp_path / "model.keras")
    explain = GradCAM(load_keras(tmp_path / "model.keras"))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    maps = explain(images, "benign") + explain(images, "malignant")
    assert {heatmap.raw.shape for heatmap in maps} == {(2, 2)}
    assert all(np.isfinite(heatmap.raw).all() for heatmap in maps)
    assert any(not heatmap.is_empty for heatmap in maps)


# --- The closed form, against TensorFlow ---


def gradients(model: keras.Model, pooled: np.ndarray) -> np.ndarray:
    """Return d logit / d pooled by TensorFlow, shape (n, classes, channels)."""
    x = tf.constant(pooled)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = model(x)
    return tape.batch_jacobian(logits, x).numpy()


@pytest.mark.parametrize("units", [(), (7,), (9, 5)])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_head_gradient_equals_tensorflow(units: tuple[int, ...], seed: int, slope: float) -> None:
    model, head = random_head(units, seed, slope)
    pooled = np.random.default_rng(seed).normal(size=(4, 12)).astype("float32")
    np.testing.assert_allclose(head.logits(pooled), model(pooled).numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        head.gradient(pooled), gradients(model, pooled), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_head_gradient_of_a_unit_at_zero_equals_tensorflow(slope: float) -> None:
    model, head = random_head((3,), 2, slope)
    head.kernels[0][:, 1] = 0.0
    head.biases[0][1] = 0.0
    model.set_weights([head.kernels[0], head.biases[0], head.kernels[1], head.biases[1]])
    pooled = np.abs(np.random.default_rng(0).normal(size=(2, 12))).astype("float32")
    np.testing.assert_allclose(head.gradient(pooled), gradients(model, pooled), atol=1e-5)


def test_head_gradient_of_inactive_units_is_zero() -> None:
    head = Head(
        (-np.ones((4, 3), "float32"), np.ones((3, 2), "float32")),
        (np.zeros(3, "float32"), np.zeros(2, "float32")),
    )
    np.testing.assert_array_equal(head.gradient(np.ones((1, 4), "float32")), np.zeros((1, 2, 4)))


def test_heatmap_contribution_is_the_loss_of_the_logit_without_its_cells() -> None:
    """Without dense layers the logit is linear in the cells, so the first order is exact."""
    _, head = random_head((), 0)
    activations = np.random.default_rng(4).uniform(0, 1, (3, 5, 12)).astype("float32")
    pooled = activations.mean(axis=(0, 1))[None]
    map_ = grad_cam_from_activations(activations, head.gradient(pooled)[0, 1] / 15)
    assert 0 < np.count_nonzero(map_) < map_.size
    others = pooled - (activations * (map_ > 0)[..., None]).mean(axis=(0, 1))
    loss = (head.logits(pooled) - head.logits(others))[0, 1]
    assert Heatmap("malignant", map_).contribution == pytest.approx(loss, rel=1e-4)


def test_compute_full_scale_of_finer_cells_has_a_lower_limit() -> None:
    grid = find_cell_grid("resnet50", (64, 64), refinement=2)
    maps = {name: Heatmap(name, np.zeros((4, 4), np.float32), grid) for name in CLASSES}
    assert compute_full_scale(maps) == pytest.approx(0.0025)


# --- Overlays ---


def random_image(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def heatmap(values: list | np.ndarray, class_name: str = "malignant") -> Heatmap:
    return Heatmap(class_name, np.array(values, np.float32))


def cividis(value: float) -> np.ndarray:
    return np.array(matplotlib.colormaps["cividis"](value)[:3]) * 255


def test_overlay_heatmap_empty_returns_a_copy_of_the_image() -> None:
    rgb = random_image()
    overlay = overlay_heatmap(rgb, heatmap(np.zeros((7, 7))))
    np.testing.assert_array_equal(overlay, rgb)
    assert overlay is not rgb


def test_overlay_heatmap_empty_with_full_scale_returns_the_image() -> None:
    rgb = random_image()
    overlay = overlay_heatmap(rgb, heatmap(np.zeros((7, 7))), full_scale=3.0)
    np.testing.assert_array_equal(overlay, rgb)


def test_overlay_heatmap_without_opacity_returns_the_image() -> None:
    rgb = random_image()
    np.testing.assert_array_equal(overlay_heatmap(rgb, heatmap([[1.0]]), opacity=0.0), rgb)


def test_overlay_heatmap_keeps_pixels_with_value_zero() -> None:
    rgb, raw = random_image(), np.array([[4.0, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    overlay = overlay_heatmap(rgb, heatmap(raw))
    is_zero = resize_heatmap(heatmap(raw), *rgb.shape[:2]) == 0.0
    assert 0 < is_zero.sum() < is_zero.size
    np.testing.assert_array_equal(overlay[is_zero], rgb[is_zero])
    assert (overlay[:8, :8] != rgb[:8, :8]).any()


def test_overlay_heatmap_maximum_has_the_last_color() -> None:
    overlay = overlay_heatmap(random_image(), heatmap([[2.0]]), opacity=1.0)
    np.testing.assert_allclose(overlay[20, 30], cividis(1.0), atol=2)


def test_overlay_heatmap_opacity_is_the_square_root() -> None:
    gray = np.full((48, 64, 3), 120, np.uint8)
    overlay = overlay_heatmap(gray, heatmap([[1.0]]), opacity=0.6, full_scale=4.0)
    expected = 120 * (1 - 0.6 * 0.5) + cividis(0.25) * 0.6 * 0.5
    np.testing.assert_allclose(overlay[20, 30], expected, atol=2)


def test_overlay_heatmap_does_not_change_its_input() -> None:
    rgb = random_image()
    before = rgb.copy()
    overlay_heatmap(rgb, heatmap([[1.0, 0.0]]))
    np.testing.assert_array_equal(rgb, before)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 101), (460, 700), (456, 700)])
def test_overlay_heatmap_has_the_size_of_the_image(height: int, width: int) -> None:
    overlay = overlay_heatmap(random_image(height, width), heatmap(np.ones((7, 7))))
    assert overlay.shape == (height, width, 3)
    assert overlay.dtype == np.uint8


def test_overlay_heatmap_keeps_rows_outside_the_field_of_view() -> None:
    rgb = random_image(460, 700)
    overlay = overlay_heatmap(rgb, heatmap(np.ones((7, 7))), opacity=1.0)
    np.testing.assert_array_equal(overlay[:2], rgb[:2])
    np.testing.assert_array_equal(overlay[-2:], rgb[-2:])
    assert (overlay[2:-2] != rgb[2:-2]).any(axis=-1).mean() > 0.99


def test_resize_heatmap_keeps_positions() -> None:
    """The first row is the top of the image, the first column its left side."""
    raw = np.zeros((4, 4), np.float32)
    raw[0, 3] = 1.0
    resized = resize_heatmap(heatmap(raw), 100, 200)
    row, column = np.unravel_index(resized.argmax(), resized.shape)
    assert row < 25
    assert column >= 150


@pytest.mark.parametrize("refinement", [1, 2, 4])
@pytest.mark.parametrize("factor", [1, 3])
def test_resize_heatmap_of_one_cell_has_its_maximum_at_the_center(
    refinement: int, factor: int
) -> None:
    raw = np.zeros((5 * refinement, 8 * refinement), np.float32)
    raw[2 * refinement, 5 * refinement - 1] = 1.0
    grid = find_cell_grid("resnet50", (160, 240), refinement)
    resized = resize_heatmap(Heatmap("benign", raw, grid), 160 * factor, 240 * factor)
    row, column = np.unravel_index(resized.argmax(), resized.shape)
    # The middle pixel of the `factor` pixels that become one pixel of the input.
    middle = factor // 2
    assert row == 64 * factor + middle
    assert column == (160 - 32 // refinement) * factor + middle
    assert resized[row, column] == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_resize_heatmap_of_every_second_cell_agrees_with_all_cells(seed: int) -> None:
    """A standard heatmap has every second cell of the fine one, so both show the same position."""
    rng = np.random.default_rng(seed)
    fine = cv2.GaussianBlur(rng.uniform(0, 1, (10, 15)).astype(np.float32), (0, 0), 1.5)
    fine -= fine.min()
    raws = {1: np.ascontiguousarray(fine[::2, ::2]), 2: fine}
    grids = {n: find_cell_grid("resnet50", (160, 240), n) for n in raws}
    placed = [resize_heatmap(Heatmap("benign", raws[n], grids[n]), 456, 700) for n in raws]
    even = [resize_heatmap(Heatmap("benign", raws[n]), 456, 700) for n in raws]
    placed_r, even_r = (np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in (placed, even))
    assert placed_r > 0.97
    assert 1.0 - placed_r < 0.5 * (1.0 - even_r)


def test_resize_heatmap_places_cells_in_the_field_of_view() -> None:
    """A frame of 700x460 px has two rows above the 456 rows that the network sees."""
    raw = np.zeros((5, 8), np.float32)
    raw[2, 3] = 1.0
    grid = find_cell_grid("vgg16", (160, 240))
    resized = resize_heatmap(Heatmap("benign", raw, grid), 460, 700)
    row, column = np.unravel_index(resized.argmax(), resized.shape)
    assert row == pytest.approx(2 + (64 + 15.5 + 0.5) * 456 / 160 - 0.5, abs=0.5)
    assert column == pytest.approx((96 + 15.5 + 0.5) * 700 / 240 - 0.5, abs=0.5)


def test_resize_heatmap_without_a_grid_equals_opencv() -> None:
    raw = np.random.default_rng(0).uniform(0, 1, (5, 8)).astype(np.float32)
    expected = cv2.resize(raw, (300, 190), interpolation=cv2.INTER_CUBIC)
    resized = resize_heatmap(heatmap(raw), 190, 300)
    np.testing.assert_allclose(resized, np.clip(expected, 0, raw.max()), atol=1e-5)


def test_shared_scale_is_the_larger_maximum() -> None:
    maps = {"benign": heatmap([[1.0]], "benign"), "malignant": heatmap([[4.0]])}
    assert compute_full_scale(maps) == 4.0


def test_shared_scale_has_a_minimum() -> None:
    maps = {"benign": heatmap([[0.0]], "benign"), "malignant": heatmap([[0.0003]])}
    assert compute_full_scale(maps) == 0.01


def test_overlay_heatmap_equal_values_have_equal_colors() -> None:
    gray = np.full((32, 32, 3), 120, np.uint8)
    weak = overlay_heatmap(gray, heatmap(np.full((2, 2), 1.0)), full_scale=4.0)
    both = overlay_heatmap(gray, heatmap([[1.0, 1.0], [1.0, 4.0]]), full_scale=4.0)
    np.testing.assert_allclose(weak[0, 0], both[0, 0], atol=1)


@pytest.mark.parametrize("largest", [1e-38, 1e-6, 1.0, 1e30])
@pytest.mark.parametrize("seed", range(3))
def test_resize_heatmap_stays_between_zero_and_the_maximum(seed: int, largest: float) -> None:
    rng = np.random.default_rng(seed)
    raw = np.maximum(rng.normal(size=(7, 7)), 0).astype(np.float32)
    raw *= np.float32(largest)
    resized = resize_heatmap(heatmap(raw), 230, 350)
    assert np.isfinite(resized).all()
    assert resized.min() >= 0.0
    assert resized.max() <= raw.max()
    assert overlay_heatmap(random_image(230, 350), heatmap(raw)).shape == (230, 350, 3)


def test_resize_heatmap_of_one_cell_fills_the_field_of_view() -> None:
    resized = resize_heatmap(heatmap([[2.0]]), 40, 60)
    np.testing.assert_allclose(resized, np.full((40, 60), 2.0), rtol=1e-6)


def test_color_bar_goes_from_the_first_to_the_last_color() -> None:
    bar = draw_color_bar(100, 5)
    assert bar.shape == (5, 100, 3)
    np.testing.assert_allclose(bar[0, 0], cividis(0.0), atol=2)
    np.testing.assert_allclose(bar[-1, -1], cividis(1.0), atol=2)


@pytest.mark.parametrize(
    ("probability", "color"), [(0.49, (0, 114, 178)), (0.5, (213, 94, 0)), (0.9, (213, 94, 0))]
)
def test_probability_bar_shows_the_probability_and_the_predicted_class(
    probability: float, color: tuple[int, int, int]
) -> None:
    bar = np.asarray(Image.open(io.BytesIO(draw_probability_bar(probability, 0.5))))
    middle = bar[bar.shape[0] // 2]
    filled = (middle[:, 3] == 255) & (middle[:, :3] == color).all(axis=1)
    # The threshold marker covers 6 px of the bar.
    assert filled.sum() == pytest.approx(1000 * probability, abs=6)
    assert (middle[497:503, :3] == (123, 138, 145)).all()


def test_probability_bar_shades_the_uncertain_range() -> None:
    inside = np.asarray(Image.open(io.BytesIO(draw_probability_bar(0.3, 0.5, (0.2, 0.8)))))
    shaded = np.flatnonzero(inside[0, :, 3])
    assert (shaded.min(), shaded.max()) == (200, 799)
    # An uncertain probability has the color of neither class.
    assert (inside[inside.shape[0] // 2, 10:290, :3] == (123, 138, 145)).all()
    outside = np.asarray(Image.open(io.BytesIO(draw_probability_bar(0.9, 0.5, (0.2, 0.8)))))
    assert (outside[outside.shape[0] // 2, 10:190, :3] == (213, 94, 0)).all()


def test_encode_jpeg_largest_side_is_encoded() -> None:
    image = np.zeros((65_500, 32, 3), np.uint8)
    assert Image.open(io.BytesIO(encode_jpeg(image))).size == (32, 65_500)


def test_encode_jpeg_side_beyond_limit_raises() -> None:
    with pytest.raises(ImageError, match="at most 65,500 pixels per side, got 65,501 x 32"):
        encode_jpeg(np.zeros((32, 65_501, 3), np.uint8))
