"""Drawing: no colour where there is no evidence, and equal colours for equal evidence."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from bc_model.gradcam import Heatmap, spread_over_picture
from bc_model.overlay import colour_bar, overlay_heatmap, probability_bar, shared_scale


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def heatmap(values: list | np.ndarray, class_name: str = "malignant") -> Heatmap:
    return Heatmap(class_name, np.array(values, np.float32))


def cividis(share: float) -> np.ndarray:
    return np.array(matplotlib.colormaps["cividis"](share)[:3]) * 255


def test_an_empty_map_leaves_the_picture() -> None:
    rgb = picture()
    drawn = overlay_heatmap(rgb, heatmap(np.zeros((7, 7))))
    np.testing.assert_array_equal(drawn, rgb)
    assert drawn is not rgb


def test_an_empty_map_leaves_the_picture_at_a_shared_scale_too() -> None:
    rgb = picture()
    drawn = overlay_heatmap(rgb, heatmap(np.zeros((7, 7))), full_scale=3.0)
    np.testing.assert_array_equal(drawn, rgb)


def test_no_opacity_leaves_the_picture() -> None:
    rgb = picture()
    np.testing.assert_array_equal(overlay_heatmap(rgb, heatmap([[1.0]]), opacity=0.0), rgb)


def test_pixels_without_evidence_are_unchanged() -> None:
    rgb, raw = picture(), np.array([[4.0, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    drawn = overlay_heatmap(rgb, heatmap(raw))
    nothing = spread_over_picture(raw, *rgb.shape[:2]) == 0.0
    assert 0 < nothing.sum() < nothing.size
    np.testing.assert_array_equal(drawn[nothing], rgb[nothing])
    assert (drawn[:8, :8] != rgb[:8, :8]).any()


def test_the_strongest_evidence_has_the_last_colour_at_full_opacity() -> None:
    drawn = overlay_heatmap(picture(), heatmap([[2.0]]), opacity=1.0)
    np.testing.assert_allclose(drawn[20, 30], cividis(1.0), atol=2)


def test_a_quarter_of_the_scale_is_drawn_at_half_the_opacity() -> None:
    grey = np.full((48, 64, 3), 120, np.uint8)
    drawn = overlay_heatmap(grey, heatmap([[1.0]]), opacity=0.6, full_scale=4.0)
    expected = 120 * (1 - 0.6 * 0.5) + cividis(0.25) * 0.6 * 0.5
    np.testing.assert_allclose(drawn[20, 30], expected, atol=2)


def test_the_picture_itself_is_not_written_to() -> None:
    rgb = picture()
    before = rgb.copy()
    overlay_heatmap(rgb, heatmap([[1.0, 0.0]]))
    np.testing.assert_array_equal(rgb, before)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 101), (460, 700), (456, 700)])
def test_the_drawing_has_the_size_of_the_picture(height: int, width: int) -> None:
    drawn = overlay_heatmap(picture(height, width), heatmap(np.ones((7, 7))))
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8


def test_rows_that_the_network_did_not_see_stay_as_they_are() -> None:
    rgb = picture(460, 700)
    drawn = overlay_heatmap(rgb, heatmap(np.ones((7, 7))), opacity=1.0)
    np.testing.assert_array_equal(drawn[:2], rgb[:2])
    np.testing.assert_array_equal(drawn[-2:], rgb[-2:])
    assert (drawn[2:-2] != rgb[2:-2]).any(axis=-1).mean() > 0.99


def test_evidence_lands_where_it_lies() -> None:
    """The map is upright: its first row is the top of the picture, its first column the left."""
    raw = np.zeros((4, 4), np.float32)
    raw[0, 3] = 1.0
    spread = spread_over_picture(raw, 100, 200)
    row, column = np.unravel_index(spread.argmax(), spread.shape)
    assert row < 25
    assert column >= 150


def test_both_classes_share_the_larger_scale() -> None:
    maps = {"benign": heatmap([[1.0]], "benign"), "malignant": heatmap([[4.0]])}
    assert shared_scale(maps) == 4.0


def test_maps_that_hardly_move_the_score_are_drawn_faint() -> None:
    maps = {"benign": heatmap([[0.0]], "benign"), "malignant": heatmap([[0.0003]])}
    assert shared_scale(maps) == 0.01


def test_equal_evidence_has_equal_colours_at_a_shared_scale() -> None:
    grey = np.full((32, 32, 3), 120, np.uint8)
    weak = overlay_heatmap(grey, heatmap(np.full((2, 2), 1.0)), full_scale=4.0)
    both = overlay_heatmap(grey, heatmap([[1.0, 1.0], [1.0, 4.0]]), full_scale=4.0)
    np.testing.assert_allclose(weak[0, 0], both[0, 0], atol=1)


@pytest.mark.parametrize("largest", [1e-38, 1e-6, 1.0, 1e30])
@pytest.mark.parametrize("seed", range(3))
def test_a_spread_map_stays_between_zero_and_its_maximum(seed: int, largest: float) -> None:
    rng = np.random.default_rng(seed)
    raw = np.maximum(rng.normal(size=(7, 7)), 0).astype(np.float32)
    raw *= np.float32(largest)
    spread = spread_over_picture(raw, 230, 350)
    assert np.isfinite(spread).all()
    assert spread.min() >= 0.0
    assert spread.max() <= raw.max()
    assert overlay_heatmap(picture(230, 350), heatmap(raw)).shape == (230, 350, 3)


def test_a_map_of_one_cell_covers_the_whole_field() -> None:
    spread = spread_over_picture(np.array([[2.0]], np.float32), 40, 60)
    np.testing.assert_allclose(spread, np.full((40, 60), 2.0), rtol=1e-6)


def test_the_colour_bar_runs_from_the_first_colour_to_the_last() -> None:
    bar = colour_bar(100, 5)
    assert bar.shape == (5, 100, 3)
    np.testing.assert_allclose(bar[0, 0], cividis(0.0), atol=2)
    np.testing.assert_allclose(bar[-1, -1], cividis(1.0), atol=2)


@pytest.mark.parametrize(
    ("probability", "colour"), [(0.49, (0, 114, 178)), (0.5, (213, 94, 0)), (0.9, (213, 94, 0))]
)
def test_the_bar_is_as_long_as_the_probability_and_coloured_by_the_call(
    probability: float, colour: tuple[int, int, int]
) -> None:
    bar = np.asarray(Image.open(io.BytesIO(probability_bar(probability, 0.5))))
    middle = bar[bar.shape[0] // 2]
    filled = (middle[:, 3] == 255) & (middle[:, :3] == colour).all(axis=1)
    # The mark of the cut-off lies over the bar, 6 px wide.
    assert filled.sum() == pytest.approx(1000 * probability, abs=6)
    assert (middle[497:503, :3] == (123, 138, 145)).all()
