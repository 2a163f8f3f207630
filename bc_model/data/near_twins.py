"""Near twins: pictures of one field that differ in size, compression or a few pixels.

Exact twins are found by their pixels in `bc_model.data.manifest`. This finds copies that were
resized or re-encoded. It does not find turned, flipped or shifted ones. Two different fields can
look alike to 64 bits, so near twins of a set are told and join no cases; what looks the same as a
picture that a model learned from counts as known to it, which at worst is too careful.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

MAX_DISTANCE = 2
"""Bits of 64 by which near twins differ at most.

In the 1,100 pictures of three public extracts, 25 pairs are of one field at two sizes: 24 differ in
no bit and one in a single bit, though some were squashed by nearest neighbour and all re-encoded.
The closest pair of two different fields differs in 3 bits; within 6 bits there are already as many
wrong pairs across cases (7) as within them (4): slides lit unevenly have the same gradients.
"""
MAX_LISTED = 1000
RELATIONS = ("other class", "other case", "case unknown", "same case")

_BLOCK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class NearTwins:
    """Pairs of pictures that look the same.

    Attributes
    ----------
    counts : dict from relation to int
        For each of `RELATIONS`, each pair once. 'other case' pairs are of one class and of two
        groups that a split may part; 'case unknown' means that one name or both say no case.
    pairs : DataFrame
        path, other, distance (bits), relation; the first `MAX_LISTED` of each relation, the most
        alarming relation first.
    """

    counts: dict[str, int]
    pairs: pd.DataFrame


def dhash(rgb: np.ndarray) -> int:
    """Hash the coarse gradients of a picture: 8 x 8 signs, "brighter than its left neighbour".

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8
        The whole picture, whatever its shape, is squashed to 9 x 8.

    Returns
    -------
    int
        64 bits. A picture of one colour gives 0.
    """
    # As float: rounding to whole grey values makes ties, and ties make bits of noise.
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_any(
    hashes: np.ndarray, known: np.ndarray, *, max_distance: int = MAX_DISTANCE
) -> np.ndarray:
    """Tell which pictures look the same as a known one.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,)
        See `dhash`.
    known : ndarray of uint64, shape (m,)
    max_distance : int
        In bits.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    found = np.zeros(len(hashes), bool)
    rows_a_block = max(1, _BLOCK_ELEMENTS // max(len(known), 1))
    for start in range(0, len(hashes), rows_a_block):
        block = hashes[start : start + rows_a_block, None]
        near = np.bitwise_count(block ^ known[None]) <= max_distance
        found[start : start + rows_a_block] = near.any(axis=1)
    return found


def find_near_twins(pictures: pd.DataFrame, *, max_distance: int = MAX_DISTANCE) -> NearTwins:
    """Compare every picture with every other one.

    Parameters
    ----------
    pictures : DataFrame
        Of a manifest: path, class, case, group, dhash.
    max_distance : int
        In bits.

    Returns
    -------
    NearTwins

    Notes
    -----
    All n (n - 1) / 2 pairs are compared, 8,000 pictures in 0.2 s on two cores;
    hashing costs an eighth of what decoding does.
    """
    hashes = pictures["dhash"].to_numpy(np.uint64)
    classes = pd.factorize(pictures["class"])[0]
    groups = pd.factorize(pictures["group"])[0]
    known = (pictures["case"] != "").to_numpy()
    n = len(hashes)
    rows_a_block = max(1, _BLOCK_ELEMENTS // max(n, 1))
    counts = np.zeros(len(RELATIONS), np.int64)
    found: list[np.ndarray] = []
    for start in range(0, n - 1, rows_a_block):
        block = hashes[start : start + rows_a_block, None]
        distances = np.bitwise_count(block ^ hashes[None, start + 1 :])
        # Column c is picture start + 1 + c: from the diagonal on, each pair is met once.
        row, column = np.nonzero(np.triu(distances <= max_distance))
        first, second = row + start, column + start + 1
        relation = np.select(
            [
                classes[first] != classes[second],
                ~(known[first] & known[second]),
                groups[first] != groups[second],
            ],
            [0, 2, 1],
            default=3,
        )
        for code in range(len(RELATIONS)):
            hits = np.flatnonzero(relation == code)
            room = max(0, MAX_LISTED - counts[code])
            counts[code] += len(hits)
            kept = hits[:room]
            found.append(
                np.stack(
                    [relation[kept], distances[row[kept], column[kept]], first[kept], second[kept]],
                    axis=1,
                ).astype(np.int64)
            )
    table = np.concatenate(found) if found else np.empty((0, 4), np.int64)
    table = table[np.lexsort(table.T[::-1])]
    paths = pictures["path"].to_numpy()
    pairs = pd.DataFrame(
        {
            "path": paths[table[:, 2]],
            "other": paths[table[:, 3]],
            "distance": table[:, 1],
            "relation": np.array(RELATIONS, dtype=object)[table[:, 0]],
        }
    )
    return NearTwins(dict(zip(RELATIONS, counts.tolist(), strict=True)), pairs)
