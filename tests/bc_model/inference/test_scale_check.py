"""The scale estimator: known textures, limits, and damaged files."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from bc_model.checks import Severity
from bc_model.errors import BundleError
from bc_model.inference.scale_check import ScaleEstimator, choose_frames, fit_scale_estimator
from bc_model.inference.texture import texture_features

SIZE = (96, 128)


def make_nuclei(rng: np.random.Generator, mpp: float, side: tuple[int, int]) -> np.ndarray:
    """Return a field with purple disks of 8 um on pink, at any scale."""
    image = np.full((*side, 3), (230, 180, 205), np.uint8)
    radius = 4.0 / mpp
    n_disks = max(3, int(0.1 * side[0] * side[1] / (np.pi * radius**2)))
    for _ in range(n_disks):
        center = rng.integers(0, side[1]), rng.integers(0, side[0])
        cv2.circle(image, center, max(1, round(radius)), (90, 50, 120), -1)
    noise = rng.normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def estimator() -> ScaleEstimator:
    rng = np.random.default_rng(0)
    mpps = np.repeat([0.5, 1.0], 6)
    images = [make_nuclei(rng, mpp, (192, 256)) for mpp in mpps]
    return fit_scale_estimator(images, mpps, SIZE)


@pytest.mark.parametrize("mpp", [0.7, 1.5, 3.0])
def test_the_estimate_is_near_the_true_scale(estimator: ScaleEstimator, mpp: float) -> None:
    rng = np.random.default_rng(7)
    found = [estimator.estimate(texture_features(make_nuclei(rng, mpp, SIZE))) for _ in range(3)]
    assert abs(np.log2(np.median(found) / mpp)) < 0.5


@pytest.mark.parametrize(
    ("octaves", "severity"),
    [
        (0.49, None),
        (-0.49, None),
        (0.51, Severity.WARNING),
        (-0.74, Severity.WARNING),
        (0.76, Severity.BLOCKING),
        (-2.0, Severity.BLOCKING),
    ],
)
def test_a_contradiction_is_a_warning_and_then_blocking(
    estimator: ScaleEstimator, octaves: float, severity: Severity | None
) -> None:
    found = estimator.check(1.1, 1.1 * 2.0**octaves)
    assert (found and found.severity) == severity
    if found:
        assert found.params["direction"] == ("coarser" if octaves > 0 else "finer")
        assert found.params["factor"] == pytest.approx(2.0 ** abs(octaves))


def test_a_saved_estimator_gives_the_same_estimate(
    estimator: ScaleEstimator, tmp_path: Path
) -> None:
    texture = texture_features(make_nuclei(np.random.default_rng(1), 1.0, SIZE))
    path = tmp_path / "scale.npz"
    estimator.save(path)
    assert ScaleEstimator.load(path).estimate(texture) == pytest.approx(
        estimator.estimate(texture), rel=1e-6
    )
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match="scale estimator"):
        ScaleEstimator.load(path)


def test_arrays_that_do_not_fit_are_refused(estimator: ScaleEstimator, tmp_path: Path) -> None:
    path = tmp_path / "scale.npz"
    ScaleEstimator(
        estimator.mean[:-1], estimator.sd, estimator.support, estimator.weights, 0.0
    ).save(path)
    with pytest.raises(BundleError, match="do not fit"):
        ScaleEstimator.load(path)


def test_choose_frames_takes_full_size_frames_of_known_scale() -> None:
    images = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(33)],
            "case": ["a"] * 30 + ["b", "b", "b"],
            "magnification": [200] * 30 + [100, pd.NA, 200],
            "width_px": [700] * 31 + [700, 350],
        }
    )
    chosen = choose_frames(images)
    assert chosen.groupby(["case", "magnification"]).size().to_dict() == {
        ("a", 200): 12,
        ("b", 100): 1,
    }
    assert list(chosen.index) == sorted(chosen.index)
    # Geometric means of 0.5 and 0.6, and of 1.0 and 1.2 µm per pixel.
    assert set(chosen["mpp"].round(3)) == {0.548, 1.095}
    assert choose_frames(images[31:]).empty
