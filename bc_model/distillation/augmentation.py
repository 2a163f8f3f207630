"""Augmented training views of the bundled model: crops, colors, flips and mixtures.

The hand-crafted features are computed from each view, so even views of unrealistic colors have
valid training targets. Colors are therefore changed over a wide range.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from bc_model.data.breakhis import CLASSES
from bc_model.data.stain import augment_stain
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import extract_features

_P_FULL_SCALE, _P_STAIN_JITTER, _P_BLUR_OR_SHARPEN = 0.4, 0.7, 0.2
_ASPECT_RANGE = (0.85, 1.18)
_BLUR_SIGMA_PX = (0.4, 1.2)
_PREFETCHED_PER_PROCESS = 4


class Views(NamedTuple):
    """A batch of views.

    Pixels are uint8 of shape (n, height, width, 3), with the features of `extract_features`. Labels
    and subtypes are proportions of shape (n, n_classes) and (n, n_subtypes), float32.
    """

    pixels: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    subtypes: np.ndarray


class ViewSampler:
    """Sample batches of views; a batch depends only on the seed and its step.

    Classes, magnifications, and the cases within them, are equally frequent.

    Parameters
    ----------
    source : TrainingImages
    config : DistillationConfig
    seed : int

    Attributes
    ----------
    subtypes : list of str
        Subtypes in the order of their one-hot columns.
    """

    def __init__(self, source: TrainingImages, config: DistillationConfig, seed: int) -> None:
        self._pixels, self._config, self._seed = source.pixels, config, seed
        table = source.table
        classes = table["class"].to_numpy(str)
        self._labels = _one_hot(classes, list(CLASSES))
        self.subtypes = sorted(set(table["subtype"]))
        self._subtypes = _one_hot(table["subtype"].to_numpy(str), self.subtypes)
        pools: dict[tuple[int, str], dict[str, list[int]]] = {}
        rows = zip(table["magnification"], classes, table["case"], strict=True)
        for index, (magnification, name, case) in enumerate(rows):
            pools.setdefault((int(magnification), name), {}).setdefault(case, []).append(index)
        self._pools = [list(cases.values()) for _, cases in sorted(pools.items())]

    def sample_batch(self, step: int) -> Views:
        """Return the batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        first, second = self._sample_indices(rng), rng.permutation(self._sample_indices(rng))
        views, proportions = [], []
        for index, other in zip(first, second, strict=True):
            view, proportion = self._make_view(index, rng), 1.0
            if rng.random() < self._config.image_mixing:
                view, proportion = _mix_images(view, self._make_view(other, rng), rng)
            views.append(view)
            proportions.append(proportion)
        weight = np.array(proportions, np.float32)[:, None]
        labels, subtypes = (
            weight * one_hot[first] + (1.0 - weight) * one_hot[second]
            for one_hot in (self._labels, self._subtypes)
        )
        pixels = np.stack(views)
        return Views(pixels, extract_features(pixels), labels, subtypes)

    def sample_indices(self, number: int) -> np.ndarray:
        """Return the image indices of a batch of unchanged images, shape (n,), int."""
        return self._sample_indices(np.random.default_rng([self._seed, number, 1]))

    def _sample_indices(self, rng: np.random.Generator) -> np.ndarray:
        """Sample a case from each pool in turn, then one of its images."""
        indices = []
        for position in range(self._config.batch_size):
            cases = self._pools[position % len(self._pools)]
            images = cases[rng.integers(len(cases))]
            indices.append(images[rng.integers(len(images))])
        return np.array(indices)

    def _make_view(self, index: int, rng: np.random.Generator) -> np.ndarray:
        config = self._config
        view = _random_resized_crop(self._pixels[index], config.view_size, config.crop_scale, rng)
        if rng.random() < 0.5:
            view = view[:, ::-1]
        if rng.random() < 0.5:
            view = view[::-1]
        if rng.random() < _P_STAIN_JITTER:
            view = _jitter_stain(view, config.stain_jitter, rng)
        if rng.random() < config.channel_mixing:
            view = _mix_channels(view, rng)
        if rng.random() < _P_BLUR_OR_SHARPEN:
            view = _blur_or_sharpen(view, rng)
        return view


