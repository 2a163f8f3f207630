"""Further layers of an explanation, on demand: Grad-CAM++, LayerCAM and occlusion."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from bc_model.contribution_map import ContributionMap
from bc_model.data.breakhis import CLASSES
from bc_model.errors import ConfigError
from bc_model.gradcam import CellGrid, Heatmap, find_cell_grid
from bc_model.heatmap_methods import fuse_layers, grad_cam_plus_plus, layer_cam
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine

Progress = Callable[[int, int], None]

GRAD_CAM_PLUS_PLUS, LAYER_CAM, OCCLUSION = "grad-cam-plus-plus", "layer-cam", "occlusion"
LAYERS = (GRAD_CAM_PLUS_PLUS, LAYER_CAM, OCCLUSION)
"""Names of the methods."""

_BATCH = 8
_PATCH_CELLS = 2.0
"""Side of the patch that occlusion hides, in cells."""


def supported_layers(bundle: Bundle) -> tuple[str, ...]:
    """Return the methods that a model supports: LayerCAM over two blocks is for ResNet50."""
    is_resnet = bundle.card.architecture.backbone == "resnet50"
    return LAYERS if is_resnet else (GRAD_CAM_PLUS_PLUS, OCCLUSION)


def explain_layer(
    engine: Engine,
    pixels: np.ndarray,
    method: str,
    class_name: str = "malignant",
    *,
    progress: Progress | None = None,
) -> Heatmap | ContributionMap:
    """Compute one layer for one network input.

    Parameters
    ----------
    engine : Engine
        The model.
    pixels : ndarray of shape (height, width, 3), uint8
        Network input, see `bc_model.data.preprocess_image`.
    method : {'grad-cam-plus-plus', 'layer-cam', 'occlusion'}
        LayerCAM is the maximum over the last two residual blocks, each scaled to 1.
    class_name : {'benign', 'malignant'}
        Class of Grad-CAM++ and LayerCAM.
    progress : callable, optional
        Called with the number of occluded images and of all of them.

    Returns
    -------
    Heatmap or ContributionMap
        For occlusion, a signed map: by how much the margin falls if the surroundings of a cell are
        replaced by the mean color of the image. Its cells do not add up; the residual is the rest.

    Raises
    ------
    ConfigError
        The method is unknown.
    ModelError
        The model does not support the method.
    """
    height, width = pixels.shape[:2]
    grid = find_cell_grid(engine.bundle.card.architecture.backbone, (height, width))
    if method == OCCLUSION:
        return _occlude(engine, pixels, grid, progress)
    if method == GRAD_CAM_PLUS_PLUS:
        activations, gradient = engine.activations_and_gradient(pixels, CLASSES.index(class_name))
        gradients = np.broadcast_to(gradient, activations.shape)
        return Heatmap(class_name, grad_cam_plus_plus(activations, gradients), grid)
    if method == LAYER_CAM:
        block = engine.last_block()
        outputs = block.forward(pixels)
        _, gradient = engine.activations_and_gradient(pixels, CLASSES.index(class_name))
        last = np.broadcast_to(gradient, outputs.last.shape)
        maps = [
            layer_cam(outputs.last, last),
            layer_cam(outputs.previous, block.backward(outputs, gradient)),
        ]
        return Heatmap(class_name, fuse_layers(maps), grid)
    raise ConfigError(f"Unknown layer '{method}'. Choose one of {', '.join(LAYERS)}.")


def _occlude(
    engine: Engine, pixels: np.ndarray, grid: CellGrid | None, progress: Progress | None
) -> ContributionMap:
    width = pixels.shape[1]
    activations, _ = engine.activations_and_gradient(pixels, 0)
    rows, columns = activations.shape[:2]
    stride = grid.stride_px if grid else width / columns
    first_row, first_column = (
        (grid.first_row_px, grid.first_column_px) if grid else (stride / 2, stride / 2)
    )
    mean = np.rint(pixels.reshape(-1, 3).mean(axis=0))
    half = _PATCH_CELLS * stride / 2
    margins: list[float] = []
    batch: list[np.ndarray] = []
    n_cells = rows * columns
    for number in range(n_cells):
        y, x = first_row + number // columns * stride, first_column + number % columns * stride
        hidden = pixels.copy()
        corner, opposite = (round(x - half), round(y - half)), (round(x + half), round(y + half))
        cv2.rectangle(hidden, corner, opposite, mean.tolist(), -1)
        batch.append(hidden)
        if len(batch) == _BATCH or number == n_cells - 1:
            margins += _margins(engine, np.stack(batch)).tolist()
            batch = []
            if progress:
                progress(number + 1, n_cells)
    margin = float(_margins(engine, pixels[None])[0])
    cells = (margin - np.array(margins, np.float32)).reshape(rows, columns).astype(np.float32)
    residual = margin - float(cells.sum(dtype=np.float64))
    return ContributionMap(cells, 0.0, residual, margin, grid)


def _margins(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    logits = engine.predict(pixels).astype(np.float64)
    margins: np.ndarray = logits[:, 1] - logits[:, 0]
    return margins
