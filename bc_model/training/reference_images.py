"""The training images of a model on this machine, and those nearest to an image.

They are the images of the run of the model, or those of a registered dataset with the same hashes.
Their features are computed once and stored. The nearest images show what a model has learned from,
and not whether its prediction is correct.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.breakhis import parse_name
from bc_model.data.dataset import Dataset, Progress, load_dataset
from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import Decode, decode_image, preprocess_image
from bc_model.data.registry import RegisteredDataset, cache_dir, list_datasets
from bc_model.errors import BcModelError
from bc_model.evaluation.error_analysis import (
    Neighbor,
    compute_training_features,
    find_nearest,
)
from bc_model.evaluation.features import FeatureTable
from bc_model.inference.bundle import MODEL_FOLDER, Bundle
from bc_model.inference.engine import Engine
from bc_model.inference.seen_images import find_copies, read_seen_images
from bc_model.training.run import Run, RunImages

DatasetLoader = Callable[[RegisteredDataset], Dataset]


@dataclass(frozen=True)
class ReferenceImages:
    """The training images of a model that are on this machine.

    Attributes
    ----------
    root : Path
        Directory of the dataset.
    rows : pandas.DataFrame
        One row per image, with path, sha256 and dhash of the pixels, case, class, and the subset
        'train'. The dhash of an image that the model does not list is 0.
    directory : Path
        Directory of the stored features.
    source : str
        Description of the source, such as 'the run my-run'.
    """

    root: Path
    rows: pd.DataFrame
    directory: Path
    source: str


@dataclass(frozen=True)
class TrainingReference:
    """The features of training images, to which other images are compared.

    Attributes
    ----------
    images : ReferenceImages
        The images.
    table : FeatureTable
        Their features, in the order of the rows.
    """

    images: ReferenceImages
    table: FeatureTable

    def nearest(
        self,
        features: np.ndarray,
        *,
        k: int = 4,
        exclude_case: str = "",
        is_own: np.ndarray | None = None,
    ) -> tuple[Neighbor, ...] | Check:
        """Return the nearest training images of other cases, or check BC197 without any.

        Parameters
        ----------
        features : ndarray of shape (n_channels,)
            Features of the image, from `Engine.predict_with_features`.
        k : int, default=4
            Largest number of images, at most one per case.
        exclude_case : str
            Case of the image; empty if it is unknown.
        is_own : ndarray of shape (n_images,), bool, optional
            Training images that are copies of the image. Their cases are excluded, too.

        Returns
        -------
        tuple of Neighbor or Check
            Images in ascending order of the cosine distance, in [0, 2].
        """
        table = self.table
        if is_own is not None and is_own.any():
            own_cases = set(table.case[is_own]) - {""}
            table = table.select(~is_own & ~np.isin(table.case, list(own_cases)))
        (found,) = find_nearest(
            features[None], np.array([exclude_case]), np.array([""]), table, count=k
        )
        return found or make_check("BC197")

    def find_copies(self, image: np.ndarray) -> np.ndarray:
        """Return which training images are copies of an image, also resized or recompressed ones.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8
            RGB image at its original size.

        Returns
        -------
        ndarray of shape (n_images,), bool
        """
        rows = self.images.rows
        is_same: np.ndarray = (rows["sha256"] == pixel_sha256(image)).to_numpy(bool)
        return is_same | find_copies(image, rows["dhash"].to_numpy(np.uint64))

    def read(self, neighbor: Neighbor, *, decode: Decode = decode_image) -> tuple[str, bytes]:
        """Return the hash of the pixels of a neighbor and the content of its file.

        Raises
        ------
        DataError
            The file is outside of the dataset or has changed.
        ImageError
            The file is missing or damaged.
        """
        root = self.images.root
        images = RunImages(self.images.source, root, self.images.rows)
        sha256 = str(images.split.set_index("path").loc[neighbor.path, "sha256"])
        return sha256, images.read(sha256, decode=decode)[1]


def find_reference_images(
    bundle: Bundle,
    *,
    registry: Path | None = None,
    load: DatasetLoader | None = None,
    progress: Progress | None = None,
    decode: Decode = decode_image,
) -> ReferenceImages | Check:
    """Return the training images of a model on this machine, or check BC196 without any.

    The images of its own run come first. Otherwise, every registered dataset is compared with the
    list of training images in the bundle, by the hash of the pixels and by near-duplicates at the
    magnifications of the model, because copies in other file formats have other pixels. The dataset
    with the most training images is used. This reads
    datasets that were not read before.

    Parameters
    ----------
    bundle : Bundle
        The model.
    registry : Path, optional
        Directory of the dataset registry, by default `bc_model.data.datasets_dir`.
    load : callable, optional
        Returns the index of a registered dataset; the default reads it with its cached hashes.
    progress, decode
        As for `load_dataset`.
    """
    if (own := _read_run_subset(bundle, "train")) is not None:
        return own
    listed = read_seen_images(bundle)
    if listed is None:
        return make_check("BC196")
    supported = bundle.card.scale.magnifications
    best: ReferenceImages | None = None
    for registered in list_datasets(registry)[0]:
        if not registered.is_available:
            continue
        try:
            if load is not None:
                dataset = load(registered)
            else:
                dataset = load_dataset(
                    registered.images_dir, progress=progress, cache_dir=cache_dir(), decode=decode
                )
        except BcModelError:
            continue  # The page Data shows why it cannot be read.
        table = dataset.images
        is_seen = table["sha256"].isin(listed.dhash.keys()).to_numpy()
        is_copy = listed.near_duplicates(table["dhash"].to_numpy(np.uint64))
        rows = table[is_seen | (is_copy & _has_scale(table, supported))]
        if len(rows) and (best is None or len(rows) > len(best.rows)):
            name = f"{registered.name}-{bundle.graph_sha256[:16]}"
            columns = rows[["path", "sha256", "dhash", "case", "class"]].reset_index(drop=True)
            best = ReferenceImages(
                dataset.root,
                columns.assign(subset="train"),
                (registry / ".cache" if registry else cache_dir()) / "features" / name,
                f"the dataset {registered.name}",
            )
    return best or make_check("BC196")


def load_training_reference(
    images: ReferenceImages,
    engine: Engine,
    *,
    progress: Progress | None = None,
    decode: Decode = decode_image,
) -> TrainingReference:
    """Return the training images with their features, from the stored file if it is valid.

    Parameters
    ----------
    images : ReferenceImages
        Result of `find_reference_images`.
    engine : Engine
        Engine of the model.
    progress : callable, optional
        Called with the numbers of predicted images and of all images.
    decode : callable, default=decode_image
        Returns the pixels for the content and the name of a file, such as `DecodePool.decode`.

    Raises
    ------
    ImageError
        An image cannot be read. No file is written.
    """
    table = compute_training_features(
        engine, images.root, images.rows, images.directory, progress=progress, decode=decode
    )
    return TrainingReference(images, table)


def find_nearest_images(
    engine: Engine, reference: TrainingReference, image: np.ndarray, *, name: str = "", k: int = 4
) -> tuple[Neighbor, ...] | Check:
    """Return the training images of other cases that are nearest to an image.

    Parameters
    ----------
    engine : Engine
        Engine of the model.
    reference : TrainingReference
        Result of `load_training_reference`.
    image : ndarray of shape (height, width, 3), uint8
        RGB image at its original size.
    name : str
        File name. An official BreakHis name contains the case.
    k : int, default=4
        Largest number of images, at most one per case.

    Returns
    -------
    tuple of Neighbor or Check
        As for `TrainingReference.nearest`.
    """
    parsed = parse_name(name)
    pixels = preprocess_image(image, engine.bundle.image_size)
    _, features = engine.predict_with_features(pixels[None])
    return reference.nearest(
        features[0],
        k=k,
        exclude_case=parsed.case if parsed else "",
        is_own=reference.find_copies(image),
    )


def find_test_images(bundle: Bundle, images_dir: Path) -> list[Path]:
    """Return the images of a dataset in the test subset of the run of a model, in its order.

    Empty if the model is not in a run, was trained on another dataset, or an image is missing.

    Parameters
    ----------
    bundle : Bundle
        The model.
    images_dir : Path
        Directory of the images of the dataset.
    """
    found = _read_run_subset(bundle, "test")
    if found is None or found.root.resolve() != images_dir.resolve():
        return []
    return [found.root / path for path in found.rows["path"]]


def _read_run_subset(bundle: Bundle, subset: str) -> ReferenceImages | None:
    """Return the images of a subset of the run of a model, if they still exist."""
    if bundle.folder.name != MODEL_FOLDER:
        return None
    run = Run(bundle.folder.resolve().parent)
    try:
        found = RunImages.from_run(run)
    except (BcModelError, OSError):
        return None  # The model was copied out of its run.
    rows = found.split[found.split["subset"] == subset].reset_index(drop=True)
    if rows.empty or not all((found.root / path).is_file() for path in rows["path"]):
        return None
    listed = read_seen_images(bundle)
    known = listed.dhash if listed else {}
    rows["dhash"] = np.array([known.get(sha256, 0) for sha256 in rows["sha256"]], np.uint64)
    return ReferenceImages(found.root, rows, run.evaluation_dir, f"the run {run.name}")


def _has_scale(images: pd.DataFrame, supported: tuple[int, ...]) -> np.ndarray:
    if not supported:
        return np.ones(len(images), bool)
    magnification = images["magnification"]
    return (magnification.isna() | magnification.isin(supported)).to_numpy(bool)
