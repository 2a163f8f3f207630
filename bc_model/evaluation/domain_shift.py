"""How far another set of pictures is from what a model knows: features, stain, size and scale.

The model's own validation pictures are the measure: it has not learned from them, so they lie as
far off as new pictures of the same kind would. Training pictures look nearer than any new one can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bc_model.checks import TERMS, Check, make_check
from bc_model.data.stain import STAIN_COLUMNS
from bc_model.evaluation.features import FeatureTable, cosine_distances
from bc_model.evaluation.metrics import roc_auc
from bc_model.inference.input_checks import (
    check_sizes,
    expected_unusual_proportion,
    unusual_staining,
)

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.evaluation.features import FeatureTable
    from bc_model.inference.bundle import Bundle
    from bc_model.inference.predict import Predicted


def check_features(
    known: FeatureTable | None,
    ood_proportion: float | None,
    separability: float | None,
    stain: tuple[StainShift, ...],
) -> Iterator[Check]:
    """Check the feature distance and the mean staining.

    Parameters
    ----------
    known : FeatureTable or None
        Features of the validation images of the model.
    ood_proportion : float or None
        Out-of-distribution proportion.
    apart : float or None
        Separability.
    stain : tuple of StainShift
    """
    if known is None:
        yield make_check("BC304")
    elif ood_proportion is not None and separability is not None:
        code = "BC303" if ood_proportion > 0.5 else "BC302" if ood_proportion > 0.1 else "BC301"
        yield make_check(code, proportion=ood_proportion, separability=separability)
    for one in stain:
        if one.name.endswith("_mean") and abs(one.distance) > 1:
            yield make_check(
                "BC305", stain=one.name.removesuffix("_mean"), distance_sd=one.distance
            )


def check_stain(unusual: list[list[str]] | None, usual: float | None) -> Iterator[Check]:
    """Check the proportion of images with out-of-distribution staining.

    Parameters
    ----------
    strange : list of list of str or None
        The differences from the training images, for each image. None if the model does not
        state the staining of its training images.
    usual : float or None
        Proportion for unseen cases of the training dataset, if known.
    """
    if unusual is None:
        return
    n = len(unusual)
    if n_unusual := sum(map(bool, unusual)):
        often = Counter(name for names in unusual for name in names).most_common(2)
        yield make_check(
            "BC306",
            n_out_of_distribution=n_unusual,
            n=n,
            proportion=n_unusual / n,
            features=[f"{TERMS[name]} ({count:,})" for name, count in often],
        )
    else:
        yield make_check("BC307", n=n)
    if usual is not None:
        yield make_check("BC308", proportion=usual)


def check_scale(bundle: Bundle, images: pd.DataFrame) -> Iterator[Check]:
    """Check the magnification, or report that the scale is not stated."""
    magnifications = bundle.card.scale.magnifications
    known = [f"{m}X" for m in magnifications]
    here = images["magnification"].dropna().astype(int)
    if known and len(here) == len(images):
        if foreign := sorted(set(here) - set(magnifications)):
            yield make_check(
                "BC314",
                n_unsupported=int(here.isin(foreign).sum()),
                n=len(images),
                magnification_names=[f"{m}X" for m in foreign],
                supported_names=known,
            )
    elif known:
        ranges = [bundle.card.scale.mpp_range.get(str(m)) for m in magnifications]
        mpp_ranges = [f"{low:g}-{high:g}" for low, high in (r for r in ranges if r)]
        yield make_check("BC315", supported_names=known, mpp_ranges=mpp_ranges)
    else:
        yield make_check("BC316" if len(here) else "BC317")


N_NEIGHBORS = 5
OOD_QUANTILE = 0.95
"""A picture is far when it is farther than all but a twentieth of the model's own."""
_BLOCK = 512


@dataclass(frozen=True)
class StainShift:
    """One figure of the stain, in both sets: means over pictures, and their spread."""

    name: str
    reference_mean: float
    reference_sd: float
    mean: float
    sd: float

    @property
    def distance(self) -> float:
        """Difference of the means in spreads of the known pictures; signed."""
        return (
            (self.mean - self.reference_mean) / self.reference_sd if self.reference_sd > 0 else 0.0
        )

    @property
    def label(self) -> str:
        """The name in words, such as 'eosin, spread'."""
        return self.name.replace("_mean", ", mean").replace("_sd", ", spread")


