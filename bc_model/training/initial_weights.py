"""The initial weights of a run, the images they were trained on, and which of these are tested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.dataset import Dataset
from bc_model.errors import BcModelError
from bc_model.inference.bundle import KERAS_FILE, Bundle, bundled_model, open_bundle
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.seen_images import SeenImages, find_seen_images, seen_images

if TYPE_CHECKING:
    import keras


def load_initial_weights(weights: str) -> str | keras.Model:
    """Return initial weights in a form that `bc_model.model.build_model` accepts.

    Parameters
    ----------
    weights : str
        Initial weights as in `TrainingConfig`.

    Returns
    -------
    str or keras.Model
        The Keras model of the bundled model for 'bundled', else `weights`.

    Raises
    ------
    WeightsError
        The bundled model is requested, but missing or damaged.
    """
    return rebuild_keras_model(bundled_model()) if weights == "bundled" else weights


def find_initial_bundle(weights: str) -> Bundle | None:
    """Return the bundle that contains the initial weights of a run, if there is one.

    Parameters
    ----------
    weights : str
        Initial weights as in `TrainingConfig`.

    Returns
    -------
    Bundle or None
        The bundled model, or the bundle that contains the ``.keras`` file; else None.

    Raises
    ------
    WeightsError
        The bundled model is requested, but missing or damaged.
    """
    if weights == "bundled":
        return bundled_model()
    if Path(weights).name != KERAS_FILE:
        return None
    try:
        bundle = open_bundle(Path(weights))
        bundle.file(KERAS_FILE)
    except BcModelError:
        return None
    return bundle


def collect_seen_images(weights: str, dataset: Dataset, split: pd.DataFrame) -> SeenImages:
    """Return the images that the trained model has seen, in this run or by its initial weights.

    Parameters
    ----------
    weights : str
        Initial weights as in `TrainingConfig`.
    manifest : Manifest
        Index of the dataset.
    split : DataFrame
        Columns path and part, one row per image.

    Raises
    ------
    WeightsError
        The bundled model is requested, but missing or damaged.
    """
    seen = split.loc[split["subset"] != "test", "path"]
    images = dataset.images[dataset.images["path"].isin(seen)]
    own = SeenImages(dict(zip(images["sha256"], images["dhash"], strict=True)), whole=True)
    if weights in ("none", "imagenet"):
        return own
    first = find_initial_bundle(weights)
    try:
        return own.with_first(seen_images(first) if first else None)
    except (BcModelError, OSError):  # The run does not need the list of seen images.
        return own.with_first(None)


def check_initialization_leakage(
    weights: str, dataset: Dataset, split: pd.DataFrame
) -> Check | None:
    """Return a check if the initial weights were trained on test images.

    Parameters
    ----------
    weights : str
        Initial weights as in `TrainingConfig`.
    manifest : Manifest
        Index of the dataset.
    split : DataFrame
        Columns path, sha256, case, group and part, one row per image.

    Returns
    -------
    Check or None
        BC410 if cases of test images were seen, BC411 for near-duplicates alone; None if no test
        image was seen, or if this is unknown.

    Raises
    ------
    WeightsError
        The bundled model is requested, but missing or damaged.
    """
    model = find_initial_bundle(weights)
    if model is None:
        return None
    dhash = dataset.images.set_index("path")["dhash"]
    test = split[split["subset"] == "test"]
    test = test.assign(dhash=dhash.reindex(test["path"]).to_numpy())
    try:
        known = find_seen_images(model, test)
    except (BcModelError, OSError):  # The run does not need the list of seen images.
        return None
    if not known.number:
        return None
    code = "BC410" if known.is_certain else "BC411"
    return make_check(code, n_seen=known.number, n_test=len(test))
