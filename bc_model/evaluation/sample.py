"""What a bootstrap draws: whole cases, never single pictures.

Pictures of one case resemble each other, so an interval over pictures is several times too narrow.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bc_model.evaluation.intervals import case_names
from bc_model.evaluation.weighting import Floats

# Pictures without a case are drawn in at most this many random groups of a class: as good as one
# by one, and thousands of them cost no more than a hundred cases.
_MAX_GROUPS = 200


@dataclass(frozen=True)
class CaseSample:
    """The clusters that are drawn: one for each case, within each class.

    Attributes
    ----------
    cluster : ndarray of int, shape (n_pictures,)
        Of each picture, 0 to ``size - 1``.
    stratum : ndarray of int, shape (size,)
        Class of each cluster, as a rank among the classes present.
    """

    cluster: NDArray[np.intp]
    stratum: NDArray[np.intp]

    @classmethod
    def of(cls, case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> "CaseSample":
        """Find the clusters; unknown cases are empty text, and such pictures are drawn alone."""
        cluster, stratum, _ = case_clusters(_pooled(case_names(case), malignant), malignant)
        return cls(cluster, stratum)

    @property
    def size(self) -> int:
        """Number of clusters."""
        return self.stratum.size

    def sums(self, columns: Floats) -> Floats:
        """Add up what the pictures of each cluster have: (n_pictures, k) to (size, k)."""
        return np.stack(
            [np.bincount(self.cluster, weights=c, minlength=self.size) for c in columns.T], axis=1
        )

    def draws(self, n_resamples: int, seed: int) -> Floats:
        """Draw clusters with replacement *within each class*, as many as there are.

        A resample never loses a class, so a figure that is defined on the data is defined on every
        resample. In exchange the interval does not cover the chance of having met other numbers of
        benign and malignant cases.

        Parameters
        ----------
        n_resamples : int
        seed : int
            0 or more. The same seed draws the same, in whatever order the pictures of known cases
            come.

        Returns
        -------
        ndarray of float64, shape (n_resamples, size)
            How often each cluster is drawn.
        """
        sizes = np.bincount(self.stratum)
        # One stream a class: its draws do not depend on the other.
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(sizes.size)]
        counts = [_draw(rng, n_resamples, int(k)) for rng, k in zip(streams, sizes, strict=True)]
        return np.concatenate(counts, axis=1).astype(np.float64)


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


def _draw(rng: np.random.Generator, rows: int, k: int) -> NDArray[np.int32]:
    """Draw k of k clusters with replacement, `rows` times; return multiplicities (rows, k)."""
    picks = rng.integers(0, k, size=(rows, k))
    picks += k * np.arange(rows)[:, None]
    return np.bincount(picks.ravel(), minlength=rows * k).reshape(rows, k).astype(np.int32)


def _pooled(case: NDArray[np.str_], malignant: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Name random groups for the pictures of unknown cases where there are very many."""
    names = case.astype(object)
    rng = np.random.default_rng(0)
    for truth in (False, True):
        unknown = np.flatnonzero((case == "") & (malignant == truth))
        if unknown.size > _MAX_GROUPS:
            groups = rng.permutation(unknown.size) % _MAX_GROUPS
            names[unknown] = [f"\0{k}" for k in groups]  # no case is called so
    return names.astype(str)
