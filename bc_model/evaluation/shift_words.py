"""Checks of how far an external dataset is from the training images of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bc_model.checks import TERMS, Check, make_check

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.evaluation.features import FeatureTable
    from bc_model.evaluation.shift import StainShift
    from bc_model.serving.bundle import Bundle


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
