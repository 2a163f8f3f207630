"""What the model in the box learns from: crops, recoloured, mirrored and mixed, and what they show.

Descriptors are computed anew of every view, so a view may look like nothing that a laboratory ever
stained and still has an answer to learn: colours are changed widely here.
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
from bc_model.data.stain import restain
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import extract_features

_AS_IT_IS = 0.4
_ASPECT = (0.85, 1.18)
_RECOLOURED, _BLURRED_OR_SHARP, _BLUR_SIGMA_PX = 0.7, 0.2, (0.4, 1.2)


class Views(NamedTuple):
    """A batch.

    Attributes
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
    descriptors : ndarray of shape (n, 264), float32
        As `describe` returns them.
    labels : ndarray of shape (n, classes), float32
        Mixed as the pixels are; rows add up to 1.
    subtypes : ndarray of shape (n, subtypes), float32
        Likewise.
    """

    pixels: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    subtypes: np.ndarray


class ViewSampler:
    """Batches of views; each follows from the seed and the number of its step alone.

    Every class and magnification, and every case within them, comes as often as the others, among
    what is mixed in as well.

    Parameters
    ----------
    source : Source
        Pictures to learn from.
    recipe : Recipe
    seed : int

    Attributes
    ----------
    subtypes : list of str
        In the order of their one-hot columns.
    """

    def __init__(self, source: TrainingImages, config: DistillationConfig, seed: int) -> None:
        self._pixels, self._recipe, self._seed = source.pixels, config, seed
        table = source.table
        classes = table["class"].to_numpy(str)
        self._labels = _one_hot(classes, list(CLASSES))
        self.subtypes = sorted(set(table["subtype"]))
        self._subtypes = _one_hot(table["subtype"].to_numpy(str), self.subtypes)
        pools: dict[tuple[int, str], dict[str, list[int]]] = {}
        of = zip(table["magnification"], classes, table["case"], strict=True)
        for index, (magnification, name, case) in enumerate(of):
            pools.setdefault((int(magnification), name), {}).setdefault(case, []).append(index)
        self._pools = [list(cases.values()) for _, cases in sorted(pools.items())]

    def batch(self, step: int) -> Views:
        """Return the batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        first, second = self._draw(rng), rng.permutation(self._draw(rng))
        views, proportions = [], []
        for one, other in zip(first, second, strict=True):
            view, proportion = self._view(one, rng), 1.0
            if rng.random() < self._recipe.mixed:
                view, proportion = _mix(view, self._view(other, rng), rng)
            views.append(view)
            proportions.append(proportion)
        of_first = np.array(proportions, np.float32)[:, None]
        labels, subtypes = (
            of_first * told[first] + (1.0 - of_first) * told[second]
            for told in (self._labels, self._subtypes)
        )
        pixels = np.stack(views)
        return Views(pixels, extract_features(pixels), labels, subtypes)

    def draw(self, number: int) -> np.ndarray:
        """Return which pictures a batch of whole ones has, shape (n,), drawn as those of views."""
        return self._draw(np.random.default_rng([self._seed, number, 1]))

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a case of each pool in turn, so that a batch holds all, then a picture of it."""
        index = []
        for position in range(self._recipe.batch_size):
            cases = self._pools[position % len(self._pools)]
            images = cases[rng.integers(len(cases))]
            index.append(images[rng.integers(len(images))])
        return np.array(index)

    def _view(self, index: int, rng: np.random.Generator) -> np.ndarray:
        view = _crop(self._pixels[index], self._recipe.view_size, self._recipe.zoom, rng)
        if rng.random() < 0.5:
            view = view[:, ::-1]
        if rng.random() < 0.5:
            view = view[::-1]
        if rng.random() < _RECOLOURED:
            view = _recolour(view, self._recipe.recolouring, rng)
        if rng.random() < self._recipe.unusual:
            view = _mix_channels(view, rng)
        if rng.random() < _BLURRED_OR_SHARP:
            view = _blur_or_sharpen(view, rng)
        return view


def _crop(
    image: np.ndarray,
    size: tuple[int, int],
    range_of_zoom: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    zoom, aspect = 1.0, 1.0
    if rng.random() >= _AS_IT_IS:
        zoom, aspect = rng.uniform(*range_of_zoom), rng.uniform(*_ASPECT)
    height = min(image.shape[0], round(size[0] * zoom))
    width = min(image.shape[1], round(size[1] * zoom * aspect))
    y0 = rng.integers(image.shape[0] - height + 1)
    x0 = rng.integers(image.shape[1] - width + 1)
    crop = image[y0 : y0 + height, x0 : x0 + width]
    if crop.shape[:2] == size:
        return crop
    how = cv2.INTER_AREA if zoom > 1.0 else cv2.INTER_LINEAR
    return cv2.resize(crop, size[::-1], interpolation=how)


def _recolour(view: np.ndarray, proportion: float, rng: np.random.Generator) -> np.ndarray:
    """Change the stains, half the time the gamma too, at times contrast and brightness."""
    changed = restain(
        view,
        rng.uniform(1.0 - proportion, 1.0 + proportion, 3),
        rng.uniform(-proportion / 8, proportion / 8, 3),
    )
    if rng.random() < 0.5:
        gamma = np.exp(rng.normal(0.0, 0.35 * proportion, 3))
        changed = 255.0 * (changed / 255.0) ** gamma
    if rng.random() < 0.3:
        mean = changed.mean(axis=(0, 1))
        changed = mean + (changed - mean) * np.exp(rng.normal(0.0, 0.5 * proportion))
        changed += rng.normal(0.0, 25.0 * proportion)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def _mix_channels(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make each channel a mean of all three: colours that no stain has."""
    proportions = rng.dirichlet((0.5, 0.5, 0.5), 3).astype(np.float32)
    return np.rint(view @ proportions.T).astype(np.uint8)


