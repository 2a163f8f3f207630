"""The initial weights of a run, and the images on which they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.dataset import Dataset
from bc_model.errors import BcModelError
from bc_model.inference.bundle import KERAS_FILE, Bundle, open_bundle, open_bundled_model
from bc_model.inference.export import rebuild_keras_model
from bc_model.inference.seen_images import SeenImages, find_seen_images, read_seen_images

if TYPE_CHECKING:
    import keras


def load_initial_weights(weights: str) -> str | keras.Model:
    """Return initial weights in a form that `build_model` accepts: a name, a path or a model."""
    return rebuild_keras_model(open_bundled_model()) if weights == "bundled" else weights


def find_initial_bundle(weights: str) -> Bundle | None:
    """Return the bundle that contains the initial weights of a run, or None."""
    if weights == "bundled":
        return open_bundled_model()
    if Path(weights).name != KERAS_FILE:
        return None
    try:
        bundle = open_bundle(Path(weights))
        bundle.file(KERAS_FILE)
    except BcModelError:
        return None
    return bundle


def collect_seen_images(weights: str, dataset: Dataset, split: pd.DataFrame) -> SeenImages:
    """Return the images that a model has seen, in this run or through its initial weights."""
    seen = split.loc[split["subset"] != "test", "path"]
    images = dataset.images[dataset.images["path"].isin(seen)]
    own = SeenImages(dict(zip(images["sha256"], images["dhash"], strict=True)), is_complete=True)
    if weights in ("none", "imagenet"):
        return own
    bundle = find_initial_bundle(weights)
    try:
        return own.merge_initial(read_seen_images(bundle) if bundle else None)
    except (BcModelError, OSError):  # The run does not need the list of seen images.
        return own.merge_initial(None)


def check_initialization_leakage(
    weights: str, dataset: Dataset, split: pd.DataFrame
) -> Check | None:
    """Return a check if the initial weights were trained on test images.

    Parameters
    ----------
    weights : str
        Initial weights as in `TrainingConfig`.
    dataset : Dataset
        The dataset of the run.
    split : DataFrame
        Columns path, sha256, case, group and subset, one row per image.

    Returns
    -------
    Check or None
        BC410 if cases of test images were seen, BC411 for near-duplicates alone. None if no test
        image was seen, or if the seen images are unknown.
    """
    bundle = find_initial_bundle(weights)
    if bundle is None:
        return None
    dhash = dataset.images.set_index("path")["dhash"]
    test = split[split["subset"] == "test"]
    test = test.assign(dhash=dhash.reindex(test["path"]).to_numpy())
    try:
        seen = find_seen_images(bundle, test)
    except (BcModelError, OSError):  # The run does not need the list of seen images.
        return None
    if not seen.n_seen:
        return None
    code = "BC410" if seen.is_certain else "BC411"
    return make_check(code, n_seen=seen.n_seen, n_test=len(test))
