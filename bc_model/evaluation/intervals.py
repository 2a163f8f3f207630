"""Figures with their uncertainty: a bootstrap that draws whole cases, never single pictures.

Pictures of one case resemble each other, so an interval over pictures is several times too narrow.
This module knows nothing of metrics; it makes the weights and turns replicates into intervals.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

# 4 million weights are 32 MB as float64: the largest temporary array a metric makes of a block.
_BLOCK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class Figure:
    """One number as it is shown to people: with its interval and what it rests on.

    Parameters
    ----------
    value : float or None
        The figure; None means it is not defined for this data, and `note` says why.
    low, high : float or None
        The 95 % interval; both None when there is none, and `note` says why.
    n : int
        Pictures the figure was computed from.
    n_cases : int
        Known cases among them; 0 when no case is known.
    method : str
        How the interval was made.
    note : str
        What a reader must know to read the figure.

    Raises
    ------
    ValueError
        A number is NaN or infinite, or only one end of the interval is given.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_cases: int
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a Figure holds finite numbers or None, got {number}")
        if (self.low is None) != (self.high is None):
            raise ValueError("a Figure has both ends of its interval or neither")

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 2) -> str:
        """Return the figure in one line.

        Examples
        --------
        >>> print(Figure(0.891, 0.812, 0.949, 120, 8, "bootstrap"))
        0.89 (95 % 0.81-0.95; 120 pictures, 8 cases)
        >>> print(Figure(None, None, None, 120, 8, "", "only one class present"))
        not defined: only one class present
        """
        if self.value is None:
            return f"not defined: {self.note}"
        if self.low is None or self.high is None:
            interval = f"no interval: {self.note}" if self.note else "no interval"
        else:
            interval = f"95 % {self.low:.{digits}f}-{self.high:.{digits}f}"
        return f"{self.value:.{digits}f} ({interval}; {self._support()})"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values only; what is not defined is None, never NaN."""
        return asdict(self)

    def _support(self) -> str:
        pictures = "1 picture" if self.n == 1 else f"{self.n} pictures"
        if self.n_cases == 0:
            return f"{pictures}, cases unknown"
        return f"{pictures}, {'1 case' if self.n_cases == 1 else f'{self.n_cases} cases'}"


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


def case_clusters(
    case: ArrayLike, stratum: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Find the clusters that a bootstrap draws: one for each (case, class).

    In this domain a case carries one class. Where it does not, its benign and its malignant
    pictures are two clusters, because the draw is made within each class. A picture whose case is
    unknown is a cluster of its own.

    Parameters
    ----------
    case : array-like of str, shape (n_pictures,)
        Empty or NA means unknown.
    stratum : array-like, shape (n_pictures,)
        The class of each picture.

    Returns
    -------
    cluster : ndarray of int, shape (n_pictures,)
        Cluster of each picture; clusters of one class are numbered in a row.
    cluster_stratum : ndarray of int, shape (n_clusters,)
        Class of each cluster, as a rank among the sorted classes.
    n_unknown : int
        Pictures whose case is unknown.

    Raises
    ------
    ValueError
        The two arrays differ in length.
    """
    names = case_names(case)
    strata = np.asarray(stratum)
    if names.shape != strata.shape:
        raise ValueError(f"case has {names.size} pictures but stratum has {strata.size}")
    unknown = names == ""
    known_names, known_code = np.unique(names[~unknown], return_inverse=True)
    code = np.empty(names.size, dtype=np.intp)
    code[~unknown] = known_code
    code[unknown] = known_names.size + np.arange(int(unknown.sum()))
    _, stratum_code = np.unique(strata, return_inverse=True)
    # A case number stays below `span`, so the pair (class, case) fits one sortable number.
    span = names.size + 1
    pairs, cluster = np.unique(stratum_code * span + code, return_inverse=True)
    return cluster, pairs // span, int(unknown.sum())


