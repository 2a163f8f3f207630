"""Stains: mixed from known amounts and found again."""

import numpy as np
import pytest

from bc_model.data.stain import STAIN_COLUMNS, optical_density, restain, stain_statistics

H, E = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def stained(hematoxylin: float, eosin: float) -> np.ndarray:
    """Return the colour of glass with so much of each stain."""
    density = hematoxylin * H / np.linalg.norm(H) + eosin * E / np.linalg.norm(E)
    return np.round(256.0 * 10.0**-density - 1.0).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("hematoxylin", "eosin"), [(0.5, 0.2), (0.1, 0.6), (0.0, 0.3)])
def test_what_was_mixed_is_found(hematoxylin: float, eosin: float) -> None:
    found = optical_density(stained(hematoxylin, eosin))
    assert found == pytest.approx([hematoxylin, eosin, 0.0], abs=0.02)


def test_glass_is_clear() -> None:
    assert optical_density(np.full((2, 3), 255, np.uint8)) == pytest.approx(np.zeros((2, 3)))


def test_a_stain_is_made_stronger_and_weaker() -> None:
    stronger = restain(stained(0.2, 0.3), np.array([2.0, 0.5, 1.0]), np.array([0.0, 0.1, 0.0]))
    assert stronger == pytest.approx(stained(0.4, 0.25).astype(float), abs=1.5)


def test_nothing_changes_when_nothing_is_asked() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    assert restain(colors, np.ones(3), np.zeros(3)) == pytest.approx(colors, abs=1e-3)


def test_statistics_of_a_image() -> None:
    image = np.empty((8, 8, 3), np.uint8)
    image[:4], image[4:] = stained(0.6, 0.0), stained(0.2, 0.0)
    (found,) = stain_statistics(image[None])
    told = dict(zip(STAIN_COLUMNS, found, strict=True))
    assert told["haematoxylin_mean"] == pytest.approx(0.4, abs=0.01)
    assert told["haematoxylin_sd"] == pytest.approx(0.2, abs=0.01)
    assert told["eosin_mean"] == pytest.approx(0.0, abs=0.01)
