"""The list of what a model knows: the pictures that it learned from, or was chosen by.

It lies in the bundle and goes where that goes, while the split of a run stays behind. What the
first weights knew is part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bc_model.serving.bundle import Bundle

KNOWN_FILE = "known_pictures.csv"


@dataclass(frozen=True)
class KnownPictures:
    """The pictures that a model knows.

    Attributes
    ----------
    table : DataFrame
        Columns ``sha256``, of the pixels, and ``dhash``, see `bc_model.data.near_twins.dhash`.
    whole : bool
        False where the model began with weights of which nobody can tell what they know.
    """

    table: pd.DataFrame
    whole: bool

    def with_first(self, first: KnownPictures | None) -> KnownPictures:
        """Return it with what the first weights knew; None when that cannot be told."""
        if first is None:
            return KnownPictures(self.table, whole=False)
        both = pd.concat([self.table, first.table], ignore_index=True)
        return KnownPictures(both.drop_duplicates("sha256"), self.whole and first.whole)

    def as_csv(self) -> str:
        """Return the content of `KNOWN_FILE`."""
        table = self.table[["sha256", "dhash"]]
        found = table.assign(dhash=[f"{value:016x}" for value in table["dhash"]])
        return str(found.sort_values("sha256").to_csv(index=False, lineterminator="\n"))


def known_pictures(bundle: Bundle) -> KnownPictures | None:
    """Read what a model knows; None where its bundle has no list.

    Raises
    ------
    BundleError
        The list is missing, or is not the one that the passport lists.
    """
    passport = bundle.passport
    if KNOWN_FILE not in passport["files"]:
        return None
    table = pd.read_csv(bundle.file(KNOWN_FILE), dtype=str)
    dhash = np.array([int(value, 16) for value in table["dhash"]], np.uint64)
    whole = passport["data"].get("all_known_listed", False)
    return KnownPictures(table.assign(dhash=dhash), whole)
