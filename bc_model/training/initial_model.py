"""The initial weights of a run, the images they were trained on, and which of these are tested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.manifest import Manifest
from bc_model.errors import BcModelError
from bc_model.evaluation.known import known_to
from bc_model.serving.bundle import KERAS_FILE, Bundle, open_bundle
from bc_model.serving.known_pictures import KnownPictures, known_pictures
from bc_model.serving.shipped import bundled_model
from bc_model.serving.twin import load_twin

if TYPE_CHECKING:
    import keras


def load_initial_weights(weights: str) -> str | keras.Model:
    """Return initial weights in a form that `bc_model.model.build_model` accepts.

    Parameters
    ----------
    weights : str
        As `TrainingConfig` has it.

    Returns
    -------
    str or keras.Model
        The Keras model of the bundled model for 'bundled', else `weights`.

    Raises
    ------
    WeightsError
        The bundled model is requested, but missing or damaged.
    """
    return load_twin(bundled_model()) if weights == "bundled" else weights


def initial_model(weights: str) -> Bundle | None:
    """Return the model that a run begins with, where its model card is at hand.

    That of the box, or of the bundle in which a ``.keras`` file lies.

    Parameters
    ----------
    weights : str
        As `TrainingConfig` has it.

    Raises
    ------
    WeightsError
        The model in the box is asked for, and missing or damaged.
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


def all_known(weights: str, manifest: Manifest, split: pd.DataFrame) -> KnownPictures:
    """Return what a run's model will know: all but its test part, and what the first weights knew.

    Parameters
    ----------
    weights : str
        As `TrainingConfig` has it.
    manifest : Manifest
    split : DataFrame
        path, part.

    Raises
    ------
    WeightsError
        The model in the box is asked for, and missing or damaged.
    """
    seen = split.loc[split["part"] != "test", "path"]
    pictures = manifest.pictures[manifest.pictures["path"].isin(seen)]
    own = KnownPictures(dict(zip(pictures["sha256"], pictures["dhash"], strict=True)), whole=True)
    if weights in ("none", "imagenet"):
        return own
    first = initial_model(weights)
    try:
        return own.with_first(known_pictures(first) if first else None)
    except (BcModelError, OSError):  # of a file beside the weights, which the run does not need
        return own.with_first(None)


def known_at_first(weights: str, manifest: Manifest, split: pd.DataFrame) -> Check | None:
    """Return a check if the initial weights were trained on images of the test subset.

    Parameters
    ----------
    weights : str
        Value of the `TrainingConfig` field.
    manifest : Manifest
    split : DataFrame
        path, sha256, case, group, part.

    Returns
    -------
    Check or None
        BC410 for leakage by images or cases, BC411 for leakage by near-duplicates only. None if
        there is no leakage, or the training data of the weights are unknown.

    Raises
    ------
    WeightsError
        The bundled model is requested, but is missing or damaged.
    """
    model = initial_model(weights)
    if model is None:
        return None
    dhash = manifest.pictures.set_index("path")["dhash"]
    test = split[split["part"] == "test"]
    test = test.assign(dhash=dhash.reindex(test["path"]).to_numpy())
    try:
        known = known_to(model, test)
    except (BcModelError, OSError):  # a file beside the weights, which the run does not need
        return None
    if not known.number:
        return None
    code = "BC410" if known.is_certain else "BC411"
    return make_check(code, n_seen=known.number, n_test=len(test))