@dataclass(frozen=True)
class DomainShift:
    """What sets a set apart from what the model knows.

    Attributes
    ----------
    n : int
        Pictures of the set.
    known_n, seen_cases : int
        Validation pictures and cases that it was held against; 0 when the model came without.
    ood_proportion : float or None
        Share of the pictures that are far by their features; 0.05 in a set of the same kind.
    apart : float or None
        Chance that a picture of the set is farther than one of the model's own: 0.5 in a set of
        the same kind, 1 when all are farther.
    stain : tuple of StainShift
    sizes : dict of str to int
        Pictures of each size, such as '50x50', the most frequent first.
    checks : tuple of Check
    unusual_staining : int or None
        Pictures stained unlike anything the model learned from; None where its model card does not
        say how that is stained.
    """

    n_images: int
    n_reference_images: int
    n_reference_cases: int
    ood_proportion: float | None
    separability: float | None
    stain: tuple[StainShift, ...]
    sizes: dict[str, int]
    checks: tuple[Check, ...]
    n_unusual_staining: int | None = None


def measure_domain_shift(
    bundle: Bundle, images: pd.DataFrame, predicted: Predicted, known: FeatureTable | None
) -> DomainShift:
    """Hold a set of pictures against what a model knows.

    Parameters
    ----------
    bundle : Bundle
    pictures : pandas.DataFrame
        Rows of a manifest: ``width_px``, ``height_px``, ``magnification`` (NA where no name says
        it).
    predicted : Predicted
        For those rows.
    known : FeatureTable or None
        Of the model's own validation pictures; None when the model came without.
    """
    ood_proportion = separability = None
    stain: tuple[StainShift, ...] = ()
    if known is not None:
        stain = _stain_shifts(known.stain, predicted.stain)
        distances = reference_distances(known)
        if distances.size:
            unseen_images = np.full(len(predicted.features), "\1")  # of no case that is known
            new = _mean_nearest(predicted.features, known.features, unseen_images, known.case)
            ood_proportion = float((new > np.quantile(distances, OOD_QUANTILE)).mean())
            is_new = np.arange(distances.size + new.size) >= distances.size
            separability = float(roc_auc(is_new, np.concatenate([distances, new])))
    unusual = None
    if (statistics := bundle.card.input.stain) is not None:
        unusual = [
            unusual_staining(one, bool(gray), statistics)
            for one, gray in zip(predicted.stain, predicted.gray, strict=True)
        ]
    sizes = images["width_px"].astype(str) + "x" + images["height_px"].astype(str)
    counted = {str(size): int(n) for size, n in sizes.value_counts().items()}
    return DomainShift(
        n_images=len(images),
        n_reference_images=0 if known is None else len(known.path),
        n_reference_cases=0 if known is None else len(set(known.case.tolist()) - {""}),
        ood_proportion=ood_proportion,
        separability=separability,
        stain=stain,
        sizes=counted,
        checks=(
            *check_features(known, ood_proportion, separability, stain),
            *check_stain(unusual, expected_unusual_proportion(bundle.card)),
            *check_sizes(images, bundle),
            *check_scale(bundle, images),
        ),
        n_unusual_staining=None if unusual is None else sum(map(bool, unusual)),
    )


def _stain_shifts(known: np.ndarray, new: np.ndarray) -> tuple[StainShift, ...]:
    columns = (known.mean(axis=0), known.std(axis=0), new.mean(axis=0), new.std(axis=0))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(StainShift(name, *row) for name, row in zip(STAIN_COLUMNS, rows, strict=True))


def reference_distances(known: FeatureTable) -> np.ndarray:
    """Return how far each known picture is from those of other cases, shape (n,); or none, (0,).

    The mean cosine distance to the `N_NEIGHBORS` nearest. Without a second case there is nothing
    to hold a picture against; pictures without a case count as cases of their own.
    """
    names = np.where(known.case == "", np.char.add("\0", known.path), known.case)
    if np.unique(names).size < 2:
        return np.empty(0)
    return _mean_nearest(known.features, known.features, names, names)


def _mean_nearest(
    features: np.ndarray, others: np.ndarray, case: np.ndarray, other_cases: np.ndarray
) -> np.ndarray:
    """Return the mean distance to the `N_NEIGHBORS` nearest of other cases, or to all if fewer."""
    blocks = []
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = cosine_distances(features[block], others)
        distances[case[block, None] == other_cases[None]] = np.inf
        find_nearest = np.partition(distances, min(N_NEIGHBORS, distances.shape[1]) - 1, axis=1)
        find_nearest = find_nearest[:, :N_NEIGHBORS]
        there = np.isfinite(find_nearest)
        blocks.append(np.where(there, find_nearest, 0.0).sum(axis=1) / there.sum(axis=1))
    return np.concatenate(blocks)
