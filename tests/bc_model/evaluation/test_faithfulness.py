"""The trust test: curves by hand, correct and wrong maps, progress and cancellation."""

from collections.abc import Callable

import numpy as np
import pytest

from bc_model.data.synthetic import generate_lesion
from bc_model.errors import CanceledError
from bc_model.evaluation.faithfulness import PROPORTIONS, _misplace, measure_faithfulness
from bc_model.gradcam import find_cell_grid

SIDE = 64


def half_image() -> np.ndarray:
    """Return a field of squares of two pixels, which a blur removes."""
    y, x = np.indices((SIDE, SIDE)) // 2
    return np.repeat(((y + x) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


def left_half_contrast(batch: np.ndarray) -> np.ndarray:
    """Return a margin that depends on the contrast of the left half alone."""
    return np.abs(batch[:, :, : SIDE // 2].astype(np.float64) - 127.5).mean(axis=(1, 2, 3))


def test_deletion_and_insertion_curves_by_hand() -> None:
    # Pixels of the left half first: after 50 % of the image, all of it is removed.
    cells = np.zeros((8, 8))
    cells[:, :4] = 1.0
    result = measure_faithfulness(left_half_contrast, half_image(), cells)
    at = {p: i for i, p in enumerate(PROPORTIONS)}
    # Half of the pixels are 0 and half are 255, so that each differs from 127.5 by 127.5.
    assert result.curve.deletion[0] == result.curve.insertion[-1] == pytest.approx(127.5)
    # A strong blur leaves 127 or 128.
    assert result.curve.deletion[-1] == result.curve.insertion[0] == pytest.approx(0.5, abs=0.5)
    # The other half does not matter.
    assert result.curve.deletion[at[0.5]] == pytest.approx(0.0, abs=15.0)
    assert result.curve.insertion[at[0.5]] == pytest.approx(127.5, abs=15.0)
    assert result.curve.deletion[at[0.7]] == pytest.approx(0.0, abs=2.5)


def test_a_map_of_the_other_half_is_no_better_than_random() -> None:
    cells = np.zeros((8, 8))
    cells[:, 4:] = 1.0
    result = measure_faithfulness(left_half_contrast, half_image(), cells)
    assert not result.is_better_than_random
    assert result.proportion < 0.2
    assert result.checks[0].code == "BC195"
    for check in result.checks:
        check.message.encode()


def test_the_interval_is_the_exact_binomial_one() -> None:
    cells = np.zeros((8, 8))
    cells[:, :4] = np.linspace(2, 1, 32).reshape(8, 4)
    result = measure_faithfulness(left_half_contrast, half_image(), cells)
    assert result.proportion == 1.0
    # Lower limit for 30 of 30: 0.025 ** (1 / 30).
    assert result.ci_low == pytest.approx(0.025 ** (1 / 30), abs=1e-6)
    assert result.ci_high == 1.0
    assert result.checks[0].code == "BC194"


def test_an_even_map_is_no_better_than_random() -> None:
    result = measure_faithfulness(left_half_contrast, half_image(), np.ones((8, 8)))
    assert result.proportion == 0.0
    assert [check.code for check in result.checks] == ["BC195"]


def test_curves_of_a_class_that_nothing_supports_are_not_inverted() -> None:
    """Removing the image raises this evidence, so the curves of a faithful map rise and fall."""

    def against(batch: np.ndarray) -> np.ndarray:
        return -left_half_contrast(batch)

    cells = np.zeros((8, 8))
    cells[:, 4:] = 1.0
    result = measure_faithfulness(against, half_image(), cells)
    assert result.curve.deletion[0] == pytest.approx(-127.5)
    assert result.curve.deletion[-1] == pytest.approx(-0.5, abs=0.5)
    # The right half does not matter, and the left half is evidence against the class.
    assert result.is_better_than_random


def test_random_maps_are_misplaced_copies_with_the_same_values() -> None:
    rng = np.random.default_rng(0)
    cells = np.outer(np.hanning(9), np.hanning(12))
    cells += 0.01 * rng.random(cells.shape)
    for _ in range(50):
        copy = _misplace(cells, rng)
        assert np.array_equal(np.sort(copy, axis=None), np.sort(cells, axis=None))
        assert np.corrcoef(copy.ravel(), cells.ravel())[0, 1] <= 0.5 + 1e-9
    assert np.array_equal(_misplace(np.ones((2, 3)), rng), np.ones((2, 3)))


def test_a_smooth_map_of_another_place_seldom_passes() -> None:
    """Copies are as smooth as the map, so that smoothness alone is no advantage."""
    rng = np.random.default_rng(0)
    y, x = np.indices((8, 8))
    n_passed = 0
    for _ in range(20):
        row, column = rng.integers(0, 8, 2)
        cells = np.exp(-(np.square(y - row) + np.square(x - column)) / 4.0)
        center = rng.integers(8, SIDE - 8, 2)

        def evidence(batch: np.ndarray, center: np.ndarray = center) -> np.ndarray:
            top, left = center - 6
            part = batch[:, top : top + 12, left : left + 12].astype(np.float64)
            return np.abs(part - 127.5).mean(axis=(1, 2, 3))

        n_passed += measure_faithfulness(evidence, half_image(), cells).is_better_than_random
    assert n_passed <= 4


def lesion_margin(image: np.ndarray, mask: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the similarity of the lesion with the unchanged one."""

    def margin(batch: np.ndarray) -> np.ndarray:
        difference = np.abs(batch.astype(np.int16) - image)[:, mask].mean(axis=(1, 2))
        return 1.0 - difference / 20.0

    return margin


def test_a_correct_map_differs_from_a_random_one_in_95_percent_of_the_lesions() -> None:
    rng = np.random.default_rng(0)
    n_right = n_wrong = n_images = 0
    grid = find_cell_grid("resnet50", (96, 128))
    for seed in range(25):
        image, mask = generate_lesion(seed=seed, case_seed=seed, size=(96, 128))
        rows, columns = np.arange(3) * 32, np.arange(4) * 32
        true = mask[np.ix_(np.minimum(rows, 95), np.minimum(columns, 127))].astype(float)
        if not true.any():  # No cell has its center in this lesion.
            continue
        n_images += 1
        true += 0.01 * rng.random(true.shape)
        margin = lesion_margin(image, mask)
        n_right += measure_faithfulness(margin, image, true, grid).proportion >= 0.8
        shuffled = rng.permutation(true.ravel()).reshape(true.shape)
        n_wrong += measure_faithfulness(margin, image, shuffled, grid).proportion >= 0.97
    assert n_images >= 15
    assert n_right >= 0.95 * n_images
    assert n_wrong <= 0.25 * n_images


def test_progress_counts_the_changed_images_and_can_cancel() -> None:
    done: list[tuple[int, int]] = []
    cells = np.eye(8)
    measure_faithfulness(
        left_half_contrast, half_image(), cells, progress=lambda *n: done.append(n)
    )
    assert done[-1] == (86, 86)

    def cancel(n_done: int, n_total: int) -> None:
        raise CanceledError("closed")

    with pytest.raises(CanceledError):
        measure_faithfulness(left_half_contrast, half_image(), cells, progress=cancel)
