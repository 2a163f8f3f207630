"""Run the inference engine on many images: from several threads at once, or from many files.

`BatchingEngine` joins single images of concurrent threads into batches. `predict_files` and
`predict_pixels` process a dataset batch by batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bc_model.contribution_map import ContributionMap
from bc_model.data.images import Decode, decode_image
from bc_model.data.pipeline import load_pixels
from bc_model.data.stain import are_gray, stain_statistics
from bc_model.errors import EngineBusyError
from bc_model.gradcam import Heatmap
from bc_model.inference.engine import BatchExplanation, Engine

MAX_BATCH = 8
"""Larger batches are not faster on a few cores, and the first image waits longer."""
MAX_WAITING = 64
FILE_BATCH = 32

Progress = Callable[[int, int], None]


class ImageExplanation(NamedTuple):
    """The explanation of one image; see `BatchExplanation`.

    Attributes
    ----------
    logits : ndarray of shape (2,), float32
    heatmaps : dict of str to Heatmap
    is_constant : bool
    contribution : ContributionMap
    features : ndarray of shape (channels,), float32
    """

    logits: np.ndarray
    heatmaps: dict[str, Heatmap]
    is_constant: bool
    contribution: ContributionMap
    features: np.ndarray


@dataclass(eq=False)
class _Request:
    pixels: np.ndarray
    resolution: str
    result: ImageExplanation | None = None
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


class BatchingEngine:
    """Explain single images for many threads, in order of arrival.

    The first waiting thread runs the entire batch and wakes the others, so no worker thread is
    needed.

    Parameters
    ----------
    engine : Engine
    max_batch : int
        Largest number of images in one batch.
    max_waiting : int
        Largest number of waiting images, without those of the current batch.
    """

    def __init__(
        self, engine: Engine, *, max_batch: int = MAX_BATCH, max_waiting: int = MAX_WAITING
    ) -> None:
        self.engine = engine
        self.bundle = engine.bundle
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._is_computing = False

    def explain_one(self, pixels: np.ndarray, resolution: str = "standard") -> ImageExplanation:
        """Return the logits, the heatmap of each class and the contribution map of one image.

        Parameters
        ----------
        pixels : ndarray of shape (height, width, 3), uint8
            RGB image at the input size of the network.
        resolution : {'standard', 'fine', 'finest'}
            Resolution of the heatmaps, see `Engine.explain`.

        Raises
        ------
        EngineBusyError
            Too many images are waiting.
        """
        request = _Request(pixels, resolution)
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                raise EngineBusyError(
                    f"Too many images are waiting. Expected fewer than {self._max_waiting}, got "
                    f"{len(self._waiting)}. Try again in a moment."
                )
            self._waiting.append(request)
        while not request.is_done:
            if batch := self._wait_for_turn(request):
                self._compute(batch)
        if request.error is not None:
            raise request.error
        assert request.result is not None
        return request.result

    def _wait_for_turn(self, request: _Request) -> list[_Request]:
        """Return the next batch, or an empty list if another thread completed the request."""
        with self._changed:
            self._changed.wait_for(lambda: request.is_done or not self._is_computing)
            if request.is_done:
                return []
            self._is_computing = True
            batch = [self._waiting.popleft()]
            resolution = batch[0].resolution
            while (
                self._waiting
                and self._waiting[0].resolution == resolution
                and len(batch) < self._max_batch
            ):
                batch.append(self._waiting.popleft())
            return batch

    def _compute(self, batch: list[_Request]) -> None:
        try:
            pixels = np.stack([request.pixels for request in batch])
            found = self.engine.explain(pixels, batch[0].resolution)
            for i, request in enumerate(batch):
                request.result = _image_explanation(found, i)
        except BaseException as error:
            # Every thread of the batch receives the error. Otherwise it would wait forever.
            for request in batch:
                request.error = error
        finally:
            with self._changed:
                self._is_computing = False
                self._changed.notify_all()


def _image_explanation(batch: BatchExplanation, index: int) -> ImageExplanation:
    return ImageExplanation(
        batch.logits[index],
        batch.heatmaps[index],
        bool(batch.is_constant[index]),
        batch.contributions[index],
        batch.features[index],
    )


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of a model for n images, with the staining of these images.

    The shapes are (n, 2) for the logits before temperature scaling, (n, channels) for the features,
    (n, 6) for `bc_model.data.stain.STAIN_COLUMNS`, and (n,) for `gray`, the grayscale images, and
    `is_constant`, the images whose logits are only constants of the model.
    """

    logits: np.ndarray
    features: np.ndarray
    stain: np.ndarray
    gray: np.ndarray
    is_constant: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """Logit of malignant minus logit of benign, shape (n,), float64."""
        logits = self.logits.astype(np.float64)
        return logits[:, 1] - logits[:, 0]

    def select(self, mask: np.ndarray) -> ModelOutputs:
        """Return the outputs of the images in a mask of shape (n,), bool."""
        return ModelOutputs(*(getattr(self, column.name)[mask] for column in fields(self)))


def predict_files(
    engine: Engine,
    root: Path,
    paths: list[str],
    *,
    inspect: Callable[[int, np.ndarray], None] | None = None,
    progress: Progress | None = None,
    decode: Decode = decode_image,
) -> ModelOutputs:
    """Compute the outputs of a model for image files, batch by batch.

    Parameters
    ----------
    engine : Engine
    root : Path
        Directory of the dataset.
    paths : list of str
        At least one path, relative to `root`.
    inspect : callable, optional
        Called with the position of each path and the network input of its image.
    progress : callable, optional
        Called with the number of processed images and the number of all images.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file, such as `DecodePool.decode`.

    Raises
    ------
    ImageError
        An image cannot be read.
    """
    size = engine.bundle.image_size

    def load_batch(start: int) -> np.ndarray:
        batch = load_pixels(root, paths[start : start + FILE_BATCH], size, decode=decode)
        for i, pixels in enumerate(batch if inspect else ()):
            assert inspect is not None
            inspect(start + i, pixels)
        return batch

    batches = (load_batch(start) for start in range(0, len(paths), FILE_BATCH))
    return _predict_batches(engine, batches, len(paths), progress)


def predict_pixels(engine: Engine, pixels: np.ndarray) -> ModelOutputs:
    """Compute the outputs of a model for pixels of shape (n, height, width, 3), uint8."""
    starts = range(0, len(pixels), FILE_BATCH)
    batches = (pixels[start : start + FILE_BATCH] for start in starts)
    return _predict_batches(engine, batches, len(pixels), None)


def _predict_batches(
    engine: Engine, batches: Iterator[np.ndarray], n_images: int, progress: Progress | None
) -> ModelOutputs:
    outputs: list[tuple[np.ndarray, ...]] = []
    n_done = 0
    for pixels in batches:
        logits, features = engine.predict_with_features(pixels)
        constant = engine.has_constant_answer(features)
        outputs.append((logits, features, stain_statistics(pixels), are_gray(pixels), constant))
        n_done += len(pixels)
        if progress:
            progress(n_done, n_images)
    return ModelOutputs(*(np.concatenate(column) for column in zip(*outputs, strict=True)))
