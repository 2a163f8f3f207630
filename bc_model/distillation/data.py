"""The training images of the bundled model, read once into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.dataset import load_dataset
from bc_model.data.images import crop_to_field, preprocess_image, read_image
from bc_model.distillation.config import MAGNIFICATIONS
from bc_model.errors import DataError

logger = logging.getLogger("bc_model.distillation")

Measure = Callable[[np.ndarray], np.ndarray]
"""Function from images, (n, height, width, 3) uint8, to the features of the teachers, (n, d)."""


@dataclass(frozen=True)
class TrainingImages:
    """Images with known cases.

    Attributes
    ----------
    table : DataFrame
        Rows of the dataset indexes; `path` starts with the name of the dataset. The column
        `is_extra` marks images that are used for training views only.
    frames : tuple of ndarray of shape (height, width, 3), uint8
        Fields of view at their original size.
    pixels : ndarray of shape (n, height, width, 3), uint8
        Preprocessed images.
    """

    table: pd.DataFrame
    frames: tuple[np.ndarray, ...]
    pixels: np.ndarray

    @classmethod
    def read(
        cls, root: Path, dataset_names: tuple[str, ...], image_size: tuple[int, int],
        extra_names: tuple[str, ...] = (),
    ) -> TrainingImages:  # fmt: skip
        """Read the datasets in a directory.

        Parameters
        ----------
        root : Path
            Directory of the datasets.
        dataset_names : tuple of str
            Datasets of images at 100X and 200X.
        image_size : (int, int)
            Input size of the network, px.
        extra_names : tuple of str
            Datasets of further images at any magnification. Images of a case of the other datasets
            stay in its fold, images of other cases are trained in every fold.

        Raises
        ------
        DataError
            An image has no case or an unsupported magnification, a magnification is missing, or a
            case is joined with another case in only one dataset.
        """
        tables = []
        for name in (*dataset_names, *extra_names):
            rows = load_dataset(root / name).images
            paths = f"{name}/" + rows["path"]
            tables.append(rows.assign(path=paths, is_extra=name in extra_names))
        table = pd.concat(tables, ignore_index=True)
        _check_table(table[~table["is_extra"]])
        _check_extra(table)
        images = [read_image(root / path) for path in table["path"]]
        pixels = np.stack([preprocess_image(image, image_size) for image in images])
        frames = tuple(np.ascontiguousarray(crop_to_field(image)) for image in images)
        logger.info("Read %d images of %d cases", len(table), table["group"].nunique())
        return cls(table, frames, pixels)

    def select(self, mask: np.ndarray) -> TrainingImages:
        """Return the images of a mask of shape (n,), bool."""
        frames = tuple(self.frames[i] for i in np.flatnonzero(mask))
        return TrainingImages(self.table[mask].reset_index(drop=True), frames, self.pixels[mask])

    @property
    def evaluated(self) -> TrainingImages:
        """The images without the extra ones."""
        return self.select(~self.is_extra)

    @property
    def is_extra(self) -> np.ndarray:
        """Whether each image is used for training views only, shape (n,), bool."""
        return self.table["is_extra"].to_numpy(bool)

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


def _check_extra(table: pd.DataFrame) -> None:
    """Refuse extra images that the folds would not keep apart from their case."""
    n_groups = table.groupby("case")["group"].nunique()
    extra = table[table["is_extra"]]
    joined = extra[(extra["case"] == "") | extra["case"].isin(n_groups.index[n_groups > 1])]
    if len(joined):
        raise DataError(
            f"The extra image {joined['path'].iloc[0]} has no case, or its case is joined with "
            "another case in only one dataset. Expected an official name and the same groups in "
            "all datasets. Remove the image."
        )
