"""Checks of heatmaps, with values that are computed by hand."""

import numpy as np
import pytest

from bc_model.data.synthetic import generate_image, generate_lesion
from bc_model.errors import DataError
from bc_model.evaluation import explanation_checks as e
from bc_model.gradcam import GradCAM, Heatmap
from bc_model.inference.model_card import ExplanationChecks
from bc_model.utils.serialization import dumps, loads

TISSUE, GLASS = (200, 120, 170), (242, 240, 243)


def pair(benign: list[list[float]], malignant: list[list[float]]) -> dict[str, Heatmap]:
    """Return heatmaps whose values fill blocks of 4 x 4 px."""
    return {
        name: Heatmap(name, np.kron(raw, np.ones((4, 4))).astype(np.float32))
        for name, raw in (("benign", benign), ("malignant", malignant))
    }


def half_glass() -> np.ndarray:
    """Return an image whose right half is glass."""
    image = np.empty((4, 8, 3), np.uint8)
    image[:, :4], image[:, 4:] = TISSUE, GLASS
    return image


def test_background_and_agreement_match_hand_computed_values() -> None:
    heatmaps = [
        pair([[0.0, 1.0]], [[3.0, 1.0]]),  # a quarter on glass, peak on tissue, agrees twice
        pair([[2.0, 2.0]], [[0.0, 3.0]]),  # all on glass; larger maximum, smaller sum
        pair([[0.0, 1.0]], [[0.0, 0.0]]),  # empty for the predicted class
        pair([[4.0, 0.0]], [[0.0, 1.0]]),  # all on tissue
    ]
    predicted = ["malignant", "malignant", "malignant", "benign"]
    checks = e.check_explanations(
        [half_glass()] * 4, heatmaps, predicted,
        ["malignant", "malignant", "benign", "benign"], list("abcd"), images="four images",
    )  # fmt: skip
    assert checks.background_mass.value == pytest.approx((0.25 + 1 + 0) / 3)
    assert checks.pooled_background_mass == pytest.approx((1 + 3 + 0) / (4 + 3 + 4))
    assert checks.background_area.value == pytest.approx(0.5)
    assert checks.background_peak.value == pytest.approx(1 / 3)
    assert checks.agreement_by_sum.value == pytest.approx(2 / 4)
    assert checks.agreement_by_maximum.value == pytest.approx(3 / 4)
    assert (checks.n_empty, checks.background_mass.n_images) == (1, 3)
    assert checks.agreement_by_sum.n_cases == 4
    assert loads(ExplanationChecks, dumps(checks)) == checks


def test_explanations_of_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="Explain the images again"):
        e.check_explanations([half_glass()], [], ["benign"], ["benign"], ["a"], images="x")


def test_pointing_counts_hits_mass_and_chance() -> None:
    mask = np.zeros((4, 8), bool)
    mask[:, :4] = True
    heatmaps = [pair([[0.0, 0.0]], raw) for raw in ([[3.0, 1.0]], [[1.0, 3.0]], [[0.0, 0.0]])]
    result = e.measure_pointing(heatmaps, [mask] * 3, "malignant", ["a", "b", "c"], images="x")
    assert result.hit_rate.value == pytest.approx(1 / 3)
    assert result.mass.value == pytest.approx((0.75 + 0.25 + 0) / 3)
    assert (result.area, result.n_empty, result.hit_rate.n_cases) == (0.5, 1, 3)


def test_mosaics_mark_the_tiles_of_the_class() -> None:
    pixels = np.stack([np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 200, 210)])
    classes = ["benign", "benign", "malignant", "malignant"]
    mosaics, masks = e.make_mosaics(pixels, classes, "malignant", seed=1)
    assert mosaics.shape == (2, 4, 6, 3)
    assert masks.mean() == 0.5
    for value, mosaic, mask in zip((200, 210), mosaics, masks, strict=True):
        assert set(mosaic[mask].ravel()) == {value}
        assert set(mosaic[~mask].ravel()) <= {10, 20}
    again, _ = e.make_mosaics(pixels, classes, "malignant", seed=1)
    np.testing.assert_array_equal(mosaics, again)
    with pytest.raises(DataError, match="both classes"):
        e.make_mosaics(pixels[:2], classes[:2], "malignant")


def test_lesion_is_malignant_in_the_mask_and_benign_elsewhere() -> None:
    image, mask = generate_lesion(seed=4, case_seed=2, size=(230, 350))
    distances = [
        np.abs(
            image.astype(int)
            - generate_image(malignant=label, seed=4, case_seed=2, size=(230, 350))
        ).mean(axis=2)
        for label in (False, True)
    ]
    # Outside of the soft edge, every pixel is that of one of the two images.
    assert (distances[1][mask] <= 1).mean() > 0.85
    assert (distances[0][~mask] <= 1).mean() > 0.9
    assert (distances[0][mask] <= 1).mean() < 0.5
    np.testing.assert_array_equal(image, generate_lesion(seed=4, case_seed=2, size=(230, 350))[0])


def test_rank_correlation_ignores_monotonic_changes_and_constant_maps() -> None:
    values = np.array([[1.0, 5.0], [2.0, 9.0]])
    assert e.rank_correlation(values, values**3) == pytest.approx(1.0)
    assert np.isnan(e.rank_correlation(values, np.ones((2, 2))))
    heatmaps = [pair([[1, 2]], [[1, 2]]), pair([[0, 0]], [[0, 0]])]
    result = e.compare_randomized(
        heatmaps, [pair([[2, 1]], [[2, 1]]), heatmaps[1]], ["benign", "malignant"], layers="x"
    )
    assert result.rank_correlation == pytest.approx(-1.0)
    assert (result.n_images, result.n_constant) == (1, 1)


@pytest.mark.slow
def test_random_weights_change_the_heatmaps_and_are_restored() -> None:
    from bc_model.model import build_model

    model = build_model("tiny", image_size=(64, 96))
    pixels = np.stack([generate_image(malignant=True, seed=s, size=(64, 96)) for s in (0, 1)])
    explain = GradCAM(model)
    before = explain(pixels, "malignant")
    with e.random_weights(model, ["logits"], seed=3):
        inside = explain(pixels, "malignant")
    after = explain(pixels, "malignant")
    assert not np.allclose(before[0].raw, inside[0].raw)
    for first, last in zip(before, after, strict=True):
        np.testing.assert_array_equal(first.raw, last.raw)
