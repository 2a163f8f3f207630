"""Which pictures of a set a model knows: it learned from them or was chosen by them.

Pixels are compared with the list in its bundle. Cases are compared by the BreakHis grammar alone:
elsewhere a number names another patient. Of a case that it has seen one picture of, it knows all.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from bc_model.data.names import parse_name
from bc_model.data.near_twins import near_any
from bc_model.evaluation.known_pictures import KnownPictures, known_pictures
from bc_model.serving.bundle import Bundle
from bc_model.words import many


class Known(NamedTuple):
    """What of some pictures a model knows.

    Attributes
    ----------
    pictures : ndarray of shape (n,), bool
        False does not say that one was not seen: a picture that was resized or packed with losses
        has other pixels.
    notes : list of str
        What a reader should know of it.
    """

    pictures: np.ndarray
    notes: list[str]

    @property
    def number(self) -> int:
        """How many it knows."""
        return int(self.pictures.sum())


def known_to(bundle: Bundle, pictures: pd.DataFrame) -> Known:
    """Find the pictures that a model knows.

    Parameters
    ----------
    bundle : Bundle
    pictures : DataFrame
        Rows of a manifest or split: path, sha256, case, group; dhash where near twins are to be
        told.

    Returns
    -------
    Known
        In the order of the rows.

    Raises
    ------
    BundleError
        The list in the bundle is missing, or is not the one that the passport lists.
    """
    names = [parse_name(path.rpartition("/")[2]) for path in pictures["path"]]
    named = np.array([name is not None for name in names])
    seen = pd.Series(
        [name is not None and name.case in bundle.known_cases for name in names],
        index=pictures.index,
    )
    listed = known_pictures(bundle)
    if listed is not None:
        seen |= pictures["sha256"].isin(listed.table["sha256"])
    of_a_case = pictures["case"] != ""
    # Cases that share a picture are one group.
    seen |= of_a_case & pictures["group"].isin(pictures.loc[seen & of_a_case, "group"])
    notes = []
    if number := int(seen.sum()):
        notes.append(
            f"{number:,} of {many(len(pictures), 'picture')} are the model's own or of its cases: "
            "it learned from them, or was chosen by them."
        )
    # A BreakHis name says the case, and so whether the model knows it.
    notes += _about_unnamed(pictures[~seen & ~named], listed, "other " if number else "")
    return Known(seen.to_numpy(bool), notes)


def _about_unnamed(
    pictures: pd.DataFrame, listed: KnownPictures | None, other: str
) -> Iterator[str]:
    """Say how far pictures that have other pixels, and names of no grammar, can be told."""
    if pictures.empty:
        return
    if listed is None:
        yield (
            "No list of this model's own pictures is at hand, so whether it knows these very "
            "pictures cannot be told; only BreakHis names were held against the cases it knows."
        )
        return
    if "dhash" in pictures:
        near = near_any(pictures["dhash"].to_numpy(), listed.table["dhash"].to_numpy())
        if number := int(near.sum()):
            yield (
                f"{number:,} of {many(len(pictures), 'picture')} that are not the model's own, "
                "pixel for pixel, look the same as one of these: most likely copies of another "
                "size or packed anew. Their figures flatter."
            )
        else:
            are = "is" if len(pictures) == 1 else "are"
            yield (
                f"The {other}{many(len(pictures), 'picture')} {are} none of the model's own, nor "
                "copies of another size or packed anew. Other fields of its patients cannot be "
                "told by pixels."
            )
    if not listed.whole:
        yield "The model began with weights of which nobody can tell which pictures they know."
