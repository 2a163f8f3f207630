"""What a frozen base made of every view of every picture, read from disk batch by batch.

One file a view, mapped into memory: nothing is copied that no batch asks for, the system keeps in
RAM what fits, and the process holds none of it. `cache.py` writes these files.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bc_model.data.pipeline import epoch_orders, validation_order
from bc_model.errors import RunError

if TYPE_CHECKING:
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
        whole_batches: bool = False,
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
        orders = epoch_orders(self.n, seed=seed, first_epoch=first_epoch, last_epoch=last_epoch)
        choices = [
            epoch_views(self.n, self.views, seed=seed, epoch=epoch)
            for epoch in range(first_epoch, last_epoch)
        ]
        end = self.n - self.n % batch_size if whole_batches else self.n
        a_batch = [
            (choice[order[start : start + batch_size]], order[start : start + batch_size])
            for choice, order in zip(choices, orders, strict=True)
            for start in range(0, end, batch_size)
        ]
        return self._dataset(a_batch, labels)

    def plain(self, labels: np.ndarray, *, batch_size: int, shares: int = 1) -> tf.data.Dataset:
        """Make batches of view 0, in order, each class weighing the same in the loss.

        Returns
        -------
        tf.data.Dataset
            Features (b, *feature_shape) float32, labels (b, 2), weights (b,), as
            `pipeline.validation_dataset` has them.
        """
        order, weights, batch_size = validation_order(labels, batch_size, shares)
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
