"""The fields of view of an image at the scale of a model: one field, or tiles of a larger image.

A network knows one field of view, that of a microscope frame. A larger image would be squeezed into
it, so that nuclei look smaller than any in training. It is divided into tiles instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import MPP_RANGE
from bc_model.data.declared_scale import DeclaredScale
from bc_model.data.images import (
    FIELD_PX,
    crop_to_field,
    field_of_view,
    is_enlarged,
    preprocess_image,
)
from bc_model.gradcam import CellGrid, find_cell_grid
from bc_model.inference.model_card import ModelCard
from bc_model.model import BACKBONES

MAX_MAGNIFICATION_FACTOR = 1.5
"""Largest µm per pixel of an image, relative to the frames of the model. Coarser images lack the
details that the network saw in training."""
MIN_FIELD = 0.79
"""Smallest side of an image relative to the field of view of the model, a third of an octave."""
MAX_TILES = 400

_MIN_OVERLAP = 0.05
"""Of neighboring tiles, relative to their side. Structures at a border are seen completely once."""
_DEFAULT_STRIDE_PX = 32


@dataclass(frozen=True)
class Tile:
    """One field of view of an image.

    Attributes
    ----------
    x0_px, y0_px : int
        Upper left corner in the image.
    width_px, height_px : int
        Size in the image.
    """

    x0_px: int
    y0_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True)
class TilePlan:
    """How an image becomes the inputs of a network.

    Attributes
    ----------
    magnification : int or None
        Magnification of the model that the image is compared with, such as 200.
    mpp : float or None
        µm per pixel of the image; None if it is unknown.
    input_mpp : float or None
        µm per pixel of the network input that the scale implies, as the geometric mean of both
        directions; None if it is unknown.
    tile_size : (int, int)
        Height and width of the network input, px.
    scaled_size : (int, int)
        Height and width of the image at the scale of the network input, px.
    offsets : tuple of (int, int)
        Row and column of the upper left corner of each tile in the scaled image, px. They are
        multiples of the distance between two cells of the heatmap.
    field : (int, int, int, int)
        The used region of the image as (top, left, height, width), px.
    """

    magnification: int | None
    mpp: float | None
    input_mpp: float | None
    tile_size: tuple[int, int]
    scaled_size: tuple[int, int]
    offsets: tuple[tuple[int, int], ...]
    field: tuple[int, int, int, int]

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles in pixels of the image, in the order of `offsets`."""
        top, left, height, width = self.field
        y_scale, x_scale = height / self.scaled_size[0], width / self.scaled_size[1]
        return tuple(
            Tile(
                left + round(column * x_scale),
                top + round(row * y_scale),
                round(self.tile_size[1] * x_scale),
                round(self.tile_size[0] * y_scale),
            )
            for row, column in self.offsets
        )

    @property
    def input_px_per_px(self) -> float:
        """Pixels of the network input per pixel of the image, geometric mean of both directions."""
        _, _, height, width = self.field
        return math.sqrt(self.scaled_size[0] * self.scaled_size[1] / (height * width))

    @property
    def is_enlarged(self) -> bool:
        """True if the image has fewer pixels than the network input in a direction."""
        _, _, height, width = self.field
        return is_enlarged(width, height, self.scaled_size)

    def is_comparable(self, card: ModelCard) -> bool:
        """Return whether the texture of the image can be compared with its declared scale.

        Frames that were resized to a square without smoothing have a texture of their own.
        """
        _, _, height, width = self.field
        is_reshaped = f"{width}x{height}" in card.input.reshaped_sizes
        return self.input_mpp is not None and self.magnification is not None and not is_reshaped

    def scale_image(self, image: np.ndarray) -> np.ndarray:
        """Return the field of an image at the scale of the network input, (*scaled_size, 3)."""
        if self.scaled_size == self.tile_size:
            return preprocess_image(image, self.tile_size)
        field = np.ascontiguousarray(crop_to_field(image))
        height, width = self.scaled_size
        shrinks = field.shape[0] >= height and field.shape[1] >= width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(field, (width, height), interpolation=method)

    def cut(self, scaled: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the network input of each tile, shape (*tile_size, 3), from `scale_image`."""
        for row, column in self.offsets:
            yield np.ascontiguousarray(
                scaled[row : row + self.tile_size[0], column : column + self.tile_size[1]]
            )

    def grid(self, backbone: str, refinement: int = 1) -> CellGrid | None:
        """Return the grid of the cells of all tiles together; see `find_cell_grid`."""
        return find_cell_grid(backbone, self.scaled_size, refinement)

    def merge_cells(self, cells: list[np.ndarray], used: list[int], stride_px: float) -> np.ndarray:
        """Return the mean over the used tiles of the cells, each at its place in the image.

        Parameters
        ----------
        cells : list of ndarray of shape (rows, columns)
            Cells of each used tile, such as contributions to its margin.
        used : list of int
            Numbers of these tiles.
        stride_px : float
            Distance between two cells in the network input.

        Returns
        -------
        ndarray of shape (map_rows, map_columns), float32
            The sum of all values is the mean over the used tiles of their sums, so that
            contributions still add up.
        """
        rows, columns = cells[0].shape
        places = [tuple(round(side / stride_px) for side in self.offsets[i]) for i in used]
        last_row, last_column = (round(max(o[i] for o in self.offsets) / stride_px) for i in (0, 1))
        merged = np.zeros((last_row + rows, last_column + columns), np.float64)
        for (row, column), values in zip(places, cells, strict=True):
            merged[row : row + rows, column : column + columns] += values
        return (merged / len(cells)).astype(np.float32)


def plan_tiles(
    width_px: int, height_px: int, scale: DeclaredScale, card: ModelCard
) -> TilePlan | Check:
    """Return how to divide an image, or the check that explains why the model cannot use it.

    Parameters
    ----------
    width_px, height_px : int
        Size of the image.
    scale : DeclaredScale
        Scale of the image.
    card : ModelCard
        Model card with the scale of the model. Without one, the image is one field at any scale.

    Returns
    -------
    TilePlan or Check
        BC101 for a frame at another magnification, BC140 for an unknown scale, BC160 for an image
        that is too coarse, BC161 for a field of view that is too small, and BC164 for an image with
        too many tiles.

    Notes
    -----
    Among the magnifications of the model whose field of view fits into the image, the one with the
    most similar µm per pixel is used.
    """
    supported = card.scale.magnifications
    whole = whole_image(width_px, height_px, card, scale)
    if not supported:
        return whole
    names = [f"{magnification}X" for magnification in supported]
    if scale.magnification is not None:
        if scale.magnification in supported:
            return whole
        return make_check("BC101", magnification=scale.magnification, supported_names=names)
    if scale.mpp is None:
        objectives = [f"{magnification // 10}x" for magnification in supported]
        return make_check("BC140", supported_names=names, objectives=objectives)
    _, _, height, width = field_of_view(height_px, width_px)
    frames = {m: mpp for m in supported if (mpp := frame_mpp(card, m)) is not None}
    if not frames:
        return whole
    fine_enough = {
        m: mpp for m, mpp in frames.items() if scale.mpp <= MAX_MAGNIFICATION_FACTOR * mpp
    }
    if not fine_enough:
        limit = MAX_MAGNIFICATION_FACTOR * max(frames.values())
        return make_check("BC160", mpp=scale.mpp, max_mpp=limit, supported_names=names)
    fields = {
        m: (height * scale.mpp / (FIELD_PX[1] * mpp), width * scale.mpp / (FIELD_PX[0] * mpp))
        for m, mpp in fine_enough.items()
    }
    fitting = [m for m, sides in fields.items() if min(sides) >= MIN_FIELD]
    if not fitting:
        smallest = min(fine_enough.values())
        return make_check(
            "BC161",
            width_um=width * scale.mpp,
            height_um=height * scale.mpp,
            min_width_um=MIN_FIELD * FIELD_PX[0] * smallest,
            min_height_um=MIN_FIELD * FIELD_PX[1] * smallest,
        )
    differences = {m: abs(math.log2(scale.mpp / frames[m])) for m in fitting}
    magnification = min(differences, key=differences.__getitem__)
    return _divide(width_px, height_px, scale.mpp, magnification, fields[magnification], card)


def whole_image(
    width_px: int, height_px: int, card: ModelCard, scale: DeclaredScale | None = None
) -> TilePlan:
    """Return the plan that uses the image as one field of view, whatever its scale."""
    size = (card.input.height_px, card.input.width_px)
    field = field_of_view(height_px, width_px)
    magnification = scale.magnification if scale else None
    mpp = scale.mpp if scale else None
    input_mpp = mpp and mpp * math.sqrt(field[2] * field[3] / (size[0] * size[1]))
    return TilePlan(magnification, mpp, input_mpp, size, size, ((0, 0),), field)


def frame_mpp(card: ModelCard, magnification: int) -> float | None:
    """Return the µm per pixel of the frames of a model, as geometric mean of its range.

    None if neither the model card nor BreakHis state the range.
    """
    stated = card.scale.mpp_range.get(str(magnification))
    limits = stated or MPP_RANGE.get(magnification)
    return math.sqrt(limits[0] * limits[1]) if limits else None


def _divide(
    width_px: int,
    height_px: int,
    mpp: float,
    magnification: int,
    sides: tuple[float, float],
    card: ModelCard,
) -> TilePlan | Check:
    """Return the plan of an image whose sides are a multiple of the field of view."""
    size = (card.input.height_px, card.input.width_px)
    stride = cell_stride_px(card)
    scaled = [
        side_px + stride * max(0, round((side - 1.0) * side_px / stride))
        for side, side_px in zip(sides, size, strict=True)
    ]
    starts = [
        _spread(length, side_px, stride) for length, side_px in zip(scaled, size, strict=True)
    ]
    offsets = tuple((row, column) for row in starts[0] for column in starts[1])
    if len(offsets) > MAX_TILES:
        return make_check("BC164", n_tiles=len(offsets), max_tiles=MAX_TILES)
    field = field_of_view(height_px, width_px)
    input_mpp = mpp * math.sqrt(field[2] * field[3] / (scaled[0] * scaled[1]))
    return TilePlan(magnification, mpp, input_mpp, size, (scaled[0], scaled[1]), offsets, field)


def cell_stride_px(card: ModelCard) -> int:
    """Return the distance between two cells of a heatmap in the network input, px."""
    backbone = BACKBONES.get(card.architecture.backbone)
    return int(backbone.stride_px) if backbone else _DEFAULT_STRIDE_PX


def _spread(length_px: int, side_px: int, stride_px: int) -> list[int]:
    """Return evenly spread starts of intervals that cover a length, at multiples of the stride."""
    free = (length_px - side_px) // stride_px
    step = max(1.0, side_px * (1.0 - _MIN_OVERLAP) / stride_px)
    n_steps = math.ceil(free / step)
    return [stride_px * round(free * i / n_steps) for i in range(n_steps + 1)] if n_steps else [0]
