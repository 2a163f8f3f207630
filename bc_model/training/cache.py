"""Compute what a frozen base makes of every view of every picture, once, and keep it on disk.

A store is named by the SHA-256 of all that its numbers depend on: other pictures, weights or sizes
are another store, never a stale one. A killed process leaves whole views; the next call computes
those that are missing. Old stores are not deleted here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from bc_model.errors import RunError
from bc_model.files import write_text_atomic
from bc_model.model import weights_fingerprint
from bc_model.training.cached_views import STORED_AS, CachedViews, encode, view_file
from bc_model.training.features import Extractor, tensorflow_base

if TYPE_CHECKING:
    import keras

_MARGIN_BYTES = 500_000_000
_MARGIN_SHARE = 0.05
"""A disk is never filled to the brim: other processes, and the run's own model, need room too."""

_WITHOUT = "turn off cache_features"

_STALE_S = 600.0
"""A file in the making that nothing was added to for so long was left by a killed process."""


class Source(Protocol):
    """Where views come from: `PictureViews`, or the `CachedViews` of an earlier base."""

    @property
    def n(self) -> int:
        """How many pictures."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view of one picture."""

    def identity(self) -> dict[str, Any]:
        """Return all that the views depend on."""

    def batches(self, view: int, batch_size: int) -> Iterator[np.ndarray]:
        """Return a view of every picture, in order."""


def cache_key(
    base: keras.Model,
    source: Source,
    *,
    dtype: str,
    extractor_name: str = "tensorflow-f32",
) -> str:
    """Hash everything that the stored numbers depend on.

    The number of views is not part of it: more views of the same kind are added to a store.

    Parameters
    ----------
    base : keras.Model
        From `cut_at_pool` or `cut_before`; its name says backbone and place.
    source : Source
    dtype : {'float32', 'bfloat16'}
    extractor_name : str

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    about = source.identity() | {
        "weights": weights_fingerprint(base),
        "output": [base.name, list(feature_shape(base, source.shape))],
        "stored": [dtype, extractor_name],
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def feature_shape(base: keras.Model, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of what the base makes of one input of the given shape."""
    return tuple(base.compute_output_shape((1, *shape))[1:])


def needed_bytes(n: int, views: int, shape: tuple[int, ...], dtype: str) -> int:
    """Return how much disk `views` views of `n` pictures take, without the files' short heads."""
    return n * views * math.prod(shape) * STORED_AS[dtype].itemsize


def check_room(folder: Path, size_bytes: int) -> None:
    """Make sure that a disk has room for so many bytes, and 500 MB or 5 % more.

    Raises
    ------
    RunError
        It has not.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    reserve = max(_MARGIN_BYTES, round(size_bytes * _MARGIN_SHARE))
    if free < size_bytes + reserve:
        raise RunError(
            f"Keeping the features of all pictures in {folder} takes {size_bytes / 1e6:,.1f} "
            f"MB, {reserve / 1e9:.1f} GB more are kept free as a reserve, and the disk has "
            f"{free / 1e9:.1f} GB free; make room, or {_WITHOUT}."
        )


def compute(
    base: keras.Model,
    source: Source,
    *,
    views: int,
    batch_size: int,
    dtype: str,
    folder: Path,
    extract: Extractor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CachedViews:
    """Fill a store with what is missing in it, and open it.

    Parameters
    ----------
    base : keras.Model
        From `cut_at_pool` or `cut_before`.
    source : Source
        With at least as many views.
    views : int
        At least 1: view 0 is the picture as it is.
    batch_size : int
    dtype : {'float32', 'bfloat16'}
    folder : Path
        Of all stores; made when it is missing.
    extract : Extractor, optional
        TensorFlow by default; see `fast_base`.
    progress : callable, optional
        Called with (pictures done, pictures in all) before each batch and at the end, counting
        only what is not yet on disk. It may raise to stop: the views done until then are kept.

    Returns
    -------
    CachedViews

    Raises
    ------
    RunError
        The disk is too small, or cannot be written.
    """
    extract = extract or tensorflow_base(base)
    key = cache_key(base, source, dtype=dtype, extractor_name=extract.name)
    shape = feature_shape(base, source.shape)
    store = CachedViews(folder / key, views, source.n, shape, dtype)
    missing = [view for view in range(views) if not store.is_whole(view)]
    if not missing:
        return store
    check_room(folder, needed_bytes(store.n, len(missing), shape, dtype))

    done, total = 0, len(missing) * store.n
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        _sweep(store.folder)
        _write_about(store, base, source, extract.name)
        for view in missing:
            with _growing_file(view_file(store.folder, view), store) as stream:
                for batch in source.batches(view, batch_size):
                    if progress:
                        progress(done, total)
                    stream.write(encode(extract(batch), dtype).data)
                    done += len(batch)
    except OSError as error:
        raise RunError(
            f"The features of the pictures could not be written to {store.folder} "
            f"({error.strerror or error}); make room there, or {_WITHOUT}."
        ) from error
    if progress:
        progress(done, total)
    return store


@contextmanager
def _growing_file(path: Path, store: CachedViews) -> Iterator[BinaryIO]:
    """Open a ``.npy`` file for appending rows; it gets its name when all of them are in.

    Written, not mapped: on a full disk a write is an error, a mapped page kills the process.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    head = {
        "descr": STORED_AS[store.dtype].str,
        "fortran_order": False,
        "shape": (store.n, *store.feature_shape),
    }
    try:
        with temporary.open("xb") as stream:
            np.lib.format.write_array_header_2_0(stream, head)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sweep(folder: Path) -> None:
    """Delete what a killed process left in the making."""
    for left in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # its writer may finish in this very moment
            if time.time() - left.stat().st_mtime > _STALE_S:
                left.unlink()


def _write_about(
    store: CachedViews, base: keras.Model, source: Source, extractor_name: str
) -> None:
    about = {
        "base": base.name,
        "pictures": store.n,
        "feature_shape": list(store.feature_shape),
        "dtype": store.dtype,
        "computed_by": extractor_name,
        "computed_from": source.identity(),
    }
    write_text_atomic(store.folder / "about.json", json.dumps(about, indent=2) + "\n")
