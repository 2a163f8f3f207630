"""Compute what a frozen base makes of every view of every picture, once, and keep it on disk.

A store is named by the SHA-256 of all that its numbers depend on: other pictures, weights or sizes
are another store, never a stale one. A killed process leaves whole views; the next call computes
those that are missing. Old stores are not deleted here.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from bc_model.data.pipeline import augment, shuffle_epochs, validation_order
from bc_model.errors import RunError
from bc_model.model import weights_fingerprint
from bc_model.training.feature_extraction import Extractor, tensorflow_base
from bc_model.utils.io import write_text_atomic

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


STORED_AS: dict[str, np.dtype] = {"float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}
"""NumPy's file format has no bfloat16: its bits are kept as an integer of the same width."""


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return float32 values as they are stored; bfloat16 is rounded to the nearest."""
    if dtype == "float32":
        return np.ascontiguousarray(values, STORED_AS[dtype])
    import ml_dtypes

    return np.ascontiguousarray(values).astype(ml_dtypes.bfloat16).view(STORED_AS[dtype])


def decode(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Return stored values as float32, exactly."""
    if dtype == "float32":
        return np.asarray(stored, np.float32)
    import ml_dtypes

    return stored.view(ml_dtypes.bfloat16).astype(np.float32)


def view_file(folder: Path, view: int) -> Path:
    """Return where a view is kept."""
    return folder / f"view-{view:03d}.npy"


def epoch_views(n: int, views: int, *, seed: int, epoch: int) -> np.ndarray:
    """Choose the view that each picture shows in an epoch.

    Every picture goes through the views in an order of its own, again and again: in any `views`
    epochs in a row it shows each of them once.

    Returns
    -------
    ndarray of shape (n,), int64
    """
    # `epoch_orders` draws from [seed, epoch]; the third word keeps this stream apart from all.
    rng = np.random.default_rng([seed, 0, 1])
    orders = rng.permuted(np.tile(np.arange(views), (n, 1)), axis=1)
    return orders[:, epoch % views]


