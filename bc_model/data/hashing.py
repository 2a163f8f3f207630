"""Hash pixels: SHA-256 for exact duplicates, difference hashes for near-duplicates."""

import hashlib

import cv2
import numpy as np

_BLOCK_ELEMENTS = 4_000_000

MAX_DISTANCE = 2
"""Bits of 64 by which near twins differ at most.

In the 1,100 pictures of three public extracts, 25 pairs are of one field at two sizes: 24 differ in
no bit and one in a single bit, though some were squashed by nearest neighbour and all re-encoded.
The closest pair of two different fields differs in 3 bits; within 6 bits there are already as many
wrong pairs across cases (7) as within them (4): slides lit unevenly have the same gradients.
"""


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
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
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


def pixel_sha256(rgb: np.ndarray) -> str:
    """Hash the pixels, not the file: twins keep one hash under any name and any lossless format.

    Parameters
    ----------
    rgb : ndarray of shape (height, width, 3), uint8

    Returns
    -------
    str
        64 hexadecimal digits. The shape is hashed too: 2x8 and 4x4 pictures differ.
    """
    digest = hashlib.sha256(repr(rgb.shape).encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()
