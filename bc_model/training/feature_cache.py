"""Cache on disk for the features that frozen layers compute of augmented copies of images.

The directory of a cache is named by the SHA-256 of everything that its values depend on, so a
cache is never outdated. A killed process leaves complete files; the next call computes the others.
This module does not delete old caches.
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
from bc_model.errors import DataError, RunError
from bc_model.model import weights_fingerprint
from bc_model.training.feature_extraction import Extractor, make_tensorflow_extractor
from bc_model.utils.arrays import map_npy
from bc_model.utils.io import write_text_atomic
from bc_model.utils.processor import require_tensorflow

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

STORED_DTYPES: dict[str, np.dtype] = {"float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}
"""NumPy files have no bfloat16, so its bits are stored as an integer of the same size."""

AUGMENTATION_VERSION = 1
"""Increase it whenever the augmented copy of the same number would be another image."""

_MIN_RESERVE_BYTES = 500_000_000
_RESERVE_PROPORTION = 0.05
_WITHOUT_CACHE = "turn off cached features (--no-cache-features)"
_STALE_S = 600.0
"""A temporary file that has not grown for so long belongs to a killed process."""


class Source(Protocol):
    """A source of augmented copies: `AugmentedImages`, or `CachedFeatures` of an earlier base."""

    @property
    def n(self) -> int:
        """The number of images."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one copy of one image."""

    def identity(self) -> dict[str, Any]:
        """Return everything that the copies depend on, as JSON-safe values."""

    def batches(self, copy: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yield one copy of all images, in order, float32."""


@dataclass(frozen=True)
class AugmentedImages:
    """Images as a source of augmented copies; the attributes are those of `make_copy_dataset`."""

    pixels: np.ndarray
    image_size: tuple[int, int]
    seed: int

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one copy of one image."""
        return (*self.image_size, 3)

    def identity(self) -> dict[str, Any]:
        """Return everything that the copies depend on, as JSON-safe values."""
        content = np.ascontiguousarray(self.pixels).reshape(-1).data
        return {
            "pixels": [hashlib.sha256(content).hexdigest(), list(self.pixels.shape)],
            "image_size": list(self.image_size),
            "augmented_copies": [AUGMENTATION_VERSION, self.seed],
        }

    def batches(self, copy: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yield one copy of all images, in order, float32 in [0, 255]."""
        return make_copy_dataset(
            self.pixels, self.image_size, copy=copy, seed=self.seed, batch_size=batch_size
        ).as_numpy_iterator()


@dataclass(frozen=True)
class CachedFeatures:
    """Features on disk, an array of shape (n_copies, n, *feature_shape).

    `directory` contains one file for each copy of the `n` images. `feature_shape` is (channels,) or
    (height, width, channels). `dtype` is the dtype on disk; values are read as float32.
    """

    directory: Path
    n_copies: int
    n: int
    feature_shape: tuple[int, ...]
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one copy of one image."""
        return self.feature_shape

    def identity(self) -> dict[str, Any]:
        """Return everything that the features depend on; it names the directory."""
        return {"cache": self.directory.name}

    def is_complete(self, copy: int) -> bool:
        """Return whether the file of a copy exists and has the right shape and dtype."""
        try:
            stored = map_npy(features_file(self.directory, copy))
        except (OSError, DataError):
            return False
        shape = (self.n, *self.feature_shape)
        return stored.shape == shape and stored.dtype == STORED_DTYPES[self.dtype]

    def batches(self, copy: int, batch_size: int) -> Iterator[np.ndarray]:
        """Yield one copy of all images, in order, float32."""
        read = self._make_reader()
        for start in range(0, self.n, batch_size):
            index = np.arange(start, min(start + batch_size, self.n))
            yield read(np.full_like(index, copy), index)

    def read(self, copies: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return the features of images by copy and index: (b, *feature_shape), float32."""
        return self._make_reader()(copies, index)

    def training_dataset(
        self, labels: np.ndarray, *, batch_size: int, seed: int, first_epoch: int, last_epoch: int,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:  # fmt: skip
        """Return features and labels (b, 2) of several epochs, as `pipeline.training_dataset`.

        Epochs count from the start of the run; `last_epoch` is excluded. With `drop_remainder`, the
        last batch of an epoch is dropped if it is smaller.
        """
        orders = shuffle_epochs(self.n, seed=seed, first_epoch=first_epoch, last_epoch=last_epoch)
        copies_by_epoch = [
            choose_copies(self.n, self.n_copies, seed=seed, epoch=epoch)
            for epoch in range(first_epoch, last_epoch)
        ]
        end = self.n - self.n % batch_size if drop_remainder else self.n
        batches = [
            (copies[order[start : start + batch_size]], order[start : start + batch_size])
            for copies, order in zip(copies_by_epoch, orders, strict=True)
            for start in range(0, end, batch_size)
        ]
        return self._make_dataset(batches, labels)

    def validation_dataset(
        self, labels: np.ndarray, *, batch_size: int, n_devices: int = 1
    ) -> tf.data.Dataset:
        """Return features of copy 0, labels and weights, as `pipeline.validation_dataset`."""
        order, weights, batch_size = validation_order(labels, batch_size, n_devices)
        places = [slice(i, i + batch_size) for i in range(0, len(order), batch_size)]
        batches = [(np.zeros_like(order[place]), order[place]) for place in places]
        return self._make_dataset(batches, labels, [weights[place] for place in places])

    def _make_dataset(
        self, batches: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray,
        weights: list[np.ndarray] | None = None,
    ) -> tf.data.Dataset:  # fmt: skip
        require_tensorflow()
        import tensorflow as tf

        reader = self._make_reader()
        types = [tf.float32, tf.as_dtype(labels.dtype), *([tf.float32] if weights else [])]
        shapes = [self.feature_shape, labels.shape[1:], *([()] if weights else [])]

        def read(number: np.ndarray) -> tuple[np.ndarray, ...]:
            copies, index = batches[number]
            return reader(copies, index), labels[index], *([weights[number]] if weights else [])

        def load_batch(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            tensors = tf.numpy_function(read, [number], types, stateful=False)
            return tuple(
                tf.ensure_shape(tensor, (None, *shape))
                for tensor, shape in zip(tensors, shapes, strict=True)
            )

        numbers = tf.data.Dataset.range(len(batches))
        return numbers.map(load_batch, num_parallel_calls=2, deterministic=True).prefetch(2)

    def _make_reader(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        files = [self._open(copy) for copy in range(self.n_copies)]

        def read(copies: np.ndarray, index: np.ndarray) -> np.ndarray:
            stored = np.empty((len(index), *self.feature_shape), STORED_DTYPES[self.dtype])
            for copy in np.unique(copies):
                chosen = copies == copy
                stored[chosen] = files[copy][index[chosen]]
                _release_pages(files[copy])
            return decode(stored, self.dtype)

        return read

    def _open(self, copy: int) -> np.ndarray:
        path = features_file(self.directory, copy)
        try:
            return map_npy(path)
        except (OSError, DataError) as error:
            raise RunError(
                f"The cached features {path} are missing or damaged. Delete {self.directory} and "
                "resume the run."
            ) from error


def compute_features(
    base: keras.Model, source: Source, *, n_copies: int, batch_size: int, dtype: str,
    directory: Path, extractor: Extractor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CachedFeatures:  # fmt: skip
    """Open a cache after computing the copies that it lacks.

    Parameters
    ----------
    base : keras.Model
        The frozen layers, from `cut_at_pool` or `cut_before_block`.
    source : Source
        The input of the base, with at least `n_copies` copies.
    n_copies, batch_size : int
    dtype : {'float32', 'bfloat16'}
        The dtype on disk.
    directory : Path
        The directory of all caches; created if missing.
    extractor : Extractor, optional
        Default: TensorFlow.
    progress : callable, optional
        Called with (done, total) images of missing copies before each batch and at the end. It may
        raise an exception to end the computation; complete copies are kept.

    Raises
    ------
    RunError
        The disk is too small, or cannot be written.
    """
    extractor = extractor or make_tensorflow_extractor(base)
    key = cache_key(base, source, dtype=dtype, extractor_name=extractor.name)
    shape = compute_feature_shape(base, source.shape)
    cache = CachedFeatures(directory / key, n_copies, source.n, shape, dtype)
    missing = [copy for copy in range(n_copies) if not cache.is_complete(copy)]
    if not missing:
        return cache
    check_disk_space(directory, count_bytes(cache.n, len(missing), shape, dtype))

    done, total = 0, len(missing) * cache.n
    try:
        cache.directory.mkdir(parents=True, exist_ok=True)
        _delete_stale_files(cache.directory)
        _write_metadata(cache, base, source, extractor.name)
        for copy in missing:
            with _appendable_file(features_file(cache.directory, copy), cache) as stream:
                for batch in source.batches(copy, batch_size):
                    if progress:
                        progress(done, total)
                    stream.write(encode(extractor(batch), dtype).data)
                    done += len(batch)
    except OSError as error:
        raise RunError(
            f"The features cannot be written to {cache.directory} ({error.strerror or error}). "
            f"Free disk space, or {_WITHOUT_CACHE}."
        ) from error
    if progress:
        progress(done, total)
    return cache


def cache_key(
    base: keras.Model, source: Source, *, dtype: str, extractor_name: str = "tensorflow-f32"
) -> str:
    """Return the SHA-256 of everything that the cached values depend on.

    The number of copies is excluded: more copies of the same kind are added to a cache.
    """
    parts = source.identity() | {
        "weights": weights_fingerprint(base),
        "output": [base.name, list(compute_feature_shape(base, source.shape))],
        "stored": [dtype, extractor_name],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def compute_feature_shape(base: keras.Model, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the output shape of a base for one input of a shape."""
    return tuple(base.compute_output_shape((1, *shape))[1:])


def count_bytes(n: int, n_copies: int, shape: tuple[int, ...], dtype: str) -> int:
    """Return the size on disk of `n_copies` copies of `n` images, without file headers."""
    return n * n_copies * math.prod(shape) * STORED_DTYPES[dtype].itemsize


def check_disk_space(directory: Path, size_bytes: int) -> None:
    """Raise `RunError` if a disk has no space for a cache and a reserve of 500 MB or 5 %."""
    existing = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    reserve = max(_MIN_RESERVE_BYTES, round(size_bytes * _RESERVE_PROPORTION))
    if free < size_bytes + reserve:
        raise RunError(
            f"The disk is too full for the feature cache in {directory}. Expected "
            f"{(size_bytes + reserve) / 1e6:,.0f} MB of free space, got "
            f"{free / 1e6:,.0f} MB. Free disk space, or {_WITHOUT_CACHE}."
        )


def choose_copies(n: int, n_copies: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the number of the augmented copy of each image in an epoch, (n,) int64.

    Each image cycles through its copies in a random order. In any `n_copies` consecutive epochs,
    each copy is used once.
    """
    # `shuffle_epochs` uses [seed, epoch]; the third number makes this stream independent of it.
    rng = np.random.default_rng([seed, 0, 1])
    orders = rng.permuted(np.tile(np.arange(n_copies), (n, 1)), axis=1)
    return orders[:, epoch % n_copies]


def make_copy_dataset(
    pixels: np.ndarray, image_size: tuple[int, int], *, copy: int, seed: int, batch_size: int
) -> tf.data.Dataset:
    """Return the batches of one augmented copy of all images, in order.

    Parameters
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
        Images of `training_size(image_size)`, or of `image_size`, which copy 0 does not change.
    image_size : (int, int)
        Height and width of the copies, px.
    copy : int
        0 only resizes the images; each number above 0 is one augmentation.
    seed : int
        Random seed of the augmentation, 0 <= seed < 2**31.
    batch_size : int

    Returns
    -------
    tf.data.Dataset
        Images (b, *image_size, 3) float32 in [0, 255].
    """
    require_tensorflow()
    import tensorflow as tf

    def read(position: np.ndarray) -> np.ndarray:
        return pixels[position]

    def make_copy(position: tf.Tensor) -> tf.Tensor:
        # A function, because a tensor of all images would occupy two or three times the memory.
        image = tf.numpy_function(read, [position], tf.uint8, stateful=False)
        image = tf.ensure_shape(image, pixels.shape[1:])
        if copy == 0:
            # `augment` divides by 255 and multiplies again, which would round the values.
            return tf.image.resize(tf.cast(image, tf.float32), image_size)
        # Negative positions: `training_dataset` uses the others, so no random number is shared.
        return augment(image, image_size, tf.stack([seed * 1_000_003 + copy, -1 - position]))

    positions = tf.data.Dataset.range(len(pixels))
    images = positions.map(make_copy, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return images.batch(batch_size).prefetch(2)


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return float32 values as stored; bfloat16 is rounded to the nearest value."""
    if dtype == "float32":
        return np.ascontiguousarray(values, STORED_DTYPES[dtype])
    import ml_dtypes

    return np.ascontiguousarray(values).astype(ml_dtypes.bfloat16).view(STORED_DTYPES[dtype])


def decode(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Return stored values as float32, exactly."""
    if dtype == "float32":
        return np.asarray(stored, np.float32)
    import ml_dtypes

    return stored.view(ml_dtypes.bfloat16).astype(np.float32)


def features_file(directory: Path, copy: int) -> Path:
    """Return the file of a copy in the directory of a cache."""
    return directory / f"copy-{copy:03d}.npy"


def _release_pages(mapped: np.ndarray) -> None:
    """Return mapped pages to the system's cache, so that they do not count as process memory."""
    if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # Not on Windows.
        mapped.base.madvise(mmap.MADV_DONTNEED)


@contextmanager
def _appendable_file(path: Path, cache: CachedFeatures) -> Iterator[BinaryIO]:
    """Open a temporary ``.npy`` file for appending rows, and rename it at the end."""
    # Written, not mapped: with a full disk, a write fails, but a mapped page kills the process.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    header = {
        "descr": STORED_DTYPES[cache.dtype].str,
        "fortran_order": False,
        "shape": (cache.n, *cache.feature_shape),
    }
    try:
        with temporary.open("xb") as stream:
            np.lib.format.write_array_header_2_0(stream, header)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _delete_stale_files(directory: Path) -> None:
    for path in directory.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # Another process may rename it at this moment.
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _write_metadata(
    cache: CachedFeatures, base: keras.Model, source: Source, extractor_name: str
) -> None:
    metadata = {
        "base": base.name, "images": cache.n, "feature_shape": list(cache.feature_shape),
        "dtype": cache.dtype, "extractor": extractor_name, "source": source.identity(),
    }  # fmt: skip
    write_text_atomic(cache.directory / "metadata.json", json.dumps(metadata, indent=2) + "\n")