def case_bootstrap_blocks(
    case: ArrayLike, stratum: ArrayLike, *, n_resamples: int = 2000, seed: int = 0
) -> Iterator[NDArray[np.int32]]:
    """Yield `case_bootstrap_weights` in blocks of replicates, so that memory stays bounded.

    Parameters
    ----------
    case, stratum, n_resamples, seed
        As for `case_bootstrap_weights`.

    Yields
    ------
    ndarray of int32, shape (n_block, n_pictures)
        The next replicates; all blocks together are the whole matrix, whatever their size.
    """
    cluster, cluster_stratum, _ = case_clusters(case, stratum)
    block = max(1, _BLOCK_ELEMENTS // max(1, cluster.size))
    for counts in cluster_draws(cluster_stratum, n_resamples=n_resamples, seed=seed, block=block):
        yield np.take(counts, cluster, axis=1)


def cluster_draws(
    cluster_stratum: NDArray[np.intp], *, n_resamples: int, seed: int, block: int | None = None
) -> Iterator[NDArray[np.int32]]:
    """Yield how often each cluster is drawn, in blocks of resamples.

    Parameters
    ----------
    cluster_stratum : ndarray of int, shape (n_clusters,)
        As `case_clusters` returns it.
    n_resamples, seed : int
    block : int, optional
        Resamples in a block; default is all of them.

    Yields
    ------
    ndarray of int32, shape (n_block, n_clusters)
        Multiplicities; those of a class add up to its number of clusters.
    """
    sizes = np.bincount(cluster_stratum)
    # One stream a class: the draws of a class depend neither on the other nor on the block size.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(len(sizes))]
    block = block or n_resamples
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        counts = [_draw(rng, rows, int(k)) for rng, k in zip(streams, sizes, strict=True)]
        yield np.concatenate(counts, axis=1)


def case_bootstrap_weights(
    case: ArrayLike, stratum: ArrayLike, *, n_resamples: int = 2000, seed: int = 0
) -> NDArray[np.int32]:
    """Return how often each picture counts in each bootstrap replicate.

    Cases are drawn with replacement *within each class*, as many as there are: a replicate never
    loses a class, so a figure that is defined on the data is defined on every replicate. In
    exchange the interval does not cover the chance of having met other numbers of benign and
    malignant cases. All pictures of a case are drawn together.

    Parameters
    ----------
    case : array-like of str, shape (n_pictures,)
        Empty or NA means unknown: such a picture is drawn alone, and the interval is too narrow.
    stratum : array-like, shape (n_pictures,)
        The class of each picture. A case with both classes counts as two clusters.
    n_resamples : int, default=2000
        Number of replicates.
    seed : int, default=0
        The same seed gives the same weights, in whatever order the pictures of known cases come.

    Returns
    -------
    ndarray of int32, shape (n_resamples, n_pictures)
        Multiplicities, 0 upwards.

    Examples
    --------
    >>> w = case_bootstrap_weights(["a", "a", "b", "c"], [0, 0, 0, 1], n_resamples=2)
    >>> bool((w[:, 0] == w[:, 1]).all()), w[:, 3].tolist()
    (True, [1, 1])
    """
    weights = np.empty((n_resamples, np.asarray(stratum).size), dtype=np.int32)
    start = 0
    for block in case_bootstrap_blocks(case, stratum, n_resamples=n_resamples, seed=seed):
        weights[start : start + len(block)] = block
        start += len(block)
    return weights


def percentile_interval(
    replicates: ArrayLike, *, level: float = 0.95, max_undefined: float = 0.05
) -> Interval:
    """Turn bootstrap replicates of a figure into a percentile interval.

    Parameters
    ----------
    replicates : array-like of float, shape (n_resamples,)
        NaN where the figure was not defined; those are left out.
    level : float, default=0.95
        Coverage aimed at, in (0, 1).
    max_undefined : float, default=0.05
        With a larger share of undefined replicates there is no interval: those left would be a
        selection.

    Returns
    -------
    Interval
        Without ends, too, when every replicate is the same (one case, or no mistake at all): the
        width would be zero, which says that nothing was measured, not that the figure is certain.
    """
    values = np.asarray(replicates, dtype=np.float64)
    defined = values[~np.isnan(values)]
    undefined_share = 1.0 if values.size == 0 else 1 - defined.size / values.size
    if undefined_share > max_undefined:
        return Interval(None, None, f"{100 * undefined_share:.0f} % of the resamples had no figure")
    # Equal sums taken in another order differ in the last bits.
    if np.ptp(defined) <= 1e-12 * max(1.0, float(np.abs(defined).max())):
        return Interval(None, None, "all cases gave the same, so their spread is unseen")
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _draw(rng: np.random.Generator, rows: int, k: int) -> NDArray[np.int32]:
    """Draw k of k clusters with replacement, `rows` times; return multiplicities (rows, k)."""
    picks = rng.integers(0, k, size=(rows, k))
    picks += k * np.arange(rows)[:, None]
    return np.bincount(picks.ravel(), minlength=rows * k).reshape(rows, k).astype(np.int32)
