"""The model that a run begins with, what it knows, and what of that is in the test part."""

from pathlib import Path

import pandas as pd

from bc_model.data.manifest import Manifest
from bc_model.errors import BcModelError
from bc_model.evaluation.known import known_to
from bc_model.serving.bundle import KERAS_FILE, Bundle, open_bundle
from bc_model.serving.known_pictures import KnownPictures, known_pictures
from bc_model.serving.shipped import bundled_model


def initial_model(weights: str) -> Bundle | None:
    """Return the model that a run begins with, where its model card is at hand.

    That of the box, or of the bundle in which a ``.keras`` file lies.

    Parameters
    ----------
    weights : str
        As `TrainSettings` has it.

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
        As `TrainSettings` has it.
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


def known_at_first(weights: str, manifest: Manifest, split: pd.DataFrame) -> str:
    """Say how much of the test part the first weights know.

    Parameters
    ----------
    weights : str
        As `TrainSettings` has it.
    manifest : Manifest
    split : DataFrame
        path, sha256, case, group, part.

    Returns
    -------
    str
        A sentence; empty where they know none of it, or nobody can tell.

    Raises
    ------
    WeightsError
        The model in the box is asked for, and missing or damaged.
    """
    model = initial_model(weights)
    if model is None:
        return ""
    dhash = manifest.pictures.set_index("path")["dhash"]
    test = split[split["part"] == "test"]
    test = test.assign(dhash=dhash.reindex(test["path"]).to_numpy())
    try:
        known = known_to(model, test)
    except (BcModelError, OSError):  # of files beside the weights, which the run does not need
        return ""
    if not known.number:
        return ""
    how = (
        "they learned from these or from others of their cases, or were chosen by them"
        if known.is_certain
        else "these look the same as what they learned from, or were chosen by"
    )
    return (
        f"The first weights know {known.number:,} of {len(test):,} test pictures: {how}. Every "
        "figure of this run flatters, and is marked as leaky."
    )
