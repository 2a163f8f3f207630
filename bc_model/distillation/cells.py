"""The regions of the image that the cells of the last activations stand for."""

from __future__ import annotations

import numpy as np

from bc_model.model import get_backbone


def mean_of_cells(
    values: np.ndarray, cells: tuple[int, int], backbone: str, scale: float = 1.0
) -> np.ndarray:
    """Return the mean over the region of each cell: a square around its center, in the image.

    Parameters
    ----------
    values : ndarray of shape (n, height, width), float32
        Maps, for example of the background.
    cells : (int, int)
        Rows and columns of the last activations.
    backbone : str
    scale : float
        Side of a pixel of the maps in pixels of the image.

    Returns
    -------
    ndarray of shape (n, rows, columns), float32

    Examples
    --------
    >>> values = np.zeros((1, 64, 64), np.float32)
    >>> values[:, :16, :16] = 1.0
    >>> mean_of_cells(values, (2, 2), "resnet50").tolist()
    [[[1.0, 0.0], [0.0, 0.0]]]
    """
    rows = _edges(values.shape[1], cells[0], backbone, scale)
    columns = _edges(values.shape[2], cells[1], backbone, scale)
    total = np.pad(values.astype(np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    sums = (
        total[:, rows[1]][:, :, columns[1]] - total[:, rows[0]][:, :, columns[1]]
        - total[:, rows[1]][:, :, columns[0]] + total[:, rows[0]][:, :, columns[0]]
    )  # fmt: skip
    areas = np.outer(rows[1] - rows[0], columns[1] - columns[0])
    return (sums / areas).astype(np.float32)


def _edges(n: int, n_cells: int, backbone: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel of each cell, and the pixel after its last one."""
    network = get_backbone(backbone)
    stride = network.stride_px
    # Pixel 0 extends from 0 to 1 here, and its center is at 0.5.
    centers = network.first_cell_px(round(n * scale)) + 0.5 + stride * np.arange(n_cells)
    start = np.clip(np.floor((centers - stride / 2) / scale), 0, n - 1).astype(int)
    end = np.clip(np.floor((centers + stride / 2) / scale), start + 1, n).astype(int)
    return start, end
