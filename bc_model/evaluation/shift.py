"""How far another set of pictures is from what a model knows: features, stain, size and scale.

The model's own validation pictures are the measure: it has not learned from them, so they lie as
far off as new pictures of the same kind would. Training pictures look nearer than any new one can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.data.stain import STAIN_COLUMNS
from bc_model.evaluation.features import FeatureTable, cosine_distances
from bc_model.evaluation.ranking import roc_auc
from bc_model.serving.input_gate import SHARE_BEYOND, knows_stain, strange_stain
from bc_model.words import many

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.evaluation.predict import Predicted
    from bc_model.serving.bundle import Bundle

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
    sentences : tuple of str
        All this in words.
    strange_stain : int or None
        Pictures stained unlike anything the model learned from; None where its passport does not
        say how that is stained.
    """

    n: int
    known_n: int
    known_cases: int
    far_share: float | None
    apart: float | None
    stain: tuple[StainShift, ...]
    sizes: dict[str, int]
    sentences: tuple[str, ...]
    strange_stain: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return vars(self) | {
            "stain": [vars(one) for one in self.stain],
            "sentences": list(self.sentences),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Shift:
        """Undo `as_dict`."""
        stain = tuple(StainShift(**one) for one in data["stain"])
        return cls(**{**data, "stain": stain, "sentences": tuple(data["sentences"])})


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
        own = distances_of_known(known)
        if own.size:
            new = _mean_nearest(predicted.features, known)
            far_share = float((new > np.quantile(own, FAR_QUANTILE)).mean())
            is_new = np.arange(own.size + new.size) >= own.size
            apart = float(roc_auc(is_new, np.concatenate([own, new])))
    strange = None
    if knows_stain(bundle.passport):
        strange = [strange_stain(one, bundle.passport) for one in predicted.stain]
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
        sentences=(
            *_sentences(known, far_share, apart, stain),
            *_about_stain(strange),
            *_about_size(bundle, counted),
            *_about_scale(bundle, pictures),
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
    found = []
    for name, features in zip(names, known.features, strict=True):
        distances = cosine_distances(features[None], known.features[names != name])[0]
        found.append(np.sort(distances)[:N_NEIGHBOURS].mean())
    return np.array(found)


def _mean_nearest(features: np.ndarray, known: FeatureTable) -> np.ndarray:
    blocks = []
    for start in range(0, len(features), _BLOCK):
        distances = cosine_distances(features[start : start + _BLOCK], known.features)
        nearest = np.partition(distances, min(N_NEIGHBOURS, distances.shape[1]) - 1, axis=1)
        blocks.append(nearest[:, :N_NEIGHBOURS].mean(axis=1))
    return np.concatenate(blocks)


def _sentences(
    known: FeatureTable | None,
    far_share: float | None,
    apart: float | None,
    stain: tuple[StainShift, ...],
) -> Iterator[str]:
    if known is None:
        yield (
            "This model came without its validation features, so how far these pictures are from "
            "what it knows cannot be measured."
        )
    elif far_share is not None and apart is not None:
        likeness = "unlike" if far_share > 0.5 else "in part unlike" if far_share > 0.1 else "like"
        yield (
            f"By its features the set is {likeness} what the model knows: "
            f"{100 * far_share:.0f} % of its pictures are farther off than all but 5 % of the "
            "model's own validation pictures; of a picture of each, that of this set is the "
            f"farther one {100 * apart:.0f} times in 100 (50 in a set of the same kind). However "
            "near, it does not follow that the model does well on it."
        )
    for one in stain:
        if one.name.endswith("_mean") and abs(one.distance) > 1:
            yield (
                f"{one.name.removesuffix('_mean').capitalize()} is "
                f"{'stronger' if one.distance > 0 else 'weaker'} than the model knows it, by "
                f"{abs(one.distance):.1f} times its spread over pictures."
            )


def _about_stain(strange: list[list[str]] | None) -> Iterator[str]:
    if strange is None:
        return
    number = sum(map(bool, strange))
    often = Counter(name for names in strange for name in names).most_common(2)
    how = f", most often {' and '.join(f'{name} ({n})' for name, n in often)}" if often else ""
    yield (
        f"Stained unlike anything that the model learned from: {number:,} of "
        f"{many(len(strange), 'picture')}{how}; in a set of the same kind it is about "
        f"{100 * SHARE_BEYOND:.1f} %."
    )


def _about_size(bundle: Bundle, sizes: dict[str, int]) -> Iterator[str]:
    passport = bundle.passport
    usual = next(iter(sizes))
    width = int(usual.partition("x")[0])
    factor = bundle.image_size[1] / width
    how = f"enlarged {factor:.1f} times" if factor > 1 else f"shrunk {1 / factor:.1f} times"
    known_sizes = " and ".join(passport["input"]["training_sizes"][:3]) or "unknown sizes"
    if usual not in passport["input"]["training_sizes"]:
        yield (
            f"Most pictures have {usual} px and are {how} for the network; it learned from "
            f"pictures of {known_sizes} px."
        )


def _about_scale(bundle: Bundle, pictures: pd.DataFrame) -> Iterator[str]:
    passport = bundle.passport
    magnifications = passport["scale"]["magnifications"]
    known = " and ".join(f"{m}X" for m in magnifications)
    here = pictures["magnification"].dropna().astype(int)
    if known and len(here) == len(pictures):
        if foreign := sorted(set(here) - set(magnifications)):
            n = int(here.isin(foreign).sum())
            yield (
                f"{n} of {len(pictures)} pictures are at "
                f"{' and '.join(f'{m}X' for m in foreign)} and the model knows {known}: at another "
                "scale its estimates mean nothing."
            )
        return
    ranges = [passport["scale"]["mpp_range"].get(str(m)) for m in magnifications]
    told = ", ".join(f"{low:g}-{high:g}" for low, high in (r for r in ranges if r))
    if known:
        yield (
            f"The scale of these pictures is not stated. The model knows {known} (about {told} um "
            "a pixel in frames of 700 px width); at another scale its estimates mean nothing."
        )
    else:
        yield "Neither the scale of these pictures nor that of the model's own is stated."
