"""The contribution map: its parts add up, and its overlay shows the sign of each region."""

from dataclasses import replace

import numpy as np
import pytest

from bc_model.contribution_map import (
    ContributionMap,
    contribution_map_from_activations,
    draw_signed_color_bar,
    overlay_signed_map,
)
from bc_model.gradcam import Heatmap, find_cell_grid, overlay_heatmap, resize_cells, resize_heatmap
from tests.bc_model.networks import random_head

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def make_map(cells: list | np.ndarray, **options: object) -> ContributionMap:
    return ContributionMap(np.array(cells, np.float32), 0.0, 0.0, 0.0, **options)


def random_image(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- The sum ---


@pytest.mark.parametrize("units", [(), (7,), (9, 5)])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_contributions_add_up_to_the_margin_of_keras(
    units: tuple[int, ...], seed: int, slope: float
) -> None:
    model, head = random_head(units, seed, slope)
    activations = np.random.default_rng(seed).normal(size=(6, 3, 5, 12)).astype("float32")
    pooled = activations.mean(axis=(1, 2))
    logits = model(pooled).numpy().astype(float)
    margins = logits[:, 1] - logits[:, 0]
    weights, baselines = head.effective_weights(pooled), head.baseline(pooled)
    for one, weight, baseline, margin in zip(activations, weights, baselines, margins, strict=True):
        found = contribution_map_from_activations(one, weight, baseline, margin)
        assert found.baseline + found.cell_sum == pytest.approx(margin, abs=1e-4)
        assert found.baseline + found.cell_sum + found.residual == pytest.approx(margin, abs=1e-12)
        assert abs(found.residual) < 1e-4


def test_contribution_of_a_cell_is_the_change_of_the_margin_without_it() -> None:
    """With a linear head, the margin changes by the cell if its activations are set to zero."""
    _, head = random_head((), 0)
    activations = np.random.default_rng(4).normal(size=(3, 5, 12)).astype("float32")

    def margin_of(one: np.ndarray) -> float:
        benign, malignant = head.logits(one.mean(axis=(0, 1))[None])[0]
        return float(malignant - benign)

    pooled = activations.mean(axis=(0, 1))[None]
    found = contribution_map_from_activations(
        activations, head.effective_weights(pooled)[0], head.baseline(pooled)[0], 0.0
    )
    for row, column in ((0, 0), (1, 3), (2, 4)):
        without = activations.copy()
        without[row, column] = 0.0
        loss = margin_of(activations) - margin_of(without)
        assert found.cells[row, column] == pytest.approx(loss, abs=1e-5)
    assert (found.cells < 0).any()
    assert (found.cells > 0).any()


def test_full_scale_is_the_largest_magnitude_with_a_minimum() -> None:
    assert make_map([[0.5, -3.0]]).full_scale == 3.0
    assert make_map([[0.0, 0.001]]).full_scale == 0.01
    fine = find_cell_grid("resnet50", (64, 64), refinement=2)
    # A cell of one of 25 tiles adds a 25th to the mean margin.
    assert replace(make_map([[0.0, 0.001]]), n_tiles=25).full_scale == pytest.approx(0.001)
    assert make_map(np.zeros((4, 4)), grid=fine).full_scale == pytest.approx(0.0025)


# --- Overlays ---


def test_resize_cells_of_both_signs_equals_the_heatmaps_of_each_sign() -> None:
    cells = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    grid = find_cell_grid("resnet50", (160, 240))
    above, below = (
        resize_heatmap(Heatmap("benign", np.maximum(sign * cells, 0.0), grid), 100, 150)
        for sign in (1, -1)
    )
    resized = resize_cells(cells, grid, 100, 150)
    np.testing.assert_allclose(resized, above - below, atol=1e-6)
    assert cells.min() <= resized.min() < 0.0 < resized.max() <= cells.max()


def test_resize_cells_of_one_positive_cell_has_no_negative_border() -> None:
    cells = np.zeros((5, 5), np.float32)
    cells[2, 2] = 1.0
    resized = resize_cells(cells, None, 100, 100)
    assert resized.min() == 0.0
    assert resized.max() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("value", "color"), [(-2.0, BLUE), (2.0, ORANGE)])
