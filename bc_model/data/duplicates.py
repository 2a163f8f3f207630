"""Pairs of duplicates and near-duplicates in a dataset.

Near-duplicates are copies that were resized or re-encoded; rotated, flipped or shifted copies are
not found. Two different fields may have close hashes, so near-duplicates are reported but do not
join cases.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bc_model.data import hashing
from bc_model.data.breakhis import parse_name
from bc_model.data.dataset import Dataset

MAX_LISTED = 1000
RELATIONS = ("other class", "other case", "case unknown", "same case")


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images that look the same.

    Attributes
    ----------
    counts : dict of str to int
        Number of pairs for each of `RELATIONS`. 'other case' pairs have one class and two groups,
        which a split may divide. In 'case unknown' pairs, at least one name has no case.
    pairs : DataFrame
        path, other, distance (bits) and relation. Contains the first `MAX_LISTED` pairs of each
        relation, in the order of `RELATIONS`.
    """

    counts: dict[str, int]
    pairs: pd.DataFrame


def find_near_duplicates(
    images: pd.DataFrame, *, max_distance: int = hashing.MAX_DISTANCE
) -> NearDuplicates:
    """Return the pairs of images whose difference hashes differ in few bits.

    `images` is the table of a `Dataset`. All n (n - 1) / 2 pairs are compared: 8,000 images take
    0.2 s on two cores.
    """
    hashes = images["dhash"].to_numpy(np.uint64)
    classes = pd.factorize(images["class"])[0]
    groups = pd.factorize(images["group"])[0]
    has_case = (images["case"] != "").to_numpy()
    n = len(hashes)
    block_rows = max(1, hashing.BLOCK_ELEMENTS // max(n, 1))
    counts = np.zeros(len(RELATIONS), np.int64)
    found = [np.empty((0, 4), np.int64)]
    for start in range(0, n - 1, block_rows):
        block = hashes[start : start + block_rows, None]
        distances = np.bitwise_count(block ^ hashes[None, start + 1 :])
        # Column c is image start + 1 + c, so the upper triangle contains each pair once.
        row, column = np.nonzero(np.triu(distances <= max_distance))
        first, second = row + start, column + start + 1
        relation = np.select(
            [
                classes[first] != classes[second],
                ~(has_case[first] & has_case[second]),
                groups[first] != groups[second],
            ],
            [0, 2, 1],
            default=3,
        )
        table = np.stack([relation, distances[row, column], first, second], axis=1, dtype=np.int64)
        for code in range(len(RELATIONS)):
            rows = table[relation == code]
            found.append(rows[: max(0, MAX_LISTED - counts[code])])
            counts[code] += len(rows)
    table = np.concatenate(found)
    table = table[np.lexsort(table.T[::-1])]
    paths = images["path"].to_numpy()
    pairs = pd.DataFrame(
        {
            "path": paths[table[:, 2]],
            "other": paths[table[:, 3]],
            "distance": table[:, 1],
            "relation": np.array(RELATIONS, dtype=object)[table[:, 0]],
        }
    )
    return NearDuplicates(dict(zip(RELATIONS, counts.tolist(), strict=True)), pairs)


def find_duplicates(dataset: Dataset) -> NearDuplicates:
    """Return all pairs of images with the same pixels, at distance 0.

    `path` is the image that is kept, or the first of several images that are excluded because of
    conflicting labels.
    """
    rows = [
        (kept, path, _find_relation(kept, path))
        for path, kept in dataset.duplicates[["path", "duplicate_of"]].itertuples(index=False)
    ]
    # All images of one conflict have the same sentence, which contains their paths.
    excluded = dataset.excluded
    for _, copies in excluded[excluded["reason"] == "conflicting labels"].groupby("detail"):
        first, *others = copies["path"]
        rows += [(first, other, RELATIONS[0]) for other in others]
    rows.sort(key=lambda row: (RELATIONS.index(row[2]), row[0], row[1]))
    pairs = pd.DataFrame(rows, columns=["path", "other", "relation"], dtype="str")
    pairs.insert(2, "distance", 0)
    counts = pairs["relation"].value_counts()
    return NearDuplicates({name: int(counts.get(name, 0)) for name in RELATIONS}, pairs)


def _find_relation(path: str, other: str) -> str:
    names = [parse_name(name.rpartition("/")[2]) for name in (path, other)]
    if names[0] is None or names[1] is None:
        return "case unknown"
    return "same case" if names[0].case == names[1].case else "other case"
