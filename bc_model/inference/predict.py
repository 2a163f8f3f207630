"""Run a model over pictures: logits, and what it saw in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from bc_model.data.pipeline import load_pixels
from bc_model.data.stain import are_gray, stain_statistics
from bc_model.inference.engine import Engine

BATCH = 32

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Predicted:
    """What a model made of some pictures, in their order.

    Attributes
    ----------
    logits : ndarray of shape (n, 2), float32
        In the order of `CLASSES`, before temperature.
    features : ndarray of shape (n, channels), float32
        The last block's activations, averaged over the picture.
    stain : ndarray of shape (n, 6)
        See `bc_model.data.stain`.
    grey : ndarray of shape (n,), bool
        Likewise.
    """

    logits: np.ndarray
    features: np.ndarray
    stain: np.ndarray
    gray: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """Logit of malignant minus logit of benign, shape (n,), float64."""
        logits = self.logits.astype(np.float64)
        return logits[:, 1] - logits[:, 0]

    def select(self, chosen: np.ndarray) -> Predicted:
        """Return that of the chosen pictures: shape (n,), bool."""
        return Predicted(*(getattr(self, one.name)[chosen] for one in fields(self)))


def predict_files(
    engine: Engine, root: Path, paths: list[str], *, progress: Progress | None = None
) -> Predicted:
    """Read and predict pictures, a batch at a time.

    Parameters
    ----------
    engine : Engine
    root : Path
    paths : list of str
        Relative to `root`; at least one.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Raises
    ------
    ImageError
        A picture cannot be read any more.
    """

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(paths), BATCH):
            yield load_pixels(root, paths[start : start + BATCH], engine.bundle.image_size)

    return _predict(engine, batches(), len(paths), progress)


def predict_pixels(engine: Engine, pixels: np.ndarray) -> Predicted:
    """Predict pictures that are in memory, shape (n, height, width, 3), uint8."""
    starts = range(0, len(pixels), BATCH)
    return _predict(engine, (pixels[i : i + BATCH] for i in starts), len(pixels), None)


def _predict(
    engine: Engine, batches: Iterator[np.ndarray], n: int, progress: Progress | None
) -> Predicted:
    found: list[tuple[np.ndarray, ...]] = []
    done = 0
    for pixels in batches:
        stain = stain_statistics(pixels), are_gray(pixels)
        found.append((*engine.predict_with_features(pixels), *stain))
        done += len(pixels)
        if progress:
            progress(done, n)
    return Predicted(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
