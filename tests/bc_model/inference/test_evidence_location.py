"""Where the evidence lies: regions, the proportion on background, and the size of a cell."""

import numpy as np
import pytest

from bc_model.checks import Severity
from bc_model.contribution_map import ContributionMap
from bc_model.gradcam import find_cell_grid
from bc_model.inference.evidence_location import (
    REGIONS,
    EvidenceLocation,
    compute_cell_um,
    locate_evidence,
)

TISSUE = np.full((60, 80, 3), 120, np.uint8)


def make_map(cells: np.ndarray) -> ContributionMap:
    return ContributionMap(np.asarray(cells, np.float32), 0.0, 0.0, 0.0)


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(3))
def test_locate_evidence_of_one_cell_is_its_region(row: int, column: int) -> None:
    cells = np.full((3, 3), -0.5)
    cells[row, column] = 1.0
    location = locate_evidence(make_map(cells), "malignant", TISSUE)
    assert location is not None
    assert location.region == list(REGIONS)[3 * row + column]
    assert location.region_proportion > 0.7


def test_locate_evidence_uses_the_cells_of_the_predicted_class() -> None:
    cells = [[4.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0]]
    regions = {
        name: location.region
        for name in ("benign", "malignant")
        if (location := locate_evidence(make_map(cells), name, TISSUE))
    }
    assert regions == {"benign": "lower_right", "malignant": "upper_left"}


def test_locate_evidence_without_support_is_none() -> None:
    assert locate_evidence(make_map([[-1.0, 0.0]]), "malignant", TISSUE) is None
    assert locate_evidence(make_map([[-1.0, 0.0]]), "benign", TISSUE) is not None


def test_locate_evidence_of_equal_cells_is_spread() -> None:
    location = locate_evidence(make_map(np.ones((3, 4))), "malignant", TISSUE)
    assert location is not None
    assert (location.region, location.region_proportion) == ("spread", 1.0)


def test_locate_evidence_of_four_corners_is_spread() -> None:
    cells = np.zeros((6, 6))
    cells[::5, ::5] = 1.0
    location = locate_evidence(make_map(cells), "malignant", TISSUE)
    assert location is not None
    assert (location.region, location.background_proportion) == ("spread", 0.0)


@pytest.mark.parametrize(
    ("left", "region", "proportion"), [(0.7, "left", 0.7), (0.55, "spread", 1.0)]
)
def test_locate_evidence_in_a_half_needs_more_than_60_percent(
    left: float, region: str, proportion: float
) -> None:
    cells = np.repeat([[left, left, 1 - left, 1 - left]], 2, axis=0)
    location = locate_evidence(make_map(cells), "malignant", TISSUE)
    assert location is not None
    assert location.region == region
    # The values are interpolated in the middle.
    assert location.region_proportion == pytest.approx(proportion, abs=0.02)


def test_locate_evidence_of_a_large_input_equals_that_of_a_small_one() -> None:
    cells = np.random.default_rng(0).uniform(0, 1, (7, 11))
    cells[:3, :4] += 10.0
    small = np.where(np.arange(120)[:, None] < 60, 240, 120).astype(np.uint8)
    small = np.repeat(np.repeat(small[..., None], 180, axis=1), 3, axis=2)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    first, second = (locate_evidence(make_map(cells), "malignant", x) for x in (small, large))
    assert first is not None
    assert second is not None
    assert first.region == second.region == "upper_left"
    assert second.region_proportion == pytest.approx(first.region_proportion, abs=0.01)
    assert second.background_proportion == pytest.approx(first.background_proportion, abs=0.01)


def test_background_proportion_is_the_evidence_on_empty_glass() -> None:
    """Two cells with 3 and 1, side by side: without interpolation, a quarter is on the right."""
    pixels = np.full((1, 2, 3), 120, np.uint8)
    pixels[:, 1] = 240
    location = locate_evidence(make_map([[3.0, 1.0]]), "malignant", pixels)
    assert location is not None
    assert location.background_proportion == pytest.approx(0.25)
    assert location.find_checks() == ()


def test_evidence_on_background_above_a_quarter_is_a_warning() -> None:
    (check,) = EvidenceLocation("spread", 1.0, 0.31).find_checks()
    assert (check.code, check.severity) == ("BC183", Severity.WARNING)
    assert "31 % of the evidence lies on background" in check.message
    assert "Above 25 %" in check.message


def test_sentence_states_region_and_background() -> None:
    check = EvidenceLocation("upper_left", 0.6, 0.124).sentence
    assert (check.code, check.severity) == ("BC182", Severity.INFO)
    assert check.message == "Mostly the upper left; 12 % of the evidence lies on background."


@pytest.mark.parametrize("region", [*REGIONS, "spread"])
def test_every_region_has_a_term(region: str) -> None:
    message = EvidenceLocation(region, 0.6, 0.0).sentence.message
    assert message.startswith(("Mostly the ", "Spread over "))
    assert "_" not in message


@pytest.mark.parametrize(("refinement", "expected"), [(1, 40.0), (2, 20.0), (4, 10.0)])
def test_compute_cell_um_of_a_frame(refinement: int, expected: float) -> None:
    # A frame of 700 x 460 px has a field of 456 rows: 456 / 228 = 700 / 350 px for a px of the
    # input, 32 of them for a cell.
    grid = find_cell_grid("resnet50", (228, 350), refinement)
    assert compute_cell_um(grid, 700, 460, 0.625) == pytest.approx(expected)


def test_compute_cell_um_without_a_scale_or_grid_is_none() -> None:
    assert compute_cell_um(find_cell_grid("resnet50", (228, 350)), 700, 460, None) is None
    assert compute_cell_um(None, 700, 460, 0.5) is None