def test_overlay_signed_map_with_full_opacity_has_the_color_of_the_class(
    value: float, color: tuple[int, int, int]
) -> None:
    overlay = overlay_signed_map(random_image(), make_map([[value]]), opacity=1.0)
    np.testing.assert_array_equal(overlay[20, 30], color)


def test_overlay_signed_map_opacity_is_the_square_root_of_the_magnitude() -> None:
    gray = np.full((48, 64, 3), 120, np.uint8)
    overlay = overlay_signed_map(gray, make_map([[-1.0]]), opacity=0.6, full_scale=4.0)
    expected = 120 * (1 - 0.6 * 0.5) + np.array(BLUE) * 0.6 * 0.5
    np.testing.assert_allclose(overlay[20, 30], expected, atol=2)


def test_overlay_signed_map_keeps_pixels_without_a_contribution() -> None:
    rgb, cells = random_image(), [[4.0, 0.0, 0.0, -4.0], [0.0] * 4]
    overlay = overlay_signed_map(rgb, make_map(cells), opacity=1.0)
    is_zero = resize_cells(np.array(cells, np.float32), None, *rgb.shape[:2]) == 0.0
    assert 0 < is_zero.sum() < is_zero.size
    np.testing.assert_array_equal(overlay[is_zero], rgb[is_zero])


@pytest.mark.parametrize(("cells", "opacity"), [([[0.0, 0.0]], 0.6), ([[1.0, -1.0]], 0.0)])
def test_overlay_signed_map_without_anything_to_show_returns_a_copy(
    cells: list, opacity: float
) -> None:
    rgb = random_image()
    overlay = overlay_signed_map(rgb, make_map(cells), opacity=opacity)
    np.testing.assert_array_equal(overlay, rgb)
    assert overlay is not rgb


def test_overlay_signed_map_of_a_weak_map_has_faint_colors() -> None:
    gray = np.full((48, 64, 3), 120, np.uint8)
    weak, strong = (
        overlay_signed_map(gray, make_map([[value]])).astype(int) for value in (1e-4, 1.0)
    )
    assert np.abs(weak - gray).max() < 0.2 * np.abs(strong - gray).max()


def test_overlay_signed_map_keeps_rows_outside_the_field_of_view() -> None:
    rgb = random_image(460, 700)
    overlay = overlay_signed_map(rgb, make_map(np.ones((7, 7))), opacity=1.0)
    np.testing.assert_array_equal(overlay[:2], rgb[:2])
    assert (overlay[2:-2] == ORANGE).all()


def test_overlay_signed_map_places_cells_like_overlay_heatmap() -> None:
    white, grid = np.full((80, 120, 3), 255, np.uint8), find_cell_grid("vgg16", (160, 240))
    cells = np.zeros((5, 8), np.float32)
    cells[3, 6] = 1.0
    signed = overlay_signed_map(white, make_map(cells, grid=grid), opacity=1.0)
    heatmap = overlay_heatmap(white, Heatmap("malignant", cells, grid), opacity=1.0)
    changed = [(overlay != 255).any(axis=-1) for overlay in (signed, heatmap)]
    # The signed scale has half the number of levels, so its border is a little smaller.
    assert changed[0].sum() > 0.8 * changed[1].sum()
    assert not (changed[0] & ~changed[1]).any()


def test_signed_color_bar_is_symmetric_with_a_transparent_center() -> None:
    bar = draw_signed_color_bar(101, 5)
    assert bar.shape == (5, 101, 4)
    assert bar[0, 0].tolist() == [*BLUE, 255]
    assert bar[-1, -1].tolist() == [*ORANGE, 255]
    np.testing.assert_array_equal(bar[0, :, 3], bar[0, ::-1, 3])
    assert bar[0, 50, 3] == 0
