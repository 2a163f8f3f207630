"""What was learned from each picture's pixels, kept on disk: a second look reads no picture again.

One JSON file for each folder of pictures. An entry holds while the file's size and time are the
same. A cache that cannot be read, or was written by another decoder, is ignored and replaced.
"""

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

import PIL
from PIL import features

from bc_model.files import write_text_atomic

_FRESH_NS = 2_000_000_000
"""A file younger than this may change once more within one tick of its clock: it is not kept."""

logger = logging.getLogger("bc_model.data")


class PixelFacts(NamedTuple):
    """What a manifest keeps of a picture's pixels; see `bc_model.data.manifest`."""

    sha256: str
    width_px: int
    height_px: int
    dhash: int


class PixelCache:
    """Facts of the pictures under one folder, by path, size and time of change.

    Parameters
    ----------
    folder : Path
        Where caches are kept; made when something is saved.
    root : Path
        The folder of pictures.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()
        self.path = folder / f"manifest-{digest[:16]}.json"
        self._old = _load(self.path)
        self._new: dict[str, tuple[int, int, PixelFacts]] = {}

    def get(self, relative: str, stat: os.stat_result) -> PixelFacts | None:
        """Return what is known of a file, None when it is new or changed."""
        known = self._old.get(relative)
        if known is None or known[:2] != (stat.st_size, stat.st_mtime_ns):
            return None
        self._new[relative] = known
        return known[2]

    def put(self, relative: str, stat: os.stat_result, facts: PixelFacts) -> None:
        """Remember a file as it was when `stat` was taken, before it was read."""
        self._new[relative] = (stat.st_size, stat.st_mtime_ns, facts)

    def save(self, *, whole: bool) -> None:
        """Write what was got and put since the cache was opened.

        A disk that is full or read-only costs the next look its speed, and nothing else.

        Parameters
        ----------
        whole : bool
            All files were looked at: those that were not met are gone, and forgotten.
        """
        new = self._new if whole else self._old | self._new
        if new == self._old:
            return
        settled_ns = time.time_ns() - _FRESH_NS
        files = {
            relative: [size, mtime_ns, *facts]
            for relative, (size, mtime_ns, facts) in sorted(new.items())
            if mtime_ns <= settled_ns
        }
        text = json.dumps({"decoder": _decoder(), "files": files}, separators=(",", ":"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self.path, text)
        except OSError as error:
            logger.warning("The cache %s cannot be written: %s.", self.path, error.strerror)


def _decoder() -> str:
    """Name what turns bytes into pixels: another JPEG library gives other pixels."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return f"1, Pillow {PIL.__version__}, JPEG {jpeg}"


def _load(path: Path) -> dict[str, tuple[int, int, PixelFacts]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["decoder"] != _decoder():
            return {}
        return {str(name): _entry(*values) for name, values in content["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _entry(
    size: int, mtime_ns: int, sha256: str, width_px: int, height_px: int, dhash: int
) -> tuple[int, int, PixelFacts]:
    numbers = (size, mtime_ns, width_px, height_px, dhash)
    if not all(type(number) is int and 0 <= number < 2**64 for number in numbers):
        raise ValueError("a number is not one")
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError("a hash is not one")
    return size, mtime_ns, PixelFacts(sha256, width_px, height_px, dhash)
