"""The training images of the bundled model, read once into memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.dataset import load_dataset
from bc_model.data.pipeline import load_pixels
from bc_model.distillation.config import MAGNIFICATIONS
from bc_model.distillation.features import extract_features
from bc_model.errors import DataError

logger = logging.getLogger("bc_model.distillation")


@dataclass(frozen=True)
class TrainingImages:
    """Images with known cases.

    Attributes
    ----------
    table : DataFrame
        Rows of the dataset indexes; `path` starts with the name of the dataset.
    pixels : ndarray of shape (n, height, width, 3), uint8
        Preprocessed images.
    features : ndarray of shape (n, 264), float32
        Hand-crafted features.
    """

    table: pd.DataFrame
    pixels: np.ndarray
    features: np.ndarray

    @classmethod
    def read(
        cls, root: Path, dataset_names: tuple[str, ...], image_size: tuple[int, int]
    ) -> TrainingImages:
        """Read the datasets in a directory.

        Raises
        ------
        DataError
            An image has no case or an unsupported magnification, or a magnification is missing.
        """
        tables = []
        for name in dataset_names:
            images = load_dataset(root / name).images
            tables.append(images.assign(path=f"{name}/" + images["path"]))
        table = pd.concat(tables, ignore_index=True)
        _check_table(table)
        pixels = load_pixels(root, list(table["path"]), image_size)
        logger.info("Read %d images of %d cases", len(table), table["group"].nunique())
        return cls(table, pixels, extract_features(pixels))

    def select(self, mask: np.ndarray) -> TrainingImages:
        """Return the images of a mask of shape (n,), bool."""
        return TrainingImages(
            self.table[mask].reset_index(drop=True), self.pixels[mask], self.features[mask]
        )

    @property
    def malignant(self) -> np.ndarray:
        """Whether each image is malignant, shape (n,), bool."""
        return (self.table["class"] == "malignant").to_numpy(bool)

    @property
    def case(self) -> np.ndarray:
        """The case of each image, shape (n,), str."""
        return self.table["case"].to_numpy(str)


def _check_table(table: pd.DataFrame) -> None:
    supported = " and ".join(f"{value}X" for value in MAGNIFICATIONS)
    invalid = table[~table["magnification"].isin(MAGNIFICATIONS) | (table["case"] == "")]
    if len(invalid):
        raise DataError(
            f"{len(invalid)} images cannot be used, first {invalid['path'].iloc[0]}. Expected a "
            f"case and a magnification of {supported} in each file name. Use official BreakHis "
            "datasets of these magnifications."
        )
    if missing := sorted(set(MAGNIFICATIONS) - set(table["magnification"])):
        raise DataError(
            f"No image at {missing[0]}X. Expected images at {supported}. Add the missing dataset."
        )
    n_groups = table.groupby("case")["group"].nunique()
    if (n_groups > 1).any():
        raise DataError(
            f"Case {n_groups.idxmax()} is joined with another case in only one dataset. Expected "
            "the same groups in all datasets. Remove the image that both cases contain."
        )
