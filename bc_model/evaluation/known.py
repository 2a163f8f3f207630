"""Which pictures of a set a model knows: it learned from them or was chosen by them.

Pictures are compared with the list in its bundle. Cases are compared by the BreakHis grammar alone:
elsewhere a number names another patient. Of a case that it has seen one picture of, it knows all.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from bc_model.data.names import parse_name
from bc_model.serving.bundle import Bundle
from bc_model.serving.known_pictures import known_pictures
from bc_model.words import many

NOT_WHOLE = "The model began with weights of which nobody can tell which pictures they know."


class Known(NamedTuple):
    """What of some pictures a model knows.

    Attributes
    ----------
    pictures : ndarray of shape (n,), bool
        False does not say that one was not seen: a picture that was turned, mirrored, cut or made
        very small has other pixels and looks otherwise.
    is_certain : bool
        Whether some are its own pixel for pixel, or of its cases by a BreakHis name: it may know
        others by their looks alone.
    notes : list of str
        What a reader should know of it.
    """

    pictures: np.ndarray
    is_certain: bool
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
        Rows of a manifest or split: path, sha256, case, group; dhash where copies of another size
        are to be found.

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
    named = np.array([name is not None for name in names], bool)
    seen = np.array([name is not None and name.case in bundle.known_cases for name in names], bool)
    listed = known_pictures(bundle)
    alike = np.zeros(len(pictures), bool)
    if listed is not None:
        seen |= pictures["sha256"].isin(listed.dhash.keys()).to_numpy()
        if "dhash" in pictures:
            alike = listed.look_alikes(pictures["dhash"].to_numpy(np.uint64)) & ~seen
    is_certain = bool(seen.any())
    seen |= alike
    of_a_case = (pictures["case"] != "").to_numpy()
    # Cases that share a picture are one group.
    seen |= of_a_case & pictures["group"].isin(pictures["group"][seen & of_a_case]).to_numpy()
    notes = []
    if number := int(seen.sum()):
        why = ": it learned from them, or was chosen by them" if is_certain else ", by their looks"
        notes.append(
            f"{number:,} of {many(len(pictures), 'picture')} are the model's own or of its "
            f"cases{why}."
        )
    if copies := int(alike.sum()):
        look = "looks" if copies == 1 else "look"
        notes.append(
            f"{copies:,} of {many(len(pictures), 'picture')} {look} the same as one of the model's "
            "own without being it pixel for pixel: most likely copies of another size or packed "
            "anew."
        )
    strangers = int((~seen & ~named).sum())
    if strangers and listed is None:
        notes.append(
            "No list of this model's own pictures is at hand, so whether it knows these very "
            "pictures cannot be told; only BreakHis names were held against the cases it knows."
        )
    elif strangers:  # a BreakHis name says the case, and so whether the model knows it
        notes.append(
            f"{strangers:,} of {many(len(pictures), 'picture')} were not found among the model's "
            "own. Other fields of its patients, and copies that were turned, mirrored or cut, "
            "cannot be told by pixels."
        )
    if listed is not None and not listed.whole and not seen.all():
        notes.append(NOT_WHOLE)
    return Known(seen, is_certain, notes)
