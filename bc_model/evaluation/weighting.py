"""Ratios, and bands of rows of a large matrix in bounded memory.

A ratio whose whole is zero is NaN, never 0 and never a warning: `estimate` turns it into words.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Bounds the temporary float64 copies of a weights matrix to 32 MB each.
_BLOCK_ELEMENTS = 4_000_000


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Divide; NaN where the whole is zero. Complex numbers stay complex."""
    out = np.full(np.shape(whole), np.nan, dtype=np.result_type(part, whole, np.float64))
    return np.divide(part, whole, out=out, where=np.real(whole) != 0)


def row_blocks(matrix: NDArray[Any], width: int | None = None) -> Iterator[Floats]:
    """Yield a matrix as float64 in bands of rows; bootstrap weights come as small integers.

    Parameters
    ----------
    matrix : ndarray of shape (rows, columns)
    width : int, optional
        Elements that a row costs whoever works on the bands; default is its columns.
    """
    rows = max(1, _BLOCK_ELEMENTS // max(1, width or matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows].astype(np.float64)