@dataclass(frozen=True)
class CachedViews:
    """An array of shape (views, n, *feature_shape) on disk.

    Attributes
    ----------
    folder : Path
        Of one key; holds a file for each view.
    views, n : int
        Views of each picture, and pictures.
    feature_shape : tuple of int
        Of one picture: (channels,) or (height, width, channels).
    dtype : {'float32', 'bfloat16'}
        As stored; what comes out is always float32.
    """

    folder: Path
    views: int
    n: int
    feature_shape: tuple[int, ...]
    dtype: str

    def is_whole(self, view: int) -> bool:
        """Tell whether a view is on disk, with the shape that it must have."""
        try:
            stored = np.load(view_file(self.folder, view), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return (
            stored.shape == (self.n, *self.feature_shape) and stored.dtype == STORED_AS[self.dtype]
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view of one picture, as a source for a further base."""
        return self.feature_shape

    def identity(self) -> dict[str, Any]:
        """Return all that the views depend on: the folder is named by it."""
        return {"store": self.folder.name}

    def batches(self, view: int, batch_size: int) -> Iterator[np.ndarray]:
        """Return a view of every picture, in order, float32."""
        reader = self._reader()
        for start in range(0, self.n, batch_size):
            index = np.arange(start, min(start + batch_size, self.n))
            yield reader(np.full_like(index, view), index)

    def read(self, views: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Read some pictures, each in a view of its own.

        Parameters
        ----------
        views, index : ndarray of shape (b,), int

        Returns
        -------
        ndarray of shape (b, *feature_shape), float32
        """
        return self._reader()(views, index)

    def training_dataset(
        self,
        labels: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        first_epoch: int,
        last_epoch: int,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """Make the batches of several epochs, shuffled as `pipeline.training_dataset` shuffles.

        Parameters
        ----------
        labels : ndarray of shape (n, 2), float32
        batch_size, seed : int
        first_epoch, last_epoch : int
            Counted over the whole run, not within a phase; `last_epoch` is not included.
        whole_batches : bool
            As for `pipeline.training_dataset`.

        Returns
        -------
        tf.data.Dataset
            Features (b, *feature_shape) float32, labels (b, 2); each epoch has
            `pipeline.steps_in_epoch` batches.
        """
        orders = shuffle_epochs(self.n, seed=seed, first_epoch=first_epoch, last_epoch=last_epoch)
        choices = [
            epoch_views(self.n, self.views, seed=seed, epoch=epoch)
            for epoch in range(first_epoch, last_epoch)
        ]
        end = self.n - self.n % batch_size if drop_remainder else self.n
        a_batch = [
            (choice[order[start : start + batch_size]], order[start : start + batch_size])
            for choice, order in zip(choices, orders, strict=True)
            for start in range(0, end, batch_size)
        ]
        return self._dataset(a_batch, labels)

    def plain(
        self, labels: np.ndarray, *, batch_size: int, proportions: int = 1
    ) -> tf.data.Dataset:
        """Make batches of view 0, in order, each class weighing the same in the loss.

        Returns
        -------
        tf.data.Dataset
            Features (b, *feature_shape) float32, labels (b, 2), weights (b,), as
            `pipeline.validation_dataset` has them.
        """
        order, weights, batch_size = validation_order(labels, batch_size, proportions)
        places = [
            np.arange(start, min(start + batch_size, len(order)))
            for start in range(0, len(order), batch_size)
        ]
        return self._dataset(
            [(np.zeros_like(order[one]), order[one]) for one in places],
            labels,
            [weights[one] for one in places],
        )

    def _dataset(
        self,
        batches: list[tuple[np.ndarray, np.ndarray]],
        labels: np.ndarray,
        weights: list[np.ndarray] | None = None,
    ) -> tf.data.Dataset:
        import tensorflow as tf

        reader = self._reader()
        types = [tf.float32, tf.as_dtype(labels.dtype), *([tf.float32] if weights else [])]
        shapes = [self.feature_shape, labels.shape[1:], *([()] if weights else [])]

        def read(number: np.ndarray) -> tuple[np.ndarray, ...]:
            views, index = batches[number]
            beside = [weights[number]] if weights else []
            return reader(views, index), labels[index], *beside

        def example(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            parts = tf.numpy_function(read, [number], types, stateful=False)
            return tuple(
                tf.ensure_shape(part, (None, *shape))
                for part, shape in zip(parts, shapes, strict=True)
            )

        numbers = tf.data.Dataset.range(len(batches))
        return numbers.map(example, num_parallel_calls=2, deterministic=True).prefetch(2)

    def _reader(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        files = [self._open(view) for view in range(self.views)]

        def read(views: np.ndarray, index: np.ndarray) -> np.ndarray:
            stored = np.empty((len(index), *self.feature_shape), STORED_AS[self.dtype])
            for view in np.unique(views):
                chosen = views == view
                stored[chosen] = files[view][index[chosen]]
                _give_back(files[view])
            return decode(stored, self.dtype)

        return read

    def _open(self, view: int) -> np.ndarray:
        path = view_file(self.folder, view)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(
                f"The stored features {path} are missing or damaged; delete the folder "
                f"{self.folder} and start again."
            ) from error


def _give_back(mapped: np.ndarray) -> None:
    """Count the pages read as the system's cache, no longer as this process's memory.

    They would add up to all files together, and a limit on the process would kill it for them.
    """
    if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.base.madvise(mmap.MADV_DONTNEED)


_MARGIN_BYTES = 500_000_000
_MARGIN_PROPORTION = 0.05
"""A disk is never filled to the brim: other processes, and the run's own model, need room too."""

_WITHOUT = "turn off cache_features"

_STALE_S = 600.0
"""A file in the making that nothing was added to for so long was left by a killed process."""


class Source(Protocol):
    """Where views come from: `ImageViews`, or the `CachedViews` of an earlier base."""

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
    reserve = max(_MARGIN_BYTES, round(size_bytes * _MARGIN_PROPORTION))
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
        "images": store.n,
        "feature_shape": list(store.feature_shape),
        "dtype": store.dtype,
        "computed_by": extractor_name,
        "computed_from": source.identity(),
    }
    write_text_atomic(store.folder / "about.json", json.dumps(about, indent=2) + "\n")


VIEW_SCHEME = 1
"""Raised whenever a view of the same number would become another picture."""


@dataclass(frozen=True)
class ImageViews:
    """Pictures as a source of views for `cache.compute`.

    Attributes
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
        As `view_dataset` takes them.
    image_size : (int, int)
    seed : int
        Of the views.
    """

    pixels: np.ndarray
    image_size: tuple[int, int]
    seed: int

    @property
    def n(self) -> int:
        """How many pictures."""
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view of one picture."""
        return (*self.image_size, 3)

    def identity(self) -> dict[str, Any]:
        """Return all that the views depend on."""
        content = np.ascontiguousarray(self.pixels).reshape(-1).data
        return {
            "pixels": [hashlib.sha256(content).hexdigest(), list(self.pixels.shape)],
            "image_size": list(self.image_size),
            "augmented_copies": [VIEW_SCHEME, self.seed],
        }

    def batches(self, view: int, batch_size: int) -> Iterator[np.ndarray]:
        """Return a view of every picture, in order, float32 in [0, 255]."""
        return view_dataset(
            self.pixels, self.image_size, view=view, seed=self.seed, batch_size=batch_size
        ).as_numpy_iterator()


def view_dataset(
    pixels: np.ndarray, image_size: tuple[int, int], *, view: int, seed: int, batch_size: int
) -> tf.data.Dataset:
    """Make the batches of one view of every picture, in order.

    Parameters
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
        For training at `training_size(image_size)`; at `image_size` view 0 is the pixels' values.
    image_size : (int, int)
    view : int
        0 for the picture as it is, only resized; 1 and above for one augmentation each.
    seed : int
        Not negative, below 2**31; view 0 does not depend on it.
    batch_size : int

    Returns
    -------
    tf.data.Dataset
        Pictures (b, *image_size, 3) float32 in [0, 255].
    """
    import tensorflow as tf

    def read(position: np.ndarray) -> np.ndarray:
        return pixels[position]

    def example(position: tf.Tensor) -> tf.Tensor:
        # The pictures stay where they are: as a tensor they would be held two or three times.
        image = tf.numpy_function(read, [position], tf.uint8, stateful=False)
        image = tf.ensure_shape(image, pixels.shape[1:])
        if view == 0:
            # Not divided by 255 and back, as `augment` must: so that no value is rounded.
            return tf.image.resize(tf.cast(image, tf.float32), image_size)
        # Positions of `training_dataset` are not negative; these are, so no draw is ever shared.
        return augment(image, image_size, tf.stack([seed * 1_000_003 + view, -1 - position]))

    positions = tf.data.Dataset.range(len(pixels))
    images = positions.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return images.batch(batch_size).prefetch(2)
