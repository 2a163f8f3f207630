"""What is said of how far a set of pictures is from what a model knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bc_model.words import many

if TYPE_CHECKING:
    import pandas as pd

    from bc_model.evaluation.features import FeatureTable
    from bc_model.evaluation.shift import StainShift
    from bc_model.serving.bundle import Bundle


def about_distance(
    known: FeatureTable | None,
    far_share: float | None,
    apart: float | None,
    stain: tuple[StainShift, ...],
) -> Iterator[str]:
    """Say how far the features are, and which mean of a stain."""
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


def about_stain(strange: list[list[str]] | None, usual: float | None) -> Iterator[str]:
    """Count what is stained strangely; None where nobody can tell.

    Parameters
    ----------
    strange : list of list of str or None
        What is strange of each picture.
    usual : float or None
        Share of pictures of other cases of the model's own kind, if it is known.
    """
    if strange is None:
        return
    number = sum(map(bool, strange))
    often = Counter(name for names in strange for name in names).most_common(2)
    how = f", most often {' and '.join(f'{name} ({n})' for name, n in often)}" if often else ""
    own = "" if usual is None else f"; of other cases of the model's own kind {100 * usual:.1f} %"
    yield (
        f"Stained unlike anything that the model learned from: {number:,} of "
        f"{many(len(strange), 'picture')}, {100 * number / len(strange):.0f} %{how}{own}."
    )


def about_scale(bundle: Bundle, pictures: pd.DataFrame) -> Iterator[str]:
    """Say what the scale is, or that nobody can tell."""
    card = bundle.card
    magnifications = card.scale.magnifications
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
    ranges = [card.scale.mpp_range.get(str(m)) for m in magnifications]
    told = ", ".join(f"{low:g}-{high:g}" for low, high in (r for r in ranges if r))
    if known:
        yield (
            f"The scale of these pictures is not stated. The model knows {known} (about {told} um "
            "a pixel in frames of 700 px width); at another scale its estimates mean nothing."
        )
    elif len(here):
        yield "The scale of the model's own pictures is not stated; at another one it is of no use."
    else:
        yield "Neither the scale of these pictures nor that of the model's own is stated."
