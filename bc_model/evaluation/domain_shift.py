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
from bc_model.inference.input_checks import check_sizes, strange_stain, usual_strange_share

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.evaluation.features import FeatureTable
    from bc_model.inference.bundle import Bundle
    from bc_model.inference.predict import Predicted


def check_features(
    known: FeatureTable | None,
    far_share: float | None,
    apart: float | None,
    stain: tuple[StainShift, ...],
) -> Iterator[Check]:
    """Check the feature distance and the mean staining.

    Parameters
    ----------
    known : FeatureTable or None
        Features of the validation images of the model.
    far_share : float or None
        Out-of-distribution proportion.
    apart : float or None
        Separability.
    stain : tuple of StainShift
    """
    if known is None:
        yield make_check("BC304")
    elif far_share is not None and apart is not None:
        code = "BC303" if far_share > 0.5 else "BC302" if far_share > 0.1 else "BC301"
        yield make_check(code, proportion=far_share, separability=apart)
    for one in stain:
        if one.name.endswith("_mean") and abs(one.distance) > 1:
            yield make_check(
                "BC305", stain=one.name.removesuffix("_mean"), distance_sd=one.distance
            )


def check_stain(strange: list[list[str]] | None, usual: float | None) -> Iterator[Check]:
    """Check the proportion of images with out-of-distribution staining.

    Parameters
    ----------
    strange : list of list of str or None
        The differences from the training images, for each image. None if the model does not
        state the staining of its training images.
    usual : float or None
        Proportion for unseen cases of the training dataset, if known.
    """
    if strange is None:
        return
    n = len(strange)
    if n_strange := sum(map(bool, strange)):
        often = Counter(name for names in strange for name in names).most_common(2)
        yield make_check(
            "BC306",
            n_out_of_distribution=n_strange,
            n=n,
            proportion=n_strange / n,
            features=[f"{TERMS[name]} ({count:,})" for name, count in often],
        )
    else:
        yield make_check("BC307", n=n)
    if usual is not None:
        yield make_check("BC308", proportion=usual)


def check_scale(bundle: Bundle, pictures: pd.DataFrame) -> Iterator[Check]:
    """Check the magnification, or report that the scale is not stated."""
    magnifications = bundle.card.scale.magnifications
    known = [f"{m}X" for m in magnifications]
    here = pictures["magnification"].dropna().astype(int)
    if known and len(here) == len(pictures):
        if foreign := sorted(set(here) - set(magnifications)):
            yield make_check(
                "BC314",
                n_unsupported=int(here.isin(foreign).sum()),
                n=len(pictures),
                magnification_names=[f"{m}X" for m in foreign],
                supported_names=known,
            )
    elif known:
        ranges = [bundle.card.scale.mpp_range.get(str(m)) for m in magnifications]
        mpp_ranges = [f"{low:g}-{high:g}" for low, high in (r for r in ranges if r)]
        yield make_check("BC315", supported_names=known, mpp_ranges=mpp_ranges)
    else:
        yield make_check("BC316" if len(here) else "BC317")


N_NEIGHBOURS = 5
FAR_QUANTILE = 0.95
"""A picture is far when it is farther than all but a twentieth of the model's own."""
_BLOCK = 512


@dataclass(frozen=True)
class StainShift:
    """One figure of the stain, in both sets: means over pictures, and their spread."""

    name: str
    known_mean: float
    known_sd: float
    mean: float
    sd: float

    @property
    def distance(self) -> float:
        """Difference of the means in spreads of the known pictures; signed."""
        return (self.mean - self.known_mean) / self.known_sd if self.known_sd > 0 else 0.0

    @property
    def words(self) -> str:
        """The name in words, such as 'eosin, spread'."""
        return self.name.replace("_mean", ", mean").replace("_sd", ", spread")


