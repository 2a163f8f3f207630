"""The trust test: curves by hand, correct and wrong maps, progress and cancellation."""

from collections.abc import Callable

import numpy as np
import pytest

from bc_model.contribution_map import ContributionMap
from bc_model.data.synthetic import generate_lesion
from bc_model.errors import CanceledError
from bc_model.evaluation.faithfulness import PROPORTIONS, measure_faithfulness
from bc_model.gradcam import find_cell_grid

SIDE = 64


def contribution(cells: np.ndarray, margin: float = 1.0) -> ContributionMap:
    return ContributionMap(cells.astype(np.float32), 0.0, 0.0, margin)


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
    result = measure_faithfulness(left_half_contrast, half_image(), contribution(cells))
    at = {p: i for i, p in enumerate(PROPORTIONS)}
    assert result.curve.deletion[0] == pytest.approx(1.0)
    assert result.curve.insertion[-1] == pytest.approx(1.0)
    assert result.curve.deletion[-1] == result.curve.insertion[0] == pytest.approx(0.0)
    # The other half does not matter.
    assert result.curve.deletion[at[0.5]] == pytest.approx(0.0, abs=0.12)
    assert result.curve.insertion[at[0.5]] == pytest.approx(1.0, abs=0.12)
    assert result.curve.deletion[at[0.7]] == pytest.approx(0.0, abs=0.02)


def test_a_map_of_the_other_half_is_no_better_than_random() -> None:
    cells = np.zeros((8, 8))
    cells[:, 4:] = 1.0
    result = measure_faithfulness(left_half_contrast, half_image(), contribution(cells))
    assert not result.is_better_than_random
    assert result.proportion < 0.2
    assert result.checks[0].code == "BC195"
    for check in result.checks:
        check.message.encode()


def test_the_interval_is_the_exact_binomial_one() -> None:
    cells = np.zeros((8, 8))
    cells[:, :4] = np.linspace(2, 1, 32).reshape(8, 4)
    result = measure_faithfulness(left_half_contrast, half_image(), contribution(cells))
    assert result.proportion == 1.0
    # Lower limit for 30 of 30: 0.025 ** (1 / 30).
    assert result.ci_low == pytest.approx(0.025 ** (1 / 30), abs=1e-6)
    assert result.ci_high == 1.0
    assert result.checks[0].code == "BC194"


def test_evidence_counts_toward_the_predicted_class() -> None:
    cells = np.zeros((8, 8))
    cells[:, :4] = -1.0

    def negative(batch: np.ndarray) -> np.ndarray:
        return -left_half_contrast(batch)

    result = measure_faithfulness(negative, half_image(), contribution(cells, margin=-1.0))
    assert result.is_better_than_random


def lesion_margin(image: np.ndarray, mask: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the similarity of the lesion with the unchanged one."""

    def margin(batch: np.ndarray) -> np.ndarray:
        difference = np.abs(batch.astype(np.int16) - image)[:, mask].mean(axis=(1, 2))
        return 1.0 - difference / 20.0

    return margin


def test_a_correct_map_differs_from_a_random_one_in_95_percent_of_the_lesions() -> None:
    rng = np.random.default_rng(0)
    n_right = n_wrong = 0
    n_images = 20
    grid = find_cell_grid("resnet50", (96, 128))
    for seed in range(n_images):
        image, mask = generate_lesion(seed=seed, case_seed=seed, size=(96, 128))
        rows, columns = np.arange(3) * 32, np.arange(4) * 32
        share = mask[np.ix_(np.minimum(rows, 95), np.minimum(columns, 127))].astype(float)
        share += 0.01 * rng.random(share.shape)
        true = ContributionMap(share.astype(np.float32), 0.0, 0.0, 1.0, grid)
        margin = lesion_margin(image, mask)
        if mask[rows][:, columns].any():
            n_right += measure_faithfulness(margin, image, true).proportion >= 0.8
        else:
            n_right += 1
        shuffled = rng.permutation(share.ravel()).reshape(share.shape).astype(np.float32)
        random = ContributionMap(shuffled, 0.0, 0.0, 1.0, grid)
        n_wrong += measure_faithfulness(margin, image, random).proportion >= 0.97
    assert n_right >= 0.95 * n_images
    assert n_wrong <= 0.25 * n_images


def test_progress_counts_the_changed_images_and_can_cancel() -> None:
    done: list[tuple[int, int]] = []
    cells = np.eye(8)
    measure_faithfulness(
        left_half_contrast, half_image(), contribution(cells), progress=lambda *n: done.append(n)
    )
    assert done[-1] == (86, 86)

    def cancel(n_done: int, n_total: int) -> None:
        raise CanceledError("closed")

    with pytest.raises(CanceledError):
        measure_faithfulness(left_half_contrast, half_image(), contribution(cells), progress=cancel)
