"""Stain densities of mixtures with given densities."""

import numpy as np
import pytest

from bc_model.data.stain import STAIN_COLUMNS, augment_stain, stain_densities, stain_statistics

H, E = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def mix_stains(hematoxylin: float, eosin: float) -> np.ndarray:
    """Return the color of a mixture of stains."""
    density = hematoxylin * H / np.linalg.norm(H) + eosin * E / np.linalg.norm(E)
    return np.round(256.0 * 10.0**-density - 1.0).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("hematoxylin", "eosin"), [(0.5, 0.2), (0.1, 0.6), (0.0, 0.3)])
def test_stain_densities_mixture_returns_densities(hematoxylin: float, eosin: float) -> None:
    densities = stain_densities(mix_stains(hematoxylin, eosin))
    assert densities == pytest.approx([hematoxylin, eosin, 0.0], abs=0.02)


def test_stain_densities_white_is_zero() -> None:
    assert stain_densities(np.full((2, 3), 255, np.uint8)) == pytest.approx(np.zeros((2, 3)))


def test_augment_stain_scales_and_shifts_densities() -> None:
    stronger = augment_stain(
        mix_stains(0.2, 0.3), np.array([2.0, 0.5, 1.0]), np.array([0.0, 0.1, 0.0])
    )
    assert stronger == pytest.approx(mix_stains(0.4, 0.25).astype(float), abs=1.5)


def test_augment_stain_identity_keeps_colors() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (50, 3), dtype=np.uint8)
    assert augment_stain(colors, np.ones(3), np.zeros(3)) == pytest.approx(colors, abs=1e-3)


def test_stain_statistics_returns_mean_and_sd() -> None:
    image = np.empty((8, 8, 3), np.uint8)
    image[:4], image[4:] = mix_stains(0.6, 0.0), mix_stains(0.2, 0.0)
    (densities,) = stain_statistics(image[None])
    statistics = dict(zip(STAIN_COLUMNS, densities, strict=True))
    assert statistics["hematoxylin_mean"] == pytest.approx(0.4, abs=0.01)
    assert statistics["hematoxylin_sd"] == pytest.approx(0.2, abs=0.01)
    assert statistics["eosin_mean"] == pytest.approx(0.0, abs=0.01)
