"""The list of what a model knows: the pictures that it learned from, or was chosen by.

It lies in the bundle and goes where that goes, while the split of a run stays behind. What the
first weights knew is part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import parse_name
from bc_model.data.hashing import dhash, has_near_duplicate, pixel_sha256
from bc_model.inference.bundle import Bundle

SEEN_IMAGES_FILE = "seen_images.csv"
_HEAD = "sha256,dhash"
_TELLING_BITS = 8
"""Of 64 gradients of one sign, at least: a field that darkens to one side, as 9 of 1,053 do, would
look the same as a blank one. Without these, of 537,000 pairs of BreakHis pictures of different
cases none is within 6 bits."""


@dataclass(frozen=True)
class SeenImages:
    """The pictures that a model knows.

    Attributes
    ----------
    dhash : dict of str to int
        By the SHA-256 of their pixels, see `bc_model.data.hashing.dhash`.
    whole : bool
        False where the model began with weights of which nobody can tell what they know.
    """

    dhash: dict[str, int]
    is_complete: bool

    def merge_initial(self, first: SeenImages | None) -> SeenImages:
        """Return it with what the first weights knew; None when that cannot be told."""
        if first is None:
            return SeenImages(self.dhash, is_complete=False)
        return SeenImages(first.dhash | self.dhash, self.is_complete and first.is_complete)

    def near_duplicates(self, dhashes: np.ndarray) -> np.ndarray:
        """Tell which of some pictures look the same as a known one, by their hashes.

        Most copies of another size or packed anew are found so, fewer the smaller they are. Turned,
        mirrored or cut ones are not, nor those of pictures that darken from one side to the other.

        Parameters
        ----------
        dhashes : ndarray of uint64, shape (n,)

        Returns
        -------
        ndarray of shape (n,), bool
        """
        known = np.array(list(self.dhash.values()), np.uint64)
        bits = np.bitwise_count(known)
        return has_near_duplicate(
            dhashes, known[(bits >= _TELLING_BITS) & (bits <= 64 - _TELLING_BITS)]
        )

    def to_csv(self) -> str:
        """Return the content of `SEEN_IMAGES_FILE`."""
        lines = (f"{sha256},{value:016x}\n" for sha256, value in sorted(self.dhash.items()))
        return f"{_HEAD}\n{''.join(lines)}"


def read_seen_images(bundle: Bundle) -> SeenImages | None:
    """Read what a model knows; None where its bundle has no list.

    Raises
    ------
    BundleError
        The list is missing, or is not the one that the passport lists.
    """
    card = bundle.card
    if SEEN_IMAGES_FILE not in card.files:
        return None
    listed = _read(bundle.file(SEEN_IMAGES_FILE), card.files[SEEN_IMAGES_FILE])
    return SeenImages(listed, card.data.seen_images_complete)


@lru_cache(maxsize=8)
def _read(file: Path, sha256: str) -> dict[str, int]:
    """Read a list once, however many pictures are asked about; `sha256` is that of the file."""
    _, *lines = file.read_text(encoding="utf-8").splitlines()
    rows = (line.split(",") for line in lines)
    return {pixels: int(value, 16) for pixels, value in rows}


def check_seen(rgb: np.ndarray, bundle: Bundle) -> Check | None:
    """Return a check if an image, or a near-duplicate of it, was seen in training.

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
    bundle : Bundle

    Returns
    -------
    Check or None
        BC111 for identical pixels, BC112 for a near-duplicate.
    """
    listed = read_seen_images(bundle)
    if listed is None:
        return None
    if pixel_sha256(rgb) in listed.dhash:
        return make_check("BC111")
    if listed.near_duplicates(np.array([dhash(rgb)], np.uint64))[0]:
        return make_check("BC112")
    return None


UNKNOWN_INITIALIZATION = make_check("BC326")


class SeenInTraining(NamedTuple):
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

    is_seen: np.ndarray
    is_certain: bool
    checks: list[Check]

    @property
    def n_seen(self) -> int:
        """How many it knows."""
        return int(self.is_seen.sum())


def find_seen_images(bundle: Bundle, images: pd.DataFrame) -> SeenInTraining:
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
    names = [parse_name(path.rpartition("/")[2]) for path in images["path"]]
    named = np.array([name is not None for name in names], bool)
    seen = np.array([name is not None and name.case in bundle.seen_cases for name in names], bool)
    listed = read_seen_images(bundle)
    alike = np.zeros(len(images), bool)
    if listed is not None:
        seen |= images["sha256"].isin(listed.dhash.keys()).to_numpy()
        if "dhash" in images:
            alike = listed.near_duplicates(images["dhash"].to_numpy(np.uint64)) & ~seen
    is_certain = bool(seen.any())
    seen |= alike
    of_a_case = (images["case"] != "").to_numpy()
    # Cases that share a picture are one group.
    seen |= of_a_case & images["group"].isin(images["group"][seen & of_a_case]).to_numpy()
    n = len(images)
    checks = []
    if n_seen := int(seen.sum()):
        checks.append(make_check("BC321" if is_certain else "BC322", n_seen=n_seen, n_images=n))
    if n_alike := int(alike.sum()):
        checks.append(make_check("BC323", n_near_duplicates=n_alike))
    # A BreakHis name states the case, and so whether it was seen.
    if n_external := int((~seen & ~named).sum()):
        if listed is None:
            checks.append(make_check("BC324"))
        else:
            checks.append(make_check("BC325", n_unseen=n_external, n_images=n))
    if listed is not None and not listed.is_complete and not seen.all():
        checks.append(UNKNOWN_INITIALIZATION)
    return SeenInTraining(seen, is_certain, checks)
