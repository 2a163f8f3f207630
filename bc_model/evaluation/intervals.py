"""Confidence intervals, and the case names that they are computed over."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bc_model.utils.metric import Figure as Figure


@dataclass(frozen=True)
class Interval:
    """The two ends of an interval, or None twice and a `note` that says why there is none."""

    low: float | None
    high: float | None
    note: str = ""


def case_names(case: ArrayLike) -> NDArray[np.str_]:
    """Return case names as text, with ``""`` for what is unknown (None, NaN, NA, blank).

    Parameters
    ----------
    case : array-like of shape (n_pictures,)

    Returns
    -------
    ndarray of str, shape (n_pictures,)
    """
    values = np.asarray(case, dtype=object)
    known = ~pd.isna(values)
    return np.array([str(v).strip() if k else "" for v, k in zip(values, known, strict=True)], str)