def _one_hot(values: np.ndarray, names: list[str]) -> np.ndarray:
    return np.eye(len(names), dtype=np.float32)[[names.index(value) for value in values]]


def _random_resized_crop(
    image: np.ndarray, size: tuple[int, int], scale_range: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    scale, aspect = 1.0, 1.0
    if rng.random() >= _P_FULL_SCALE:
        scale, aspect = rng.uniform(*scale_range), rng.uniform(*_ASPECT_RANGE)
    height = min(image.shape[0], round(size[0] * scale))
    width = min(image.shape[1], round(size[1] * scale * aspect))
    y0 = rng.integers(image.shape[0] - height + 1)
    x0 = rng.integers(image.shape[1] - width + 1)
    crop = image[y0 : y0 + height, x0 : x0 + width]
    if crop.shape[:2] == size:
        return crop
    interpolation = cv2.INTER_AREA if scale > 1.0 else cv2.INTER_LINEAR
    return cv2.resize(crop, size[::-1], interpolation=interpolation)


def _jitter_stain(view: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Change the stains, sometimes also gamma, contrast and brightness."""
    changed = augment_stain(
        view, rng.uniform(1.0 - amount, 1.0 + amount, 3), rng.uniform(-amount / 8, amount / 8, 3)
    )
    if rng.random() < 0.5:
        gamma = np.exp(rng.normal(0.0, 0.35 * amount, 3))
        changed = 255.0 * (changed / 255.0) ** gamma
    if rng.random() < 0.3:
        mean = changed.mean(axis=(0, 1))
        changed = mean + (changed - mean) * np.exp(rng.normal(0.0, 0.5 * amount))
        changed += rng.normal(0.0, 25.0 * amount)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def _mix_channels(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace each channel by a weighted mean of all three, which gives unrealistic colors."""
    weights = rng.dirichlet((0.5, 0.5, 0.5), 3).astype(np.float32)
    return np.rint(view @ weights.T).astype(np.uint8)


def _blur_or_sharpen(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blurred = cv2.GaussianBlur(np.ascontiguousarray(view), (0, 0), rng.uniform(*_BLUR_SIGMA_PX))
    if rng.random() < 0.6:
        return blurred
    return np.clip(view.astype(np.int16) * 2 - blurred, 0, 255).astype(np.uint8)


def _mix_images(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Mix two views by mixup or CutMix; return the proportion of the first one as well."""
    proportion = rng.random()
    if rng.random() < 0.5:
        weight = np.float32(proportion)
        return np.rint(weight * first + (1 - weight) * second).astype(np.uint8), proportion
    column = round(proportion * first.shape[1])
    both = np.concatenate([first[:, :column], second[:, column:]], axis=1)
    return both, column / first.shape[1]


_sampler: ViewSampler | None = None
"""The sampler of a worker process."""


@contextmanager
def prefetch_batches(
    sampler: ViewSampler, steps: range, n_processes: int
) -> Iterator[Iterator[Views]]:
    """Return an iterator of the batches of some steps, in order, as a context manager.

    Worker processes prepare the batches, or else a thread of this process. Their number does not
    change the batches.
    """
    pool: Executor
    if n_processes:
        # A forked process would inherit locks that threads of this process hold.
        pool = ProcessPoolExecutor(
            n_processes, multiprocessing.get_context("spawn"), _start_worker, (sampler,)
        )
    else:
        pool = ThreadPoolExecutor(1)
    make_batch = _sample_in_worker if n_processes else sampler.sample_batch
    pending: deque[Future[Views]] = deque()

    def iterate() -> Iterator[Views]:
        remaining = iter(steps)
        for _ in steps:
            n_free = _PREFETCHED_PER_PROCESS * max(n_processes, 1) - len(pending)
            pending.extend(pool.submit(make_batch, step) for step in islice(remaining, n_free))
            yield pending.popleft().result()

    try:
        yield iterate()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(sampler: ViewSampler) -> None:
    global _sampler
    cv2.setNumThreads(1)
    _sampler = sampler


def _sample_in_worker(step: int) -> Views:
    assert _sampler is not None, "_start_worker sets the sampler"
    return _sampler.sample_batch(step)
