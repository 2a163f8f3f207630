"""Domain shift of a dataset relative to the training data: features, staining, size and scale.

The reference are the validation images of the model. Training images are unsuitable, because the
network fits them closer than any new image.
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
    expected_out_of_distribution_proportion,
    find_staining_differences,
)

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.inference.batching import ModelOutputs
    from bc_model.inference.bundle import Bundle

N_NEIGHBORS = 5
OOD_QUANTILE = 0.95
"""An image is out of distribution beyond this quantile of the distances of the reference."""

_BLOCK = 512


@dataclass(frozen=True)
class StainShift:
    """One stain statistic of the reference images and of the dataset: mean and deviation."""

    name: str
    reference_mean: float
    reference_sd: float
    mean: float
    sd: float

    @property
    def distance(self) -> float:
        """Difference of the means in standard deviations of the reference images."""
        return (self.mean - self.reference_mean) / self.reference_sd if self.reference_sd else 0.0

    @property
    def label(self) -> str:
        """Name for a reader, such as 'eosin, spread'."""
        return self.name.replace("_mean", ", mean").replace("_sd", ", spread")


@dataclass(frozen=True)
class DomainShift:
    """Difference of a dataset from the training data.

    Attributes
    ----------
    n_images : int
        Number of images of the dataset.
    n_reference_images, n_reference_cases : int
        Numbers of validation images and cases; 0 for a model without reference features.
    ood_proportion : float or None
        Out-of-distribution proportion of the images; 0.05 without a shift.
    separability : float or None
        Probability that the feature distance of an image exceeds that of a reference image; 0.5
        without a shift.
    sizes : dict of str to int
        Number of images of each size, such as '50x50', in descending order.
    n_unusual_staining : int or None
        Number of images with out-of-distribution staining; None if the model card does not
        contain the staining of the training images.
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
    bundle: Bundle, images: pd.DataFrame, predicted: ModelOutputs, reference: FeatureTable | None
) -> DomainShift:
    """Return the domain shift of images."""
    ood_proportion = separability = None
    stain: tuple[StainShift, ...] = ()
    if reference is not None:
        stain = _compare_stains(reference.stain, predicted.stain)
        expected = reference_distances(reference)
        if expected.size:
            new_cases = np.full(len(predicted.features), "\1")  # No case has such a name.
            distances = _mean_nearest(
                predicted.features, reference.features, new_cases, reference.case
            )
            ood_proportion = float((distances > np.quantile(expected, OOD_QUANTILE)).mean())
            is_new = np.arange(expected.size + distances.size) >= expected.size
            separability = float(roc_auc(is_new, np.concatenate([expected, distances])))
    unusual = None
    if (statistics := bundle.card.input.stain) is not None:
        unusual = [
            find_staining_differences(row, bool(gray), statistics)
            for row, gray in zip(predicted.stain, predicted.gray, strict=True)
        ]
    sizes = images["width_px"].astype(str) + "x" + images["height_px"].astype(str)
    return DomainShift(
        n_images=len(images),
        n_reference_images=0 if reference is None else len(reference.path),
        n_reference_cases=0 if reference is None else len(set(reference.case.tolist()) - {""}),
        ood_proportion=ood_proportion,
        separability=separability,
        stain=stain,
        sizes={str(size): int(n) for size, n in sizes.value_counts().items()},
        checks=(
            *check_features(reference, ood_proportion, separability, stain),
            *check_stain(unusual, expected_out_of_distribution_proportion(bundle.card)),
            *check_sizes(images, bundle),
            *check_scale(bundle, images),
        ),
        n_unusual_staining=None if unusual is None else sum(map(bool, unusual)),
    )


def reference_distances(reference: FeatureTable) -> np.ndarray:
    """Return the distance of each reference image from those of other cases, shape (n_images,).

    The distance is the mean cosine distance to the `N_NEIGHBORS` nearest images. An image of an
    unknown case counts as a case. The result is empty with fewer than two cases.
    """
    names = np.where(reference.case == "", np.char.add("\0", reference.path), reference.case)
    if np.unique(names).size < 2:
        return np.empty(0)
    return _mean_nearest(reference.features, reference.features, names, names)


def check_features(
    reference: FeatureTable | None,
    ood_proportion: float | None,
    separability: float | None,
    stain: tuple[StainShift, ...],
) -> Iterator[Check]:
    """Check the feature distance and the mean staining; for the parameters see `DomainShift`."""
    if reference is None:
        yield make_check("BC304")
    elif ood_proportion is not None and separability is not None:
        code = "BC303" if ood_proportion > 0.5 else "BC302" if ood_proportion > 0.1 else "BC301"
        yield make_check(code, proportion=ood_proportion, separability=separability)
    for shift in stain:
        if shift.name.endswith("_mean") and abs(shift.distance) > 1:
            yield make_check(
                "BC305", stain=shift.name.removesuffix("_mean"), distance_sd=shift.distance
            )


def check_stain(unusual: list[list[str]] | None, expected: float | None) -> Iterator[Check]:
    """Check the proportion of images with out-of-distribution staining."""
    if unusual is None:
        return
    n = len(unusual)
    if n_unusual := sum(map(bool, unusual)):
        most_common = Counter(name for names in unusual for name in names).most_common(2)
        yield make_check(
            "BC306",
            n_out_of_distribution=n_unusual,
            n_images=n,
            proportion=n_unusual / n,
            features=[f"{TERMS[name]} ({count:,})" for name, count in most_common],
        )
    else:
        yield make_check("BC307", n_images=n)
    if expected is not None:
        yield make_check("BC308", proportion=expected)


def check_scale(bundle: Bundle, images: pd.DataFrame) -> Iterator[Check]:
    """Check that the model supports the magnifications, or that a scale is unknown."""
    magnifications = bundle.card.scale.magnifications
    supported = [f"{m}X" for m in magnifications]
    stated = images["magnification"].dropna().astype(int)
    if supported and len(stated) == len(images):
        if unsupported := sorted(set(stated) - set(magnifications)):
            yield make_check(
                "BC314",
                n_unsupported=int(stated.isin(unsupported).sum()),
                n_images=len(images),
                magnification_names=[f"{m}X" for m in unsupported],
                supported_names=supported,
            )
    elif supported:
        ranges = [bundle.card.scale.mpp_range.get(str(m)) for m in magnifications]
        mpp_ranges = [f"{low:g}-{high:g}" for low, high in (r for r in ranges if r)]
        yield make_check("BC315", supported_names=supported, mpp_ranges=mpp_ranges)
    else:
        yield make_check("BC316" if len(stated) else "BC317")


def _compare_stains(reference: np.ndarray, new: np.ndarray) -> tuple[StainShift, ...]:
    columns = (reference.mean(axis=0), reference.std(axis=0), new.mean(axis=0), new.std(axis=0))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(StainShift(name, *row) for name, row in zip(STAIN_COLUMNS, rows, strict=True))


def _mean_nearest(
    features: np.ndarray, references: np.ndarray, case: np.ndarray, reference_case: np.ndarray
) -> np.ndarray:
    """Return the mean distance to the `N_NEIGHBORS` nearest images of other cases."""
    blocks = []
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = cosine_distances(features[block], references)
        distances[case[block, None] == reference_case[None]] = np.inf
        nearest = np.partition(distances, min(N_NEIGHBORS, distances.shape[1]) - 1, axis=1)
        nearest = nearest[:, :N_NEIGHBORS]
        exists = np.isfinite(nearest)
        blocks.append(np.where(exists, nearest, 0.0).sum(axis=1) / exists.sum(axis=1))
    return np.concatenate(blocks)
