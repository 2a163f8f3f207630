"""Which pictures of a set a model knows: it learned from them or was chosen by them.

Pictures are compared with the list in its bundle. Cases are compared by the BreakHis grammar alone:
elsewhere a number names another patient. Of a case that it has seen one picture of, it knows all.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.names import parse_name
from bc_model.serving.bundle import Bundle
from bc_model.serving.known_pictures import known_pictures

UNKNOWN_INITIALIZATION = make_check("BC326")


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
    checks : list of Check
    """

    pictures: np.ndarray
    is_certain: bool
    checks: list[Check]

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
    n = len(pictures)
    checks = []
    if n_seen := int(seen.sum()):
        checks.append(make_check("BC321" if is_certain else "BC322", n_seen=n_seen, n=n))
    if n_alike := int(alike.sum()):
        checks.append(make_check("BC323", n_near_duplicates=n_alike))
    # A BreakHis name states the case, and so whether it was seen.
    if n_unseen := int((~seen & ~named).sum()):
        if listed is None:
            checks.append(make_check("BC324"))
        else:
            checks.append(make_check("BC325", n_unseen=n_unseen, n=n))
    if listed is not None and not listed.whole and not seen.all():
        checks.append(UNKNOWN_INITIALIZATION)
    return Known(seen, is_certain, checks)
