"""The training views of the bundled model, made and measured once for all networks.

The features of a view do not depend on the labels, so networks for different folds can share views.
Each network uses the views of its own training cases only.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

from bc_model.distillation.augmentation import (
    View,
    degrade,
    mix_views,
    sample_variants,
    sample_view,
)
from bc_model.distillation.config import MAGNIFICATIONS, DistillationConfig
from bc_model.distillation.data import Measure, TrainingImages
from bc_model.distillation.features import FeatureExtractor
from bc_model.distillation.folds import case_folds
from bc_model.utils.arrays import read_npz
from bc_model.utils.io import write_bytes_atomic
from bc_model.utils.processor import usable_cores
from bc_model.utils.serialization import to_json

logger = logging.getLogger("bc_model.distillation")

BACKGROUND_CELL_PX = 8
"""Side of a cell of the background map of a view, px."""

_CHUNK = 500
_P_MAIN = 0.8
"""Proportion of the views from images at the magnifications of the model."""

_VIEW_OPTIONS = (
    "image_size", "view_size", "n_views", "mpp_range", "serving_scale_share", "stain_jitter",
    "channel_mixing", "image_mixing", "degradation", "brightness", "blur_px", "jpeg_quality",
    "n_variants", "n_folds", "seed", "version",
)  # fmt: skip


@dataclass(frozen=True)
class ViewPool:
    """Training views and their features.

    Attributes
    ----------
    pixels : ndarray of shape (n_views, height, width, 3), uint8
    features : ndarray of shape (n_views, d), float32
        Features of the teachers, of each view before its degradation.
    background : ndarray of shape (n_views, rows, columns), uint8
        Proportion of background in cells of 8 x 8 px, times 255.
    mpp : ndarray of shape (n_views,), float32
        Scale, µm per pixel; NaN for views without tissue and of two images.
    image, other : ndarray of shape (n_views,), int
        Rows of the source image, and of the image that is mixed with it, in the table of the
        training images; equal without mixing. Both are in the same fold of cases.
    proportion : ndarray of shape (n_views,), float32
        Proportion of the source image.
    variants : ndarray of shape (n, 1 + n_variants, d), float32
        Features of each complete image and its variants, from `sample_variants`.
    """

    pixels: np.ndarray
    features: np.ndarray
    background: np.ndarray
    mpp: np.ndarray
    image: np.ndarray
    other: np.ndarray
    proportion: np.ndarray
    variants: np.ndarray

    @classmethod
    def load_or_make(
        cls, source: TrainingImages, config: DistillationConfig, work_dir: Path,
        n_processes: int = 0, make_measure: Callable[[], Measure] | None = None,
    ) -> ViewPool:  # fmt: skip
        """Read the views from a work directory, or make those that are missing.

        Parameters
        ----------
        source : TrainingImages
        config : DistillationConfig
        work_dir : Path
            Directory of intermediate results, with the networks of `write_networks`.
        n_processes : int
            Number of worker processes; 0 makes the views in this process.
        make_measure : callable, optional
            Returns the function that measures features; default `FeatureExtractor`.
        """
        make_measure = make_measure or partial(FeatureExtractor, work_dir, 1)
        folder = work_dir / f"views-{_pool_key(source, config)}"
        folder.mkdir(parents=True, exist_ok=True)
        n_chunks = -(-config.n_views // _CHUNK)
        tasks = [("views", number) for number in range(n_chunks)]
        tasks += [("variants", start) for start in range(0, len(source.table), _CHUNK)]
        missing = [task for task in tasks if not _file(folder, task).is_file()]
        # Each worker process receives a copy of the images.
        maker = _Maker(replace(source, pixels=source.pixels[:0]), config, folder)
        for done, _ in enumerate(_map(maker, missing, n_processes, make_measure), start=1):
            if done % 10 == 0:
                logger.info("Made %d of %d parts of the training views", done, len(missing))
        parts = [read_npz(_file(folder, task)) for task in tasks]
        views, variants = parts[:n_chunks], parts[n_chunks:]
        return cls(
            **{key: np.concatenate([part[key] for part in views]) for key in views[0]},
            variants=np.concatenate([part["variants"] for part in variants]),
        )


class ViewBatch(NamedTuple):
    """Pixels and view numbers of one training batch.

    Attributes
    ----------
    pixels : ndarray of shape (n, height, width, 3), uint8
    background : ndarray of shape (n, rows, columns), float32
        As in the pool, in [0, 1].
    views : ndarray of shape (n,), int
        Numbers of the views.
    """

    pixels: np.ndarray
    background: np.ndarray
    views: np.ndarray


class ViewSampler:
    """Sample batches of views; a batch depends only on the seed and its step.

    Classes alternate. The cases of a class at a magnification are equally frequent.

    Parameters
    ----------
    pool : ViewPool
    table : DataFrame
        Table of the training images of the pool.
    is_train : ndarray of shape (n,), bool
        Images whose views are used.
    batch_size, seed : int
    """

    def __init__(
        self, pool: ViewPool, table: pd.DataFrame, is_train: np.ndarray, batch_size: int, seed: int
    ) -> None:
        self._pool, self._batch_size, self._seed = pool, batch_size, seed
        by_image: dict[int, list[int]] = {}
        for view, (image, other) in enumerate(zip(pool.image, pool.other, strict=True)):
            if is_train[image] and is_train[other]:
                by_image.setdefault(int(image), []).append(view)
        self._classes = []
        for _, rows in table.loc[sorted(by_image)].groupby("class"):
            strata = _strata(rows)
            views = [
                [np.concatenate([by_image[image] for image in images]) for images in cases]
                for cases, _ in strata
            ]
            proportions = np.array([proportion for _, proportion in strata])
            self._classes.append((views, proportions / proportions.sum()))
        self.n_views = sum(map(len, by_image.values()))

    def sample_batch(self, step: int) -> ViewBatch:
        """Return the batch of a step, with random flips."""
        rng = np.random.default_rng([self._seed, step])
        index = []
        for position in range(self._batch_size):
            views, proportions = self._classes[position % len(self._classes)]
            cases = views[rng.choice(len(views), p=proportions)]
            case = cases[rng.integers(len(cases))]
            index.append(case[rng.integers(len(case))])
        chosen = np.array(index)
        pixels = self._pool.pixels[chosen]
        background = self._pool.background[chosen].astype(np.float32) / 255.0
        for i, (across, down) in enumerate(rng.random((len(chosen), 2)) < 0.5):
            if across:
                pixels[i], background[i] = pixels[i, :, ::-1].copy(), background[i, :, ::-1].copy()
            if down:
                pixels[i], background[i] = pixels[i, ::-1].copy(), background[i, ::-1].copy()
        return ViewBatch(pixels, background, chosen)


def _strata(rows: pd.DataFrame) -> list[tuple[list[list[int]], float]]:
    """Return image rows by magnification and case, with the proportion of each magnification."""
    strata, magnifications = [], rows["magnification"].astype(int)
    is_main = magnifications.isin(MAGNIFICATIONS)
    n_main, n_other = (magnifications[mask].nunique() for mask in (is_main, ~is_main))
    for magnification, images in rows.groupby(magnifications):
        cases = [list(case.index) for _, case in images.groupby("case")]
        main = magnification in MAGNIFICATIONS
        proportion = _P_MAIN / n_main if main else (1.0 - _P_MAIN) / n_other
        strata.append((cases, proportion))
    return strata


@dataclass
class _Maker:
    """Makes one part of the pool and writes it to its file."""

    source: TrainingImages
    config: DistillationConfig
    folder: Path

    def __call__(self, task: tuple[str, int], measure: Measure) -> None:
        kind, number = task
        arrays = (
            self._views(number, measure) if kind == "views" else self._variants(number, measure)
        )
        stream = BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        write_bytes_atomic(_file(self.folder, task), stream.getvalue())

    def _views(self, number: int, measure: Measure) -> dict[str, Any]:
        config, table = self.config, self.source.table
        rng = np.random.default_rng([config.seed, number])
        classes = [_strata(rows) for _, rows in table.groupby("class")]
        fold = case_folds(table, config).assignment
        views, pixels, rows = [], [], []
        for position in range(min(_CHUNK, config.n_views - number * _CHUNK)):
            image = other = _sample_image(classes[position % len(classes)], rng)
            view, proportion = self._view(image, rng), 1.0
            if rng.random() < config.image_mixing:
                # An image of another fold would belong to the test of one of the networks.
                other = int(rng.choice(np.flatnonzero(fold == fold[image])))
                view, proportion = mix_views(view, self._view(other, rng), rng)
            views.append(view)
            pixels.append(degrade(view.pixels, view.frame_width_px, config, rng))
            rows.append((image, other, proportion))
        image_rows, other_rows, proportions = np.array(rows).T
        size = tuple(side // BACKGROUND_CELL_PX for side in config.view_size)
        background = [
            cv2.resize(mask * np.float32(255), size[::-1], interpolation=cv2.INTER_AREA)
            for mask in (view.background for view in views)
        ]
        return {
            "pixels": np.stack(pixels),
            "features": measure(np.stack([view.pixels for view in views])),
            "background": np.rint(np.stack(background)).astype(np.uint8),
            "mpp": np.array([view.mpp for view in views], np.float32),
            "image": image_rows.astype(int),
            "other": other_rows.astype(int),
            "proportion": proportions.astype(np.float32),
        }

    def _view(self, image: int, rng: np.random.Generator) -> View:
        magnification = int(self.source.table["magnification"].iloc[image])
        return sample_view(self.source.frames[image], magnification, self.config, rng)

    def _variants(self, start: int, measure: Measure) -> dict[str, Any]:
        variants = []
        for image in range(start, min(start + _CHUNK, len(self.source.frames))):
            rng = np.random.default_rng([self.config.seed, image, 1])
            frame = self.source.frames[image]
            variants.append(measure(sample_variants(frame, self.config, rng).pixels))
        return {"variants": np.stack(variants)}


def _sample_image(strata: list[tuple[list[list[int]], float]], rng: np.random.Generator) -> int:
    """Sample a magnification, one of its cases, and an image of the case."""
    proportions = np.array([proportion for _, proportion in strata])
    cases = strata[rng.choice(len(strata), p=proportions / proportions.sum())][0]
    case = cases[rng.integers(len(cases))]
    return case[rng.integers(len(case))]


def _file(folder: Path, task: tuple[str, int]) -> Path:
    return folder / f"{task[0]}-{task[1]:05d}.npz"


def _pool_key(source: TrainingImages, config: DistillationConfig) -> str:
    options = {name: value for name, value in to_json(config).items() if name in _VIEW_OPTIONS}
    lines = [json.dumps(options, sort_keys=True), *source.table["path"], *source.table["sha256"]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


_maker: _Maker | None = None
_measure: Measure | None = None
"""The task of a worker process."""


def _map(
    maker: _Maker, tasks: list[tuple[str, int]], n_processes: int,
    make_measure: Callable[[], Measure],
) -> Iterator[None]:  # fmt: skip
    if not tasks:
        return
    if not n_processes:
        measure = make_measure()
        for task in tasks:
            maker(task, measure)
            yield
        return
    # A forked process would inherit locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(n_processes, usable_cores()), context, _start_worker, (maker, make_measure)
    ) as pool:
        results: Iterable[None] = pool.map(_run_in_worker, tasks)
        yield from results


def _start_worker(maker: _Maker, make_measure: Callable[[], Measure]) -> None:
    global _maker, _measure
    cv2.setNumThreads(1)
    _maker, _measure = maker, make_measure()


def _run_in_worker(task: tuple[str, int]) -> None:
    assert _maker is not None, "_start_worker sets the task"
    assert _measure is not None, "_start_worker sets the task"
    _maker(task, _measure)
