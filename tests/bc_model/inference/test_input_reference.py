"""The input reference: distances against scikit-learn, codes of unsuitable images, limits."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.covariance import ShrunkCovariance

from bc_model.checks import Severity
from bc_model.data.image_operations import fluorescence_like, ihc_like
from bc_model.errors import BundleError, DataError
from bc_model.inference.input_reference import Distance, InputReference, Measured, check_measured
from bc_model.inference.suitability import COLORS, MEASUREMENTS, measure_field
from bc_model.inference.texture import texture_features


def make_tissue(rng: np.random.Generator) -> np.ndarray:
    """Return a field of 224 x 336 px with purple disks on pink fibers."""
    fibers = cv2.GaussianBlur(rng.standard_normal((224, 336)), (0, 0), 3.0)
    pink = np.array([225.0, 165.0, 200.0]) + 60 * fibers[..., None]
    image = np.clip(pink + rng.normal(0, 6, (224, 336, 3)), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(40, 80))):
        center = int(rng.integers(0, 336)), int(rng.integers(0, 224))
        cv2.circle(image, center, int(rng.integers(3, 7)), (100, 60, 130), -1)
    return image


def measure(images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.stack([measure_field(image) for image in images]),
        np.stack([texture_features(image) for image in images]),
    )


@pytest.fixture(scope="module")
def reference() -> InputReference:
    rng = np.random.default_rng(0)
    images = [make_tissue(rng) for _ in range(60)]
    cases = np.array([str(i // 6) for i in range(60)])
    return InputReference.fit(*measure(images), cases, np.zeros(60, bool))


def codes(reference: InputReference, image: np.ndarray) -> dict[str, Severity]:
    measurements, textures = measure([image])
    found = list(check_measured(reference.measure(measurements[0], textures[0])))
    for check in found:
        check.message.encode()
    return {check.code: check.severity for check in found}


def test_distance_equals_the_shrunk_mahalanobis_distance_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 5))
    standardized = (x - x.mean(axis=0)) / x.std(axis=0)
    oracle = ShrunkCovariance(shrinkage=0.1, assume_centered=True).fit(standardized)
    found = Distance.fit(x, 5).measure(x)
    # The residual is zero with all components, apart from rounding.
    expected = np.sqrt(oracle.mahalanobis(standardized) / 5)
    assert found == pytest.approx(expected, rel=1e-2, abs=2e-2)


def test_the_residual_grows_outside_of_the_components() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((100, 3))
    x[:, 0] = rng.standard_normal(100)
    x[:, 1] = x[:, 0] + 0.01 * rng.standard_normal(100)
    x[:, 2] = rng.standard_normal(100)
    distance = Distance.fit(x, 2)
    near, far = distance.measure(np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]))
    assert far > 10 * near


def test_tissue_passes(reference: InputReference) -> None:
    rng = np.random.default_rng(99)
    blocked = [Severity.BLOCKING in codes(reference, make_tissue(rng)).values() for _ in range(20)]
    assert sum(blocked) <= 1


def test_unsuitable_images_are_blocked_for_the_right_reason(reference: InputReference) -> None:
    tissue = make_tissue(np.random.default_rng(5))
    half_black = tissue.copy()
    half_black[:, :120] = 0
    marked = tissue.copy()
    marked[100:120, 40:300] = (10, 30, 200)
    cases = {
        "BC170": cv2.GaussianBlur(tissue, (0, 0), 4.0),
        "BC171": np.full_like(tissue, 245),
        "BC172": half_black,
        "BC173": marked,
        "BC174": ihc_like(tissue, 1.5),
        "BC175": fluorescence_like(tissue),
        "BC176": np.full_like(tissue, (200, 120, 160)),
        "BC177": np.ascontiguousarray(tissue[..., [1, 0, 2]]),
    }
    for code, image in cases.items():
        found = codes(reference, image)
        assert code in found, (code, found)
        if code != "BC173":
            assert Severity.BLOCKING in found.values(), (code, found)


def test_enlarged_images_have_their_own_limits_of_the_focus() -> None:
    """Worked by hand: 1st percentile 1.2 and 4.2, median 11 and 14, margin 0.35."""
    rng = np.random.default_rng(0)
    measurements = rng.standard_normal((42, len(MEASUREMENTS)))
    measurements[:21, 0] = np.arange(1, 22)
    measurements[21:, 0] = np.arange(4, 25)
    is_enlarged = np.arange(42) < 21
    cases = np.arange(42) % 7
    textures = rng.standard_normal((42, 140))
    fitted = InputReference.fit(measurements, textures, cases, is_enlarged)
    assert fitted.enlarged_focus_limits == pytest.approx((1.2, 1.2 - 0.35 * 9.8))
    assert fitted.focus_limits == pytest.approx((4.2, 4.2 - 0.35 * 9.8))
    values = np.full(len(MEASUREMENTS), 3.0)
    codes = [
        [
            check.code
            for check in check_measured(fitted.measure(values, textures[0], is_enlarged=enlarged))
        ]
        for enlarged in (False, True)
    ]
    assert ["BC170" in found for found in codes] == [True, False]
    all_sharp = InputReference.fit(measurements, textures, cases, np.zeros(42, bool))
    assert all_sharp.enlarged_focus_limits == all_sharp.focus_limits


def test_a_saved_reference_gives_the_same_checks(reference: InputReference, tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    reference.save(path)
    loaded = InputReference.load(path)
    image = ihc_like(make_tissue(np.random.default_rng(5)))
    assert codes(loaded, image) == codes(reference, image)
    assert loaded.color_limits == pytest.approx(reference.color_limits)
    path.write_bytes(b"PK")
    with pytest.raises(BundleError, match="input reference"):
        InputReference.load(path)


def test_one_case_is_refused() -> None:
    images = [make_tissue(np.random.default_rng(0))] * 3
    with pytest.raises(DataError, match="two cases"):
        InputReference.fit(*measure(images), np.array(["1"] * 3), np.zeros(3, bool))


def test_measured_values_have_their_limits(reference: InputReference) -> None:
    measurements, textures = measure([make_tissue(np.random.default_rng(3))])
    measured = reference.measure(measurements[0], textures[0])
    values = dict(zip(MEASUREMENTS, measurements[0].tolist(), strict=True))
    for name in ("tissue", "dark", "brightness", "pen", "brown", "focus", "flat"):
        assert measured[name].value == values[name]
    assert (measured["focus"].warning_limit, measured["focus"].blocking_limit) == (
        reference.focus_limits
    )
    assert measured["color"].value == reference.color.measure(measurements[:1, COLORS])[0]
    assert all(entry.severity is None for entry in measured.values())


@pytest.mark.parametrize(
    ("value", "is_minimum", "severity"),
    [
        (1.0, False, None),
        (1.1, False, Severity.WARNING),
        (2.0, False, Severity.WARNING),
        (2.1, False, Severity.BLOCKING),
        (2.0, True, None),
        (1.9, True, Severity.WARNING),
        (0.9, True, Severity.BLOCKING),
    ],
)
def test_a_measured_value_beyond_a_limit_fails(
    value: float, is_minimum: bool, severity: Severity | None
) -> None:
    limits = (2.0, 1.0) if is_minimum else (1.0, 2.0)
    assert Measured(value, *limits, is_minimum=is_minimum).severity == severity
    assert Measured(value, None, None, is_minimum=is_minimum).severity is None
