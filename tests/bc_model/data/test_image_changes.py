"""Changes of an image, by hand."""

import numpy as np
import pytest

from bc_model.data.image_changes import Fill, ImageChange, apply_change, parse_change
from bc_model.data.stain import stain_densities
from bc_model.errors import ConfigError


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_no_change_is_byte_equal_and_a_copy() -> None:
    image = noise()
    found = apply_change(image, ImageChange())
    np.testing.assert_array_equal(found, image)
    assert found is not image


@pytest.mark.parametrize("fill", list(Fill))
def test_only_the_rectangle_is_replaced(fill: Fill) -> None:
    image = noise()
    found = apply_change(image, ImageChange((0.5, 0.25, 1.0, 0.75), fill))
    outside = np.ones((40, 60), bool)
    outside[10:30, 30:60] = False
    np.testing.assert_array_equal(found[outside], image[outside])
    assert (found[~outside] != image[~outside]).mean() > 0.5


def test_mean_color_is_that_of_the_region() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = (40, 80, 120)
    found = apply_change(image, ImageChange((0.0, 0.0, 0.5, 0.5)))
    assert found[1, 1].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("rectangle", "expected"),
    [
        ((0.5, 0.0, 0.75, 1.0), [0, 1, 1, 3]),  # The wider neighbor is on the left, mirrored.
        ((0.0, 0.0, 0.5, 1.0), [3, 2, 2, 3]),  # On the right.
    ],
)
def test_neighboring_tissue_is_mirrored_at_the_wider_side(
    rectangle: tuple[float, float, float, float], expected: list[int]
) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image += np.arange(4, dtype=np.uint8)[None, :, None]
    found = apply_change(image, ImageChange(rectangle, Fill.NEIGHBORING_TISSUE))
    assert found[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    "rectangle", [(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.9), (0.1, 0.05, 0.15, 1.0)]
)
def test_neighboring_tissue_fills_any_region(rectangle: tuple[float, float, float, float]) -> None:
    image = noise()
    assert apply_change(image, ImageChange(rectangle, Fill.NEIGHBORING_TISSUE)).shape == image.shape


def test_brightness_multiplies_and_clips() -> None:
    image = np.full((2, 2, 3), (100, 200, 10), np.uint8)
    assert apply_change(image, ImageChange(brightness=1.5))[0, 0].tolist() == [150, 255, 15]


def test_stain_multiplies_the_density_of_both_stains() -> None:
    image = np.full((2, 2, 3), (180, 120, 190), np.uint8)
    before = stain_densities(image)[0, 0]
    after = stain_densities(apply_change(image, ImageChange(stain=0.5)))[0, 0]
    assert after[:2] == pytest.approx(0.5 * before[:2], abs=0.01)
    assert after[2] == pytest.approx(before[2], abs=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"rectangle": (0.5, 0.0, 0.4, 1.0)},
        {"rectangle": (0.0, 0.0, 1.1, 1.0)},
        {"blur_px": -1.0},
        {"blur_px": float("nan")},
        {"brightness": 0.0},
        {"stain": 4.0},
        {"fill": "paint"},
    ],
)
def test_invalid_changes_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=r"Expected|Use|Choose"):
        ImageChange(**options)


def test_parse_change_reads_every_part() -> None:
    text = "rectangle=0.1:0.2:0.5:0.6, fill=Neighboring tissue,blur=2,brightness=0.8,stain=1.2"
    expected = ImageChange((0.1, 0.2, 0.5, 0.6), Fill.NEIGHBORING_TISSUE, 2.0, 0.8, 1.2)
    assert parse_change(text) == expected


@pytest.mark.parametrize(
    "text", ["", "blur", "blur=", "blur=x", "size=3", "blur=1,blur=2", "rectangle=0:0:1",
             "rectangle=0.5:0:0.1:1", "fill=red", "blur=99", "stain=0"],
)  # fmt: skip
def test_parse_change_refuses_other_texts(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected|Choose"):
        parse_change(text)
