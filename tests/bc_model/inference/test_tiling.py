"""Tiles: which fields of view an image is divided into, and how their cells are merged."""

from dataclasses import replace

import numpy as np
import pytest

from bc_model.checks import Check
from bc_model.data.declared_scale import (
    UNKNOWN_SCALE,
    DeclaredScale,
    scale_from_mpp,
    scale_of_frame,
)
from bc_model.inference.bundle import open_bundled_model
from bc_model.inference.model_card import ModelCard, Scale
from bc_model.inference.tiling import MAX_TILES, TilePlan, plan_tiles, whole_image


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """Return a card for 100X and 200X with an input of 224 x 336 px and cells of 32 px."""
    card = open_bundled_model().card
    scale = Scale((100, 200), {"100": (1.1, 1.1), "200": (0.55, 0.55)}, "a test")
    return replace(card, scale=scale)


def plan(width: int, height: int, scale: DeclaredScale, card: ModelCard) -> TilePlan:
    found = plan_tiles(width, height, scale, card)
    assert isinstance(found, TilePlan), found
    return found


def code(width: int, height: int, scale: DeclaredScale, card: ModelCard) -> str:
    found = plan_tiles(width, height, scale, card)
    assert isinstance(found, Check)
    found.message.encode()
    return found.code


def test_a_frame_at_a_supported_magnification_is_one_field(card: ModelCard) -> None:
    found = plan(700, 460, scale_of_frame(200, 700), card)
    assert found.offsets == ((0, 0),)
    assert found.field == (2, 0, 456, 700)
    # 385 um over 336 px and 250.8 um over 224 px.
    assert found.input_mpp == pytest.approx(np.sqrt(385 / 336 * 250.8 / 224), rel=0.01)


def test_a_field_of_twice_the_side_is_four_tiles_or_more_at_the_same_scale(card: ModelCard) -> None:
    found = plan(1400, 912, scale_from_mpp(0.55), card)
    assert found.magnification == 200
    assert found.scaled_size[0] % 32 == 0
    assert (found.scaled_size[1] - 336) % 32 == 0
    assert len(found.tiles) >= 4
    covered = np.zeros((912, 1400), bool)
    for tile in found.tiles:
        covered[
            tile.y0_px : tile.y0_px + tile.height_px, tile.x0_px : tile.x0_px + tile.width_px
        ] = True
        # 385 x 251 um within the rounding to whole cells.
        assert tile.width_px == pytest.approx(700, rel=0.05)
        assert tile.height_px == pytest.approx(456, rel=0.05)
    assert covered[:-3, :-3].all()


def test_a_finer_scan_of_the_same_field_gives_the_same_tiles(card: ModelCard) -> None:
    coarse = plan(1400, 912, scale_from_mpp(0.55), card)
    fine = plan(2800, 1824, scale_from_mpp(0.275), card)
    assert fine.offsets == coarse.offsets
    assert fine.scaled_size == coarse.scaled_size


def test_the_magnification_with_the_most_similar_scale_is_used(card: ModelCard) -> None:
    assert plan(700, 456, scale_from_mpp(1.1), card).magnification == 100
    assert plan(700, 456, scale_from_mpp(0.55), card).magnification == 200
    # 560 um wide: too small for 100X (770 um), large enough for 200X (385 um).
    assert plan(700, 456, scale_from_mpp(0.8), card).magnification == 200


def test_unusable_scales_are_blocked_with_their_reason(card: ModelCard) -> None:
    assert code(700, 460, UNKNOWN_SCALE, card) == "BC140"
    assert code(700, 460, scale_of_frame(400, 700), card) == "BC101"
    assert code(700, 460, scale_from_mpp(2.5), card) == "BC160"
    assert code(700, 460, scale_from_mpp(0.25), card) == "BC161"
    assert code(20_000, 20_000, scale_from_mpp(0.55), card) == "BC164"
    assert MAX_TILES == 400


def test_a_model_without_magnifications_uses_any_image(card: ModelCard) -> None:
    card = replace(card, scale=Scale((), {}, ""))
    assert plan(999, 123, UNKNOWN_SCALE, card).offsets == ((0, 0),)


def test_the_cells_of_all_tiles_add_up_to_their_mean(card: ModelCard) -> None:
    found = plan(1400, 912, scale_from_mpp(0.55), card)
    rng = np.random.default_rng(0)
    used = [0, 2, 3]
    cells = [rng.standard_normal((7, 11)).astype(np.float32) for _ in used]
    merged = found.merge_cells(cells, used, 32.0)
    assert merged.sum() == pytest.approx(np.mean([part.sum() for part in cells]), abs=1e-4)
    # The first cell belongs to the first tile alone.
    assert merged[0, 0] == pytest.approx(cells[0][0, 0] / 3)


def test_tiles_are_cut_from_the_scaled_field(card: ModelCard) -> None:
    image = np.random.default_rng(0).integers(0, 256, (912, 1400, 3)).astype(np.uint8)
    found = plan(1400, 912, scale_from_mpp(0.55), card)
    scaled = found.scale_image(image)
    assert scaled.shape == (*found.scaled_size, 3)
    tiles = list(found.cut(scaled))
    assert {tile.shape for tile in tiles} == {(224, 336, 3)}
    row, column = found.offsets[-1]
    assert np.array_equal(tiles[-1], scaled[row:, column:])


def test_a_whole_image_is_preprocessed_like_in_training(card: ModelCard) -> None:
    from bc_model.data.images import preprocess_image

    image = np.random.default_rng(0).integers(0, 256, (460, 700, 3)).astype(np.uint8)
    found = whole_image(700, 460, card)
    (tile,) = found.cut(found.scale_image(image))
    assert np.array_equal(tile, preprocess_image(image, (224, 336)))