@dataclass(frozen=True)
class Shift:
    """What sets a set apart from what the model knows.

    Attributes
    ----------
    n : int
        Pictures of the set.
    known_n, known_cases : int
        Validation pictures and cases that it was held against; 0 when the model came without.
    far_share : float or None
        Share of the pictures that are far by their features; 0.05 in a set of the same kind.
    apart : float or None
        Chance that a picture of the set is farther than one of the model's own: 0.5 in a set of
        the same kind, 1 when all are farther.
    stain : tuple of StainShift
    sizes : dict of str to int
        Pictures of each size, such as '50x50', the most frequent first.
    checks : tuple of Check
    strange_stain : int or None
        Pictures stained unlike anything the model learned from; None where its model card does not
        say how that is stained.
    """

    n: int
    known_n: int
    known_cases: int
    far_share: float | None
    apart: float | None
    stain: tuple[StainShift, ...]
    sizes: dict[str, int]
    checks: tuple[Check, ...]
    strange_stain: int | None = None


def measure_shift(
    bundle: Bundle, pictures: pd.DataFrame, predicted: Predicted, known: FeatureTable | None
) -> Shift:
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
    far_share = apart = None
    stain: tuple[StainShift, ...] = ()
    if known is not None:
        stain = _stain_shifts(known.stain, predicted.stain)
        distances = distances_of_known(known)
        if distances.size:
            strangers = np.full(len(predicted.features), "\1")  # of no case that is known
            new = _mean_nearest(predicted.features, known.features, strangers, known.case)
            far_share = float((new > np.quantile(distances, FAR_QUANTILE)).mean())
            is_new = np.arange(distances.size + new.size) >= distances.size
            apart = float(roc_auc(is_new, np.concatenate([distances, new])))
    strange = None
    if (statistics := bundle.card.input.stain) is not None:
        strange = [
            strange_stain(one, bool(grey), statistics)
            for one, grey in zip(predicted.stain, predicted.grey, strict=True)
        ]
    sizes = pictures["width_px"].astype(str) + "x" + pictures["height_px"].astype(str)
    counted = {str(size): int(n) for size, n in sizes.value_counts().items()}
    return Shift(
        n=len(pictures),
        known_n=0 if known is None else len(known.path),
        known_cases=0 if known is None else len(set(known.case.tolist()) - {""}),
        far_share=far_share,
        apart=apart,
        stain=stain,
        sizes=counted,
        checks=(
            *check_features(known, far_share, apart, stain),
            *check_stain(strange, usual_strange_share(bundle.card)),
            *check_sizes(pictures, bundle),
            *check_scale(bundle, pictures),
        ),
        strange_stain=None if strange is None else sum(map(bool, strange)),
    )


def _stain_shifts(known: np.ndarray, new: np.ndarray) -> tuple[StainShift, ...]:
    columns = (known.mean(axis=0), known.std(axis=0), new.mean(axis=0), new.std(axis=0))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(StainShift(name, *row) for name, row in zip(STAIN_COLUMNS, rows, strict=True))


def distances_of_known(known: FeatureTable) -> np.ndarray:
    """Return how far each known picture is from those of other cases, shape (n,); or none, (0,).

    The mean cosine distance to the `N_NEIGHBOURS` nearest. Without a second case there is nothing
    to hold a picture against; pictures without a case count as cases of their own.
    """
    names = np.where(known.case == "", np.char.add("\0", known.path), known.case)
    if np.unique(names).size < 2:
        return np.empty(0)
    return _mean_nearest(known.features, known.features, names, names)


def _mean_nearest(
    features: np.ndarray, others: np.ndarray, case: np.ndarray, other_cases: np.ndarray
) -> np.ndarray:
    """Return the mean distance to the `N_NEIGHBOURS` nearest of other cases, or to all if fewer."""
    blocks = []
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = cosine_distances(features[block], others)
        distances[case[block, None] == other_cases[None]] = np.inf
        nearest = np.partition(distances, min(N_NEIGHBOURS, distances.shape[1]) - 1, axis=1)
        nearest = nearest[:, :N_NEIGHBOURS]
        there = np.isfinite(nearest)
        blocks.append(np.where(there, nearest, 0.0).sum(axis=1) / there.sum(axis=1))
    return np.concatenate(blocks)
