"""Fingerprints of images: SHA-256 of the pixels, and a difference hash of coarse gradients.

Equal SHA-256 hashes mean duplicates, close difference hashes mean near-duplicates. A cache on disk
avoids decoding unchanged files again. Comparing the images of a dataset: `duplicates`.
"""

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL
from PIL import features

from bc_model.data.images import Decode, read_image
from bc_model.errors import ImageError
from bc_model.utils.io import read_bytes, write_text_atomic
from bc_model.utils.serialization import parse_json

MAX_DISTANCE = 2
"""Largest number of differing bits, out of 64, between near-duplicates.

Among the 1,100 images of three public extracts, 25 pairs show one field at two sizes: 24 pairs
differ in no bit and one pair in one bit. The closest pair of different fields differs in 3 bits.
"""

BLOCK_ELEMENTS = 4_000_000
"""Number of hash pairs that are compared at once, to bound memory."""
_MAX_CACHE_BYTES = 128 * 2**20
_UNSETTLED_NS = 2_000_000_000
"""A younger file may change again within one tick of the file system clock: it is not cached."""

logger = logging.getLogger("bc_model.data")


def pixel_sha256(rgb: np.ndarray) -> str:
    """Return the SHA-256 of the pixels and the shape of an RGB image, 64 hexadecimal digits.

    Copies of an image keep the hash under any file name and in any lossless format.
    """
    digest = hashlib.sha256(repr(rgb.shape).encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def dhash(rgb: np.ndarray) -> int:
    """Return the 64-bit difference hash of an RGB image, 0 for an image of one color.

    The image is resized to 9 x 8 cells. A bit is set if a cell is brighter than its left neighbor.
    """
    # In float, because rounding to integer gray values creates ties, and ties create noisy bits.
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def has_near_duplicate(
    hashes: np.ndarray, reference: np.ndarray, *, max_distance: int = MAX_DISTANCE
) -> np.ndarray:
    """Return which images have a near-duplicate among the reference images.

    `hashes`, shape (n,), and `reference`, shape (m,), are difference hashes, uint64. The result has
    shape (n,), bool. `max_distance` is the largest Hamming distance of near-duplicates, bits.
    """
    found = np.zeros(len(hashes), bool)
    block_rows = max(1, BLOCK_ELEMENTS // max(len(reference), 1))
    for start in range(0, len(hashes), block_rows):
        block = hashes[start : start + block_rows, None]
        near = np.bitwise_count(block ^ reference[None]) <= max_distance
        found[start : start + block_rows] = near.any(axis=1)
    return found


class Fingerprint(NamedTuple):
    """Pixel hash, size and difference hash of one image."""

    sha256: str
    width_px: int
    height_px: int
    dhash: int


class FingerprintCache:
    """Fingerprints of the files in `root`, by path, size and modification time.

    The cache is one file in `cache_dir`, a folder that is created when the cache is saved.
    """

    def __init__(self, cache_dir: Path, root: Path) -> None:
        digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()
        self.path = cache_dir / f"fingerprints-{digest[:16]}.json"
        self._old = _read_cache(self.path)
        self._new: dict[str, tuple[int, int, Fingerprint]] = {}

    def get(self, name: str, stat: os.stat_result) -> Fingerprint | None:
        """Return the fingerprint of a file, or None if the file is new or changed."""
        entry = self._old.get(name)
        if entry is None or entry[:2] != (stat.st_size, stat.st_mtime_ns):
            return None
        self._new[name] = entry
        return entry[2]

    def put(self, name: str, stat: os.stat_result, fingerprint: Fingerprint) -> None:
        """Add the fingerprint of a file whose `stat` was taken before it was read."""
        self._new[name] = (stat.st_size, stat.st_mtime_ns, fingerprint)

    def save(self, *, is_complete: bool) -> None:
        """Write the cache. A write error is logged, because the cache only saves time.

        If all files were visited, entries of other files are dropped.
        """
        new = self._new if is_complete else self._old | self._new
        if new == self._old:
            return
        settled_ns = time.time_ns() - _UNSETTLED_NS
        files = {
            name: [size, mtime_ns, *fingerprint]
            for name, (size, mtime_ns, fingerprint) in sorted(new.items())
            if mtime_ns <= settled_ns
        }
        text = json.dumps({"decoder": _decoder_version(), "files": files}, separators=(",", ":"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self.path, text)
        except OSError as error:
            logger.warning("The cache %s cannot be written: %s.", self.path, error.strerror)


def format_path(path: Path) -> str:
    """Return a path as printable text, also if its name is not UTF-8."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def read_fingerprint(
    path: Path, root: Path, cache: FingerprintCache | None, *, decode: Decode
) -> Fingerprint:
    """Return the fingerprint of an image file, from the cache if possible."""
    name = path.relative_to(root).as_posix()
    if (printable := format_path(path.relative_to(root))) != name:
        raise ImageError(f"The file name {printable} is not UTF-8. Rename it.", "invalid name")
    try:
        stat = path.stat() if cache else None
    except OSError:
        stat = None  # `read_image` raises the error.
    if cache and stat and (fingerprint := cache.get(name, stat)):
        return fingerprint
    rgb = read_image(path, decode=decode)
    fingerprint = Fingerprint(pixel_sha256(rgb), rgb.shape[1], rgb.shape[0], dhash(rgb))
    if cache and stat:
        cache.put(name, stat, fingerprint)
    return fingerprint


def _decoder_version() -> str:
    """Return the versions of this package's decoder and of its libraries.

    The first number increases when `decode_image` returns other pixels for a file.
    """
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return f"2, Pillow {PIL.__version__}, JPEG {jpeg}"


def _read_cache(path: Path) -> dict[str, tuple[int, int, Fingerprint]]:
    """Return the entries of a cache file; none if it is missing, damaged or of another decoder."""
    try:
        content = parse_json(read_bytes(path, _MAX_CACHE_BYTES), path.name)
        if content["decoder"] != _decoder_version():
            return {}
        return {str(name): _parse_entry(*values) for name, values in content["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _parse_entry(
    size: int, mtime_ns: int, sha256: str, width_px: int, height_px: int, dhash: int
) -> tuple[int, int, Fingerprint]:
    numbers = (size, mtime_ns, width_px, height_px, dhash)
    if not all(type(number) is int and 0 <= number < 2**64 for number in numbers):
        raise ValueError("A cached number is invalid.")
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError("A cached hash is invalid.")
    return size, mtime_ns, Fingerprint(sha256, width_px, height_px, dhash)
