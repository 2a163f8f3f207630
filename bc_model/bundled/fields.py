"""What the model in the box learns from: fields cut from frames, turned, restained and mixed.

Stain and case are what a network learns by heart here, so every class and magnification, and every
case within them, comes as often as the others, and no field comes in its own colours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from bc_model.bundled.recipe import FRAME_PX, Recipe
from bc_model.data.manifest import read_manifest
from bc_model.data.names import CLASSES
from bc_model.data.pictures import read_picture
from bc_model.data.stain import restain
from bc_model.errors import DataError

# Sides of a crop, px of the frame. At 100X every other crop shows as much tissue as one at 200X.
_CROP_PX = {100: ((140, 280), (240, 460)), 200: ((120, 230),)}
_ASPECT = (0.85, 1.18)
_BLUR_SIGMA_PX = (0.3, 1.2)
_BLURRED, _ALIASED = 0.3, 0.15
"""Shares of the crops: public extracts differ in how they were made smaller."""


def read_fields(
    folders: list[Path], *, progress: Callable[[int, int], None] | None = None
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Read every picture of several sets at one physical scale.

    Parameters
    ----------
    folders : list of Path
        Official trees at 100X or 200X.
    progress : callable, optional
        Called with (pictures done, pictures in all).

    Returns
    -------
    table : DataFrame
        The rows of the manifests; `path` begins with the name of its set.
    frames : list of ndarray of shape (height, width, 3), uint8
        In `FRAME_PX` of their magnification.

    Raises
    ------
    DataError
        A picture without a case, or at another magnification.
    """
    tables = []
    for folder in folders:
        pictures = read_manifest(folder).pictures
        tables.append(pictures.assign(file=[folder / p for p in pictures["path"]],
                                      path=f"{folder.name}/" + pictures["path"]))  # fmt: skip
    table = pd.concat(tables, ignore_index=True)
    strange = table[~table["magnification"].isin(FRAME_PX) | (table["case"] == "")]
    if len(strange):
        raise DataError(
            f"The model in the box learns from cases at {' and '.join(map(str, FRAME_PX))} times, "
            f"but {strange['path'].iloc[0]} names neither ({len(strange)} pictures in all): give "
            "official BreakHis trees of these magnifications."
        )
    torn = table.groupby("case")["group"].nunique()
    if (torn > 1).any():
        raise DataError(
            f"The case {torn.idxmax()} is joined with another one in one set alone, by a picture "
            "that both hold: leave that picture out, or no split could keep them together."
        )
    frames = []
    for done, (file, magnification) in enumerate(
        zip(table["file"], table["magnification"], strict=True), start=1
    ):
        frames.append(
            cv2.resize(read_picture(file), FRAME_PX[magnification], interpolation=cv2.INTER_AREA)
        )
        if progress:
            progress(done, len(table))
    return table.drop(columns="file"), frames


class FieldSampler:
    """Batches of crops; each follows from the seed and the number of its step alone.

    Parameters
    ----------
    table : DataFrame
        Rows of `read_fields` to learn from.
    frames : list of ndarray
        Their frames, in the same order.
    subtypes : list of str
        In the order of their one-hot columns.
    recipe : Recipe
    seed : int
    """

    def __init__(
        self,
        table: pd.DataFrame,
        frames: list[np.ndarray],
        subtypes: list[str],
        recipe: Recipe,
        seed: int,
    ) -> None:
        self._frames, self._recipe, self._seed = frames, recipe, seed
        self._magnification = table["magnification"].to_numpy(int)
        classes = table["class"].to_numpy(str)
        self._labels = np.eye(len(CLASSES), dtype=np.float32)[
            [CLASSES.index(name) for name in classes]
        ]
        self._subtypes = np.eye(len(subtypes), dtype=np.float32)[
            [subtypes.index(name) for name in table["subtype"]]
        ]
        pools: dict[tuple[int, str], dict[str, list[int]]] = {}
        of = zip(self._magnification, classes, table["case"], strict=True)
        for index, (magnification, name, case) in enumerate(of):
            pools.setdefault((magnification, name), {}).setdefault(case, []).append(index)
        self._pools = [list(cases.values()) for _, cases in sorted(pools.items())]

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the batch of a step.

        Returns
        -------
        pixels : ndarray of shape (n, side, side, 3), float32
            In [0, 255].
        labels, subtypes : ndarray of shape (n, classes), float32
            Mixed as the pixels are; rows add up to 1.
        """
        rng = np.random.default_rng([self._seed, step])
        recipe = self._recipe
        index = self._draw(rng)
        pixels = np.stack([self._crop(i, recipe.side_px, rng) for i in index])
        labels, subtypes = self._labels[index], self._subtypes[index]
        if recipe.mixup:
            share = rng.beta(recipe.mixup, recipe.mixup, len(index)).astype(np.float32)
            order = rng.permutation(len(index))
            pixels, labels, subtypes = (
                _mix(x, x[order], share) for x in (pixels, labels, subtypes)
            )
        return pixels, labels, subtypes

    def draw(self, number: int) -> np.ndarray:
        """Return which pictures a batch of whole ones has, shape (n,), drawn as those of crops."""
        return self._draw(np.random.default_rng([self._seed, number, 1]))

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a case of each pool in turn, so that a batch holds all, then a picture of it."""
        index = []
        for position in range(self._recipe.batch_size):
            cases = self._pools[position % len(self._pools)]
            pictures = cases[rng.integers(len(cases))]
            index.append(pictures[rng.integers(len(pictures))])
        return np.array(index)

    def _crop(self, index: int, side_px: int, rng: np.random.Generator) -> np.ndarray:
        frame = self._frames[index]
        ranges = _CROP_PX[self._magnification[index]]
        extent = rng.uniform(*ranges[rng.integers(len(ranges))])
        aspect = rng.uniform(*_ASPECT)
        height = int(min(frame.shape[0], extent * aspect**0.5))
        width = int(min(frame.shape[1], extent / aspect**0.5))
        y0 = rng.integers(frame.shape[0] - height + 1)
        x0 = rng.integers(frame.shape[1] - width + 1)
        how = cv2.INTER_AREA if extent > side_px else cv2.INTER_LINEAR
        if rng.random() < _ALIASED:
            how = cv2.INTER_NEAREST
        crop = frame[y0 : y0 + height, x0 : x0 + width]
        crop = cv2.resize(crop, (side_px, side_px), interpolation=how)
        crop = np.rot90(crop, int(rng.integers(4)))
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < _BLURRED:
            crop = cv2.GaussianBlur(
                np.ascontiguousarray(crop), (0, 0), rng.uniform(*_BLUR_SIGMA_PX)
            )
        jitter = self._recipe.stain_jitter
        return restain(crop, rng.uniform(1 - jitter, 1 + jitter, 3), rng.uniform(-0.013, 0.013, 3))


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (first.ndim - 1))
    mixed: np.ndarray = share * first + (1.0 - share) * second
    return mixed
