"""Where the evidence for the predicted class lies: the region of the image, and the background."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bc_model.checks import Check, make_check
from bc_model.contribution_map import ContributionMap
from bc_model.data.images import field_of_view
from bc_model.data.stain import background_mask
from bc_model.gradcam import CellGrid, resize_cells

MAX_BACKGROUND = 0.25
"""Largest proportion of the evidence on background without a warning."""

SPREAD = "spread"
_FIRST, _MIDDLE, _LAST, _ALL = (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (0.0, 1.0)
_MIN_IN_QUARTER, _MIN_IN_HALF = 0.5, 0.6
"""Smallest proportion of the evidence that is mostly in a quarter or a half of the image. Uniform
evidence has 0.25 and 0.5."""


class _Region(NamedTuple):
    """A rectangle of the image, as parts of its height and width."""

    rows: tuple[float, float]
    columns: tuple[float, float]
    min_proportion: float

    def cut(self, values: np.ndarray) -> np.ndarray:
        height, width = values.shape
        (top, bottom), (left, right) = self.rows, self.columns
        rows = slice(round(top * height), round(bottom * height))
        return values[rows, round(left * width) : round(right * width)]


REGIONS = {
    "upper_left": _Region(_FIRST, _FIRST, _MIN_IN_QUARTER),
    "top": _Region(_FIRST, _ALL, _MIN_IN_HALF),
    "upper_right": _Region(_FIRST, _LAST, _MIN_IN_QUARTER),
    "left": _Region(_ALL, _FIRST, _MIN_IN_HALF),
    "center": _Region(_MIDDLE, _MIDDLE, _MIN_IN_QUARTER),
    "right": _Region(_ALL, _LAST, _MIN_IN_HALF),
    "lower_left": _Region(_LAST, _FIRST, _MIN_IN_QUARTER),
    "bottom": _Region(_LAST, _ALL, _MIN_IN_HALF),
    "lower_right": _Region(_LAST, _LAST, _MIN_IN_QUARTER),
}
"""Code to region: quarters and halves of the image. Their names are in `bc_model.checks.TERMS`."""

_MIN_SIDE_PX = 100
"""The network input is sampled down to this side at least, which takes a quarter of the time."""


@dataclass(frozen=True)
class EvidenceLocation:
    """Where the cells that support the predicted class lie.

    Attributes
    ----------
    region : str
        Code of `REGIONS` if one region contains most of the evidence, else 'spread'.
    region_proportion : float
        Proportion of the evidence in the region, in (0, 1]; 1 if the evidence is spread.
    background_proportion : float
        Proportion of the evidence on empty glass, in [0, 1].
    cell_um : float or None
        Distance between the centers of two cells, in µm. None if the scale is unknown.
    """

    region: str
    region_proportion: float
    background_proportion: float
    cell_um: float | None = None

    @property
    def sentence(self) -> Check:
        """The location as a check with the code BC182, whose message is one sentence.

        Examples
        --------
        >>> EvidenceLocation("upper_left", 0.61, 0.12).sentence.message
        'Mostly the upper left; 12 % of the evidence lies on background.'
        """
        return make_check("BC182", **self._params())

    def find_checks(self) -> tuple[Check, ...]:
        """Return the warning BC183 if too much of the evidence lies on background.

        Examples
        --------
        >>> [check.code for check in EvidenceLocation("spread", 1.0, 0.4).find_checks()]
        ['BC183']
        >>> EvidenceLocation("spread", 1.0, 0.25).find_checks()
        ()
        """
        if self.background_proportion <= MAX_BACKGROUND:
            return ()
        return (make_check("BC183", **self._params(), max_percent=round(100 * MAX_BACKGROUND)),)

    def _params(self) -> dict[str, Any]:
        return {"region": [self.region], "background_percent": 100 * self.background_proportion}


def locate_evidence(
    contribution: ContributionMap,
    predicted_class: str,
    pixels: np.ndarray,
    *,
    cell_um: float | None = None,
) -> EvidenceLocation | None:
    """Return where the evidence for the predicted class lies; None if no cell supports the class.

    Parameters
    ----------
    contribution : ContributionMap
        Contribution map of the image.
    predicted_class : {'benign', 'malignant'}
        Class whose evidence is located.
    pixels : ndarray of shape (height, width, 3), uint8
        Input of the network.
    cell_um : float, optional
        See `compute_cell_um`.

    Examples
    --------
    >>> cells = np.array([[0.5, 0.0, 0.0, -1.0]] + 3 * [[0.0] * 4], np.float32)
    >>> contribution = ContributionMap(cells, 0.0, 0.0, -0.5)
    >>> pixels = np.full((4, 4, 3), 255, np.uint8)
    >>> pixels[:, 2:] = 100
    >>> location = locate_evidence(contribution, "malignant", pixels)
    >>> location.region, location.background_proportion
    ('upper_left', 1.0)
    """
    sign = 1.0 if predicted_class == "malignant" else -1.0
    step = max(1, min(pixels.shape[:2]) // _MIN_SIDE_PX)
    sample = pixels[::step, ::step]
    values = resize_cells(contribution.cells, contribution.grid, *sample.shape[:2])
    evidence = np.maximum(sign * values, 0.0).astype(np.float64)
    total = float(evidence.sum())
    if total == 0.0:
        return None
    region, proportion = _find_region(evidence / total)
    return EvidenceLocation(
        region=region,
        region_proportion=proportion,
        background_proportion=float(evidence[background_mask(sample)].sum()) / total,
        cell_um=cell_um,
    )


def _find_region(share: np.ndarray) -> tuple[str, float]:
    """Return the region that exceeds its smallest proportion most, and its proportion."""
    proportions = {name: float(region.cut(share).sum()) for name, region in REGIONS.items()}
    name = max(REGIONS, key=lambda name: proportions[name] / REGIONS[name].min_proportion)
    if proportions[name] <= REGIONS[name].min_proportion:
        return SPREAD, 1.0
    return name, min(proportions[name], 1.0)


def compute_cell_um(
    grid: CellGrid | None, width_px: int, height_px: int, mpp: float | None
) -> float | None:
    """Return the distance between the centers of two cells in µm; None if the scale is unknown.

    It is the geometric mean of both directions, which differ if the image is resized to another
    aspect ratio.

    Parameters
    ----------
    grid : CellGrid or None
        Where the cells are centered in the input of the network.
    width_px, height_px : int
        Size of the image.
    mpp : float or None
        Scale of the image in µm per pixel.

    Examples
    --------
    >>> grid = CellGrid(0.0, 0.0, 32.0, height_px=228, width_px=350)
    >>> compute_cell_um(grid, 700, 456, mpp=0.5)
    32.0
    """
    if grid is None or mpp is None:
        return None
    _, _, field_height, field_width = field_of_view(height_px, width_px)
    factor = math.sqrt(field_height / grid.height_px * field_width / grid.width_px)
    return grid.stride_px * factor * mpp
