"""Where the evidence for the predicted class lies: the region of the image, and the background."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bc_model.checks import Check, make_check
from bc_model.contribution_map import ContributionMap
from bc_model.data.images import field_of_view
from bc_model.data.stain import background_mask
from bc_model.gradcam import CellGrid, resize_cells

MAX_BACKGROUND = 0.25
"""Largest proportion of the evidence on background without a warning."""

MIN_IN_REGION = 0.5
"""The evidence is mostly in a region that contains more than this proportion. A region is a quarter
of the image, so that uniform evidence has half of this proportion in each region."""

SPREAD = "spread"
REGIONS = (
    ("upper_left", "top", "upper_right"),
    ("left", "center", "right"),
    ("lower_left", "bottom", "lower_right"),
)
"""Codes of the regions, from top to bottom and from left to right; see `bc_model.checks.TERMS`."""


@dataclass(frozen=True)
class EvidenceLocation:
    """Where the cells that support the predicted class lie.

    Attributes
    ----------
    region : str
        Code of `REGIONS` if one region contains most of the evidence, else 'spread'.
    region_proportion : float
        Proportion of the evidence in the region with the most evidence, in (0, 1].
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
        >>> [check.code for check in EvidenceLocation("spread", 0.3, 0.4).find_checks()]
        ['BC183']
        >>> EvidenceLocation("spread", 0.3, 0.25).find_checks()
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
    values = resize_cells(contribution.cells, contribution.grid, *pixels.shape[:2])
    evidence = np.maximum(sign * values, 0.0).astype(np.float64)
    total = float(evidence.sum())
    if total == 0.0:
        return None
    code, proportion = _find_region(evidence / total)
    return EvidenceLocation(
        region=code if proportion > MIN_IN_REGION else SPREAD,
        region_proportion=proportion,
        background_proportion=float(evidence[background_mask(pixels)].sum()) / total,
        cell_um=cell_um,
    )


def _find_region(share: np.ndarray) -> tuple[str, float]:
    """Return the region with the largest share, and this share."""
    height, width = share.shape
    found = [
        (float(share[rows, columns].sum()), code)
        for codes, rows in zip(REGIONS, _windows(height), strict=True)
        for code, columns in zip(codes, _windows(width), strict=True)
    ]
    # The first of equal regions.
    proportion, code = max(found, key=lambda item: item[0])
    return code, min(proportion, 1.0)


def _windows(side: int) -> list[slice]:
    """Return the first, the middle and the last half of a side."""
    half = (side + 1) // 2
    return [slice(start, start + half) for start in (0, (side - half) // 2, side - half)]


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
