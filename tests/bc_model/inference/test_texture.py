"""Texture features: known sizes, gray levels, and finite values."""

import cv2
import numpy as np
import pytest

from bc_model.inference.texture import N_FEATURES, N_STRUCTURE, texture_features

SIZE = (224, 336)


def make_disks(radius_px: int, seed: int = 0) -> np.ndarray:
    """Return a pink field with purple disks that cover a fifth of it, without overlaps."""
    image = np.full((*SIZE, 3), (230, 180, 205), np.uint8)
    step = 4 * radius_px
    rng = np.random.default_rng(seed)
    for y in range(step // 2, SIZE[0], step):
        for x in range(step // 2, SIZE[1], step):
            center = x + int(rng.integers(0, radius_px)), y + int(rng.integers(0, radius_px))
            cv2.circle(image, center, radius_px, (90, 50, 120), -1)
    return image


def opening_changes(pixels: np.ndarray) -> np.ndarray:
    """Return the change of hematoxylin by openings, from the finest disk to the coarsest."""
    levels = texture_features(pixels)[: N_STRUCTURE // 2].reshape(5, -1)
    return levels[:, :3].ravel()


def test_openings_find_the_size_of_dark_disks() -> None:
    """A disk is removed by the first structuring element that does not fit into it."""
    found = [int(np.argmax(opening_changes(make_disks(radius_px)))) for radius_px in (2, 4, 8, 16)]
    assert found == sorted(set(found))


def test_neighbors_in_noise_are_not_correlated() -> None:
    noise = np.random.default_rng(0).integers(60, 200, (*SIZE, 1), np.uint8).repeat(3, axis=2)
    correlations = texture_features(noise)[8:11]
    assert correlations == pytest.approx(np.zeros(3), abs=0.02)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_features_of_a_flat_image_are_finite(value: int) -> None:
    features = texture_features(np.full((*SIZE, 3), value, np.uint8))
    assert features.shape == (N_FEATURES,)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
