"""Sums over pictures under one set of weights or a whole bootstrap of them, in bounded memory.

A ratio whose whole is zero is NaN, never 0 and never a warning: `estimate` turns it into words.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Bounds the temporary float64 copies of a weights matrix to 32 MB each.
_BLOCK_ELEMENTS = 4_000_000


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Divide; NaN where the whole is zero. Complex numbers stay complex."""
    out = np.full(np.shape(whole), np.nan, dtype=np.result_type(part, whole, np.float64))
    return np.divide(part, whole, out=out, where=np.real(whole) != 0)


def weight_matrix(weights: ArrayLike | None, n: int) -> tuple[NDArray[Any], bool]:
    """Return weights as (n_resamples, n), and whether the caller gave one set only.

    Raises
    ------
    ValueError
        The weights are neither of shape (n,) nor of shape (n_resamples, n).
    """
    array = np.ones(n) if weights is None else np.asarray(weights)
    if array.ndim not in (1, 2) or array.shape[-1] != n:
        raise ValueError(f"weights must have shape ({n},) or (n_resamples, {n}), got {array.shape}")
    return np.atleast_2d(array), array.ndim == 1


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


def weighted_sums(columns: Floats, weights: ArrayLike | None) -> Floats:
    """Return weighted sums of columns (n, k): (k,) for one set of weights or (n_resamples, k)."""
    matrix, single = weight_matrix(weights, len(columns))
    sums = np.concatenate([block @ columns for block in row_blocks(matrix)])
    return sums[0] if single else sums
