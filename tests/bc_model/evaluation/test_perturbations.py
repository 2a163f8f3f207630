"""Changes of images for the measurement of robustness."""

import numpy as np
import pytest

from bc_model.data.stain import stain_densities
from bc_model.data.synthetic import generate_image
from bc_model.evaluation import perturbations as p

IMAGE = generate_image(malignant=True, seed=3, size=(230, 350))


@pytest.mark.parametrize("perturbation", p.PERTURBATIONS, ids=lambda change: change.name)
def test_every_change_is_deterministic_and_changes_the_image(
    perturbation: p.Perturbation,
) -> None:
    before = IMAGE.copy()
    changed = perturbation(IMAGE)
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(changed, perturbation(IMAGE))
    np.testing.assert_array_equal(before, IMAGE)
    assert changed.shape != IMAGE.shape or (changed != IMAGE).mean() > 0.1


def test_names_are_unique() -> None:
    names = [change.name for change in p.PERTURBATIONS]
    assert len(set(names)) == len(names)


def test_blur_of_an_official_frame_has_the_stated_standard_deviation() -> None:
    point = np.zeros((460, 700, 3), np.uint8)
    point[:, 350] = 255  # a vertical line, so that only the width matters
    profile = p.blur(point, 4.0)[230, :, 0].astype(float)
    x = np.arange(700) - 350
    sd = np.sqrt((profile * x**2).sum() / profile.sum())
    assert sd == pytest.approx(4.0, abs=0.15)


def test_blur_of_a_squashed_frame_is_scaled_for_each_side() -> None:
    def spread(axis: int) -> float:
        line = np.zeros((224, 224, 3), np.uint8)
        line[(slice(None), 112) if axis else 112] = 255
        blurred = p.blur(line, 8.0)[..., 0].astype(float)
        profile = blurred[112] if axis else blurred[:, 112]
        return float(np.sqrt((profile * (np.arange(224) - 112) ** 2).sum() / profile.sum()))

    assert spread(1) == pytest.approx(8 * 224 / 700, abs=0.15)
    assert spread(0) == pytest.approx(8 * 224 / 460, abs=0.15)


def test_crop_keeps_the_center() -> None:
    image = np.zeros((8, 12, 3), np.uint8)
    image[2:6, 3:9] = 7
    np.testing.assert_array_equal(p.crop_center(image, 0.5), np.full((4, 6, 3), 7))


def test_stain_factor_multiplies_only_the_density_of_its_stain() -> None:
    pixel = np.array([[[120, 90, 160]]], np.uint8)
    before, after = stain_densities(pixel), stain_densities(p.change_stain(pixel, 0.8, stain=0))
    assert after[0, 0, 0] == pytest.approx(0.8 * before[0, 0, 0], abs=0.01)
    np.testing.assert_allclose(after[0, 0, 1:], before[0, 0, 1:], atol=0.01)


def test_lower_jpeg_quality_is_farther_from_the_original() -> None:
    def error(quality: int) -> float:
        return float(np.abs(p.compress_jpeg(IMAGE, quality).astype(int) - IMAGE).mean())

    assert 0 < error(75) < error(50)


def test_half_the_resolution_removes_a_pattern_of_single_pixels() -> None:
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(p.reduce_resolution(stripes, 2), np.full((8, 8, 3), 100))