def _blur_or_sharpen(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    blurred = cv2.GaussianBlur(np.ascontiguousarray(view), (0, 0), rng.uniform(*_BLUR_SIGMA_PX))
    if rng.random() < 0.6:
        return blurred
    return np.clip(view.astype(np.int16) * 2 - blurred, 0, 255).astype(np.uint8)


def _mix(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Blend two views or put them side by side; return the share of the first one too."""
    proportion = rng.random()
    if rng.random() < 0.5:
        weight = np.float32(proportion)
        return np.rint(weight * first + (1 - weight) * second).astype(np.uint8), proportion
    column = round(proportion * first.shape[1])
    both = np.concatenate([first[:, :column], second[:, column:]], axis=1)
    return both, column / first.shape[1]


def _one_hot(values: np.ndarray, names: list[str]) -> np.ndarray:
    return np.eye(len(names), dtype=np.float32)[[names.index(value) for value in values]]


_AHEAD = 4
"""Batches that wait, for each process that makes them."""

_sampler: ViewSampler | None = None
"""Of a process that makes batches."""


@contextmanager
def batches_ahead(sampler: ViewSampler, steps: range, processes: int) -> Iterator[Iterator[Views]]:
    """Give the batches of some steps, in order and the same ones however many processes make them.

    Parameters
    ----------
    sampler : ViewSampler
    steps : range
    processes : int
        0 makes them in a thread of this process.
    """
    pool: Executor
    if processes:
        # A forked child would inherit locks that threads of this process hold.
        pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _begin, (sampler,)
        )
    else:
        pool = ThreadPoolExecutor(1)
    make = _make if processes else sampler.batch
    waiting: deque[Future[Views]] = deque()

    def in_order() -> Iterator[Views]:
        to_ask = iter(steps)
        for _ in steps:
            free = _AHEAD * max(processes, 1) - len(waiting)
            waiting.extend(pool.submit(make, step) for step in islice(to_ask, free))
            yield waiting.popleft().result()

    try:
        yield in_order()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(sampler: ViewSampler) -> None:
    global _sampler
    cv2.setNumThreads(1)
    _sampler = sampler


def _make(step: int) -> Views:
    assert _sampler is not None, "a process begins with its sampler"
    return _sampler.batch(step)
