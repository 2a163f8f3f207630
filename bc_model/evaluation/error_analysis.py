"""Error analysis: incorrect and uncertain predictions, and the nearest training images.

The results are data with paths; the app and the reports show the images.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.breakhis import CLASSES
from bc_model.data.images import Decode, decode_image
from bc_model.errors import SplitError
from bc_model.evaluation.features import FeatureTable, cosine_distances
from bc_model.evaluation.metrics import log_losses
from bc_model.evaluation.subgroups import infer_subtypes
from bc_model.inference.batching import Progress, predict_files
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine

TRAINING_FEATURES_FILE = "training_features.npz"


@dataclass(frozen=True)
class GalleryImage:
    """One image of an error gallery; its path is relative to the dataset.

    An unknown case is empty, an unknown subtype is 'unknown'.
    """

    path: str
    case: str
    subtype: str
    magnification: int | None
    class_name: str
    predicted_class: str
    prob_malignant: float

    @property
    def is_correct(self) -> bool:
        """Whether the predicted class is the true class."""
        return self.predicted_class == self.class_name


@dataclass(frozen=True)
class CaseErrors:
    """The incorrectly predicted images of one case, the most confident errors first.

    The case is empty for a single image of an unknown case.
    """

    case: str
    class_name: str
    n_incorrect: int
    n_images: int
    images: tuple[GalleryImage, ...]


@dataclass(frozen=True)
class ErrorGallery:
    """Images for a review of the predictions.

    The cases with errors are in descending order of their most confident error. The most and the
    least confident images are from as many cases as possible.
    """

    errors: tuple[CaseErrors, ...]
    most_confident: tuple[GalleryImage, ...]
    least_confident: tuple[GalleryImage, ...]

    @property
    def images(self) -> tuple[GalleryImage, ...]:
        """All images of the gallery, each once."""
        images = [image for case in self.errors for image in case.images]
        images += [*self.most_confident, *self.least_confident]
        return tuple({image.path: image for image in images}.values())


@dataclass(frozen=True)
class Neighbor:
    """A training image with similar features; `distance` is 1 - cosine of the features."""

    path: str
    case: str
    class_name: str
    distance: float


def build_error_gallery(
    predictions: pd.DataFrame,
    *,
    threshold: float,
    n_cases: int = 12,
    per_case: int = 3,
    n_certain: int = 12,
) -> ErrorGallery:
    """Return the images for a review of the predictions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Result of `check_predictions`.
    threshold : float
        Lowest probability at which an image is predicted malignant.
    n_cases, per_case : int
        Maximum numbers of cases with errors and of images of each case.
    n_certain : int
        Maximum numbers of most and of least confident images.
    """
    malignant = (predictions["class"] == "malignant").to_numpy(dtype=bool)
    prob = predictions["prob_malignant"].to_numpy(dtype=float)
    case = predictions["case"]
    table = predictions.assign(
        subtype=infer_subtypes(predictions),
        predicted_class=np.where(prob >= threshold, CLASSES[1], CLASSES[0]),
        loss=log_losses(malignant, prob),
        certainty=np.abs(prob - 0.5),
        distance=np.abs(prob - threshold),
        # An image of an unknown case is a group.
        group=case.where(case != "", "\0" + predictions["path"]) + predictions["class"],
    )
    incorrect = table[table["predicted_class"] != table["class"]]
    incorrect = incorrect.sort_values(["loss", "path"], ascending=[False, True])
    n_images = table.groupby("group").size()
    errors = [
        CaseErrors(
            case=str(rows["case"].iloc[0]),
            class_name=str(rows["class"].iloc[0]),
            n_incorrect=len(rows),
            n_images=int(n_images[group]),
            images=_gallery_images(rows.head(per_case)),
        )
        for group, rows in incorrect.groupby("group", sort=False)
    ]
    by_certainty = table.sort_values(["certainty", "path"], ascending=[False, True])
    return ErrorGallery(
        errors=tuple(errors[:n_cases]),
        most_confident=_spread_over_cases(by_certainty, n_certain),
        least_confident=_spread_over_cases(table.sort_values(["distance", "path"]), n_certain),
    )


def compute_training_features(
    engine: Engine,
    root: Path,
    split: pd.DataFrame,
    directory: Path,
    *,
    progress: Progress | None = None,
    decode: Decode = decode_image,
) -> FeatureTable:
    """Return the features of the training images, from the file of the run if it is valid.

    Parameters
    ----------
    engine : Engine
        Engine of the model.
    root, directory : Path
        Directories of the dataset and of the stored features. The latter is created if necessary.
    split : pandas.DataFrame
        Split that the model was trained with.
    progress : callable, optional
        Called with the numbers of predicted images and of all images.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file, such as `DecodePool.decode`.

    Raises
    ------
    SplitError, ImageError
        The training subset is empty, or an image cannot be read. No file is written.
    """
    rows, key = _training_rows(engine.bundle, split)
    path = Path(directory) / TRAINING_FEATURES_FILE
    features = FeatureTable.load(path, key)
    if features is None:
        predicted = predict_files(
            engine, root, list(rows["path"]), progress=progress, decode=decode
        )
        features = FeatureTable.of(rows, predicted)
        features.save(path, key)
    return features


def read_training_features(
    bundle: Bundle, split: pd.DataFrame, directory: Path
) -> FeatureTable | None:
    """Return the stored features of the training images; None without a valid file."""
    _, key = _training_rows(bundle, split)
    return FeatureTable.load(Path(directory) / TRAINING_FEATURES_FILE, key)


def find_neighbors(
    images: Sequence[GalleryImage],
    engine: Engine,
    root: Path,
    table: FeatureTable,
    *,
    count: int = 3,
    decode: Decode = decode_image,
) -> dict[str, tuple[Neighbor, ...]]:
    """Return the nearest training images of gallery images.

    Parameters
    ----------
    images : sequence of GalleryImage
        Images of an error gallery.
    engine, table : Engine, FeatureTable
        Engine of the model, and result of `compute_training_features`.
    root : Path
        Directory of the dataset.
    count : int, default=3
        Maximum number of neighbors of each image, from as many cases.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file, such as `DecodePool.decode`.

    Returns
    -------
    dict of str to tuple of Neighbor
        Neighbors by path of the image, the nearest first.
    """
    if not images:
        return {}
    paths = [image.path for image in images]
    features = predict_files(engine, root, paths, decode=decode).features
    cases = np.array([image.case for image in images])
    neighbors = find_nearest(features, cases, np.array(paths), table, count=count)
    return dict(zip(paths, neighbors, strict=True))


def find_nearest(
    features: np.ndarray, case: np.ndarray, path: np.ndarray, table: FeatureTable, *, count: int = 3
) -> list[tuple[Neighbor, ...]]:
    """Return the nearest images of other cases for each image, at most one per case."""
    distances = cosine_distances(features, table.features)
    is_own = (case[:, None] == table.case[None]) & (case[:, None] != "")
    distances[is_own | (path[:, None] == table.path[None])] = np.inf
    neighbors = []
    for row in distances:
        nearest: dict[str, Neighbor] = {}
        for k in np.argsort(row, kind="stable"):
            if len(nearest) == count or np.isinf(row[k]):
                break
            candidate = Neighbor(
                str(table.path[k]), str(table.case[k]), str(table.class_name[k]), float(row[k])
            )
            nearest.setdefault(candidate.case or f"\0{candidate.path}", candidate)
        neighbors.append(tuple(nearest.values()))
    return neighbors


def _training_rows(bundle: Bundle, split: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the training rows and the key of their features: network and images."""
    rows = split[split["subset"] == "train"].reset_index(drop=True)
    if rows.empty:
        raise SplitError(
            "Empty training subset. Expected at least one image. Choose the split of the run."
        )
    content = "\n".join(rows["path"] + " " + rows["sha256"])
    return rows, f"{bundle.graph_sha256} {hashlib.sha256(content.encode()).hexdigest()}"


def _spread_over_cases(ranked: pd.DataFrame, count: int) -> tuple[GalleryImage, ...]:
    """Return the first image of each case before the second image of any case."""
    rank_in_case = ranked.groupby("group").cumcount()
    ordered = ranked.assign(rank=rank_in_case).sort_values("rank", kind="stable")
    return _gallery_images(ordered.head(count))


def _gallery_images(rows: pd.DataFrame) -> tuple[GalleryImage, ...]:
    return tuple(
        GalleryImage(
            path=row["path"],
            case=row["case"],
            subtype=row["subtype"] or "unknown",
            magnification=None if pd.isna(row["magnification"]) else int(row["magnification"]),
            class_name=row["class"],
            predicted_class=row["predicted_class"],
            prob_malignant=float(row["prob_malignant"]),
        )
        for _, row in rows.iterrows()
    )
