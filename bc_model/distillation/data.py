"""The pictures that the model in the box learns from, read once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.dataset import read_dataset
from bc_model.data.pipeline import load_pixels
from bc_model.distillation.config import MAGNIFICATIONS
from bc_model.distillation.features import extract_features
from bc_model.errors import DataError

logger = logging.getLogger("bc_model.distillation")


@dataclass(frozen=True)
class TrainingImages:
    """Pictures of cases.

    Attributes
    ----------
    table : DataFrame
        The rows of the manifests; `path` begins with the name of its set.
    pixels : ndarray of shape (n, height, width, 3), uint8
        As they are served.
    descriptors : ndarray of shape (n, 264), float32
        Of these.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    features: np.ndarray

    @classmethod
    def read(cls, root: Path, sets: tuple[str, ...], image_size: tuple[int, int]) -> TrainingImages:
        """Read the sets under a folder.

        Raises
        ------
        DataError
            A picture without a case, or at another magnification; or none at one of them.
        """
        tables = []
        for name in sets:
            images = read_dataset(root / name).images
            tables.append(images.assign(path=f"{name}/" + images["path"]))
        table = pd.concat(tables, ignore_index=True)
        _require_cases(table)
        pixels = load_pixels(root, list(table["path"]), image_size)
        logger.info("%d pictures of %d cases", len(table), table["group"].nunique())
        return cls(table, pixels, extract_features(pixels))

    def select(self, chosen: np.ndarray) -> TrainingImages:
        """Return the chosen pictures: shape (n,), bool."""
        return TrainingImages(
            self.table[chosen].reset_index(drop=True), self.pixels[chosen], self.features[chosen]
        )

    @property
    def malignant(self) -> np.ndarray:
        """Which pictures are malignant, shape (n,), bool."""
        return (self.table["class"] == "malignant").to_numpy(bool)


def _require_cases(table: pd.DataFrame) -> None:
    unusual = table[~table["magnification"].isin(MAGNIFICATIONS) | (table["case"] == "")]
    if len(unusual):
        raise DataError(
            f"The model in the box learns from cases at {' and '.join(map(str, MAGNIFICATIONS))} "
            f"times, but {unusual['path'].iloc[0]} names neither ({len(unusual)} pictures in all): "
            "give official BreakHis trees of these magnifications."
        )
    if missing := set(MAGNIFICATIONS) - set(table["magnification"]):
        raise DataError(
            f"The model in the box learns from {' and '.join(map(str, MAGNIFICATIONS))} times, but "
            f"no picture is at {' or '.join(map(str, sorted(missing)))}: give both sets."
        )
    torn = table.groupby("case")["group"].nunique()
    if (torn > 1).any():
        raise DataError(
            f"The case {torn.idxmax()} is joined with another one in one set alone, by a picture "
            "that both hold: leave that picture out, or no split could keep them together."
        )
