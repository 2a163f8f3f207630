"""The list of images in the training and validation data of a model.

The list is a file of the bundle. It includes the images of the initial weights.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import parse_name
from bc_model.data.hashing import MAX_DISTANCE, dhash, has_near_duplicate, pixel_sha256
from bc_model.errors import BundleError
from bc_model.inference.bundle import MAX_TABLE_BYTES, Bundle
from bc_model.utils.io import read_text

SEEN_IMAGES_FILE = "seen_images.csv"
_HEADER = "sha256,dhash"
_ROW = re.compile(r"[0-9a-f]{64},[0-9a-f]{16}")

_MIN_MIXED_BITS = 8
"""Smallest number of gradients of either sign among the 64 bits of a hash. An image that darkens
toward one side (9 of 1,053) has the hash of a blank image. Without such images, none of 537,000
pairs of BreakHis images from different cases differs by 6 bits or less."""

UNKNOWN_INITIALIZATION = make_check("BC326")


@dataclass(frozen=True)
class SeenImages:
    """The images in the training and validation data of a model.

    `dhash` maps the SHA-256 of the pixels to the difference hash, see `bc_model.data.hashing`.
    `is_complete` is False if the training images of the initial weights are unknown.
    """

    dhash: dict[str, int]
    is_complete: bool

    def merge_initial(self, initial: SeenImages | None) -> SeenImages:
        """Add the images of the initial weights; None if they are unknown."""
        if initial is None:
            return SeenImages(self.dhash, is_complete=False)
        return SeenImages(initial.dhash | self.dhash, self.is_complete and initial.is_complete)

    def near_duplicates(self, dhashes: np.ndarray) -> np.ndarray:
        """Return which images, shape (n,), uint64, are near-duplicates of a seen image.

        Most resized or recompressed copies are found, fewer the smaller they are. Rotated, mirrored
        or cropped copies are not found, nor copies of images that darken toward one side.
        """
        seen = np.array(list(self.dhash.values()), np.uint64)
        return has_near_duplicate(dhashes, seen[_is_distinctive(seen)])

    def to_csv(self) -> str:
        """Return the content of `SEEN_IMAGES_FILE`."""
        lines = (f"{sha256},{value:016x}\n" for sha256, value in sorted(self.dhash.items()))
        return f"{_HEADER}\n{''.join(lines)}"


def find_copies(image: np.ndarray, dhashes: np.ndarray) -> np.ndarray:
    """Return which images, by their difference hashes, are near-duplicates of an image.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8
        RGB image at its original size.
    dhashes : ndarray of shape (n,), uint64
        See `bc_model.data.hashing.dhash`.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    own = np.array([dhash(image)], np.uint64)
    is_near: np.ndarray = np.bitwise_count(own ^ dhashes) <= MAX_DISTANCE
    return is_near & _is_distinctive(dhashes)


def _is_distinctive(dhashes: np.ndarray) -> np.ndarray:
    bits = np.bitwise_count(dhashes)
    is_mixed: np.ndarray = (bits >= _MIN_MIXED_BITS) & (bits <= 64 - _MIN_MIXED_BITS)
    return is_mixed


def read_seen_images(bundle: Bundle) -> SeenImages | None:
    """Return the seen images of a model; None if its bundle has no list."""
    card = bundle.card
    if SEEN_IMAGES_FILE not in card.files:
        return None
    hashes = _read_hashes(bundle.file(SEEN_IMAGES_FILE), card.files[SEEN_IMAGES_FILE])
    return SeenImages(hashes, card.data.seen_images_complete)


@lru_cache(maxsize=8)
def _read_hashes(file: Path, sha256: str) -> dict[str, int]:
    """Read a list once for many images; `sha256` identifies its content."""
    try:
        header, *lines = read_text(file, MAX_TABLE_BYTES).splitlines()
    except (OSError, ValueError) as error:
        raise _invalid_list(file) from error
    if header != _HEADER or not all(map(_ROW.fullmatch, lines)):
        raise _invalid_list(file)
    return {pixels: int(value, 16) for pixels, value in (line.split(",") for line in lines)}


def _invalid_list(file: Path) -> BundleError:
    return BundleError(f"{file} is not a list of training images. Copy or train the model again.")


def check_seen(image: np.ndarray, bundle: Bundle) -> Check | None:
    """Return BC111 for the pixels of a seen image, BC112 for a near-duplicate, otherwise None."""
    listed = read_seen_images(bundle)
    if listed is None:
        return None
    if pixel_sha256(image) in listed.dhash:
        return make_check("BC111")
    if listed.near_duplicates(np.array([dhash(image)], np.uint64))[0]:
        return make_check("BC112")
    return None


class SeenInTraining(NamedTuple):
    """The images of a dataset that were seen in training.

    `is_seen`, shape (n,), is True for identical images, near-duplicates, and all images of their
    cases. A rotated, mirrored, cropped or very small copy is not recognized. `is_certain` is False
    if neither pixels nor the case in a BreakHis name prove it, but only near-duplicates.
    """

    is_seen: np.ndarray
    is_certain: bool
    checks: list[Check]

    @property
    def n_seen(self) -> int:
        """Number of seen images."""
        return int(self.is_seen.sum())


def find_seen_images(bundle: Bundle, images: pd.DataFrame) -> SeenInTraining:
    """Find images that were part of the model's training or validation data.

    `images` has the columns path, sha256, case and group. Near-duplicates are found only with the
    column dhash. The result is in the order of the rows.
    """
    names = [parse_name(path.rpartition("/")[2]) for path in images["path"]]
    is_named = np.array([name is not None for name in names], bool)
    is_seen = np.array(
        [name is not None and name.case in bundle.seen_cases for name in names], bool
    )
    is_near_duplicate = np.zeros(len(images), bool)
    listed = read_seen_images(bundle)
    if listed is not None:
        is_seen |= images["sha256"].isin(listed.dhash.keys()).to_numpy()
        if "dhash" in images:
            found = listed.near_duplicates(images["dhash"].to_numpy(np.uint64))
            is_near_duplicate = found & ~is_seen
    is_certain = bool(is_seen.any())
    is_seen |= is_near_duplicate
    has_case = (images["case"] != "").to_numpy()
    # Cases that share an image are one group.
    is_seen |= has_case & images["group"].isin(images["group"][is_seen & has_case]).to_numpy()
    n = len(images)
    checks = []
    if n_seen := int(is_seen.sum()):
        checks.append(make_check("BC321" if is_certain else "BC322", n_seen=n_seen, n_images=n))
    if n_near_duplicates := int(is_near_duplicate.sum()):
        checks.append(make_check("BC323", n_near_duplicates=n_near_duplicates))
    # A BreakHis name contains the case, so it is known whether these images were seen.
    if n_external := int((~is_seen & ~is_named).sum()):
        if listed is None:
            checks.append(make_check("BC324"))
        else:
            checks.append(make_check("BC325", n_unseen=n_external, n_images=n))
    if listed is not None and not listed.is_complete and not is_seen.all():
        checks.append(UNKNOWN_INITIALIZATION)
    return SeenInTraining(is_seen, is_certain, checks)


def choose_samples(files: Sequence[Path], bundle: Bundle, n_samples: int = 6) -> list[Path]:
    """Return a few images of a dataset, of cases that a model has not seen if there are any.

    Images with a BreakHis name of an unseen case are first, then images of an unknown case, then
    images of seen cases, for which the prediction contains the check BC110. Images of a
    magnification that the model does not support are only chosen if there are no others. The
    classes alternate, and each image is of another case where possible.

    Parameters
    ----------
    files : sequence of Path
        Image files of the dataset, such as from `bc_model.data.list_image_files`.
    bundle : Bundle
    n_samples : int, default=6
        Largest number of images.
    """
    supported, seen = bundle.card.scale.magnifications, bundle.seen_cases
    n_of_case: Counter[str] = Counter()
    n_of_class: Counter[tuple[int, str]] = Counter()
    ranked = []
    for file in sorted(files):
        name = parse_name(file.name)
        if name is None:
            group, case, label = 1, file.name, file.parent.name
        else:
            group, case, label = 2 * (name.case in seen), name.case, name.class_name
            group += 3 * (bool(supported) and name.magnification not in supported)
        ranked.append((group, n_of_case[f"{group} {case}"], case, label, file))
        n_of_case[f"{group} {case}"] += 1
    chosen: list[tuple[int, int, int, int, Path]] = []
    for group, nth, _, label, file in sorted(ranked, key=lambda row: row[:3]):
        chosen.append((group, n_of_class[group, label], nth, len(chosen), file))
        n_of_class[group, label] += 1
    return [row[-1] for row in sorted(chosen)[:n_samples]]
