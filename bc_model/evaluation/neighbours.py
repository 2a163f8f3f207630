"""What a picture resembles: the nearest training pictures of other cases, as the network sees them.

A mistake is easier to understand beside what the model learned from. The features of the training
part are computed when a run ends, or when first asked for, and kept with it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.errors import SplitError
from bc_model.evaluation.features import FeatureTable, cosine_distances
from bc_model.evaluation.gallery import Entry, Neighbour
from bc_model.evaluation.predict import Progress, predict_files
from bc_model.serving.bundle import Bundle
from bc_model.serving.engine import Engine

FEATURES_FILE = "training_features.npz"


def training_features(
    engine: Engine,
    root: Path,
    split: pd.DataFrame,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> FeatureTable:
    """Return the features of the training part, from the run's file when it is the right one.

    Parameters
    ----------
    engine : Engine
    root : Path
        Folder that the split's paths are relative to.
    split : DataFrame
        The split that the model was trained with.
    folder : Path
        Where the file lies, such as the run's evaluation; made when missing.
    progress : callable, optional
        Called with (pictures done, pictures in all); not at all when the file is there.

    Raises
    ------
    SplitError
        The split has no training part.
    PictureError
        A picture cannot be read any more; nothing is written.
    """
    rows, key = _rows_and_key(engine.bundle, split)
    found = FeatureTable.load(Path(folder) / FEATURES_FILE, key)
    if found is None:
        predicted = predict_files(engine, root, list(rows["path"]), progress=progress)
        found = FeatureTable.of(rows, predicted)
        found.save(Path(folder) / FEATURES_FILE, key)
    return found


def kept_training_features(
    bundle: Bundle, split: pd.DataFrame, folder: Path
) -> FeatureTable | None:
    """Return what `training_features` has kept; None when it would have to compute.

    Raises
    ------
    SplitError
        The split has no training part.
    """
    return FeatureTable.load(Path(folder) / FEATURES_FILE, _rows_and_key(bundle, split)[1])


def _rows_and_key(bundle: Bundle, split: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    rows = split[split["part"] == "train"].reset_index(drop=True)
    if rows.empty:
        raise SplitError("The split has no train part; there is nothing to compare with.")
    listed = "\n".join(rows["path"] + " " + rows["sha256"])
    return rows, f"{bundle.network} {hashlib.sha256(listed.encode()).hexdigest()}"


def nearest(
    features: np.ndarray, case: np.ndarray, path: np.ndarray, table: FeatureTable, *, count: int = 3
) -> list[tuple[Neighbour, ...]]:
    """Find the nearest pictures of other cases, one a case.

    Parameters
    ----------
    features : ndarray of shape (n, channels)
    case, path : ndarray of str, shape (n,)
        Pictures of the same known case are left out, and so is the picture itself.
    table : FeatureTable
    count : int, default=3

    Returns
    -------
    list of tuple of Neighbour
        Of each picture, nearest first.
    """
    distances = cosine_distances(features, table.features)
    own = (case[:, None] == table.case[None]) & (case[:, None] != "")
    distances[own | (path[:, None] == table.path[None])] = np.inf
    found = []
    for row in distances:
        taken: dict[str, Neighbour] = {}
        for k in np.argsort(row, kind="stable"):
            if len(taken) == count or np.isinf(row[k]):
                break
            who = str(table.case[k]) or f"\0{table.path[k]}"
            taken.setdefault(
                who,
                Neighbour(
                    str(table.path[k]), str(table.case[k]), str(table.class_name[k]), float(row[k])
                ),
            )
        found.append(tuple(taken.values()))
    return found


def neighbours_of(
    entries: Sequence[Entry], engine: Engine, root: Path, table: FeatureTable, *, count: int = 3
) -> dict[str, tuple[Neighbour, ...]]:
    """Find the nearest training pictures of some pictures of the gallery.

    Parameters
    ----------
    entries : sequence of Entry
    engine : Engine
        Of the network that `table` was computed by.
    root : Path
        Folder that the entries' paths are relative to.
    table : FeatureTable
        As `training_features` returns it.
    count : int, default=3
        For each picture, from as many cases.

    Returns
    -------
    dict of str to tuple of Neighbour
        By path, nearest first.

    Raises
    ------
    PictureError
        A picture cannot be read any more.
    """
    if not entries:
        return {}
    paths = [entry.path for entry in entries]
    features = predict_files(engine, root, paths).features
    cases = np.array([entry.case for entry in entries])
    found = nearest(features, cases, np.array(paths), table, count=count)
    return dict(zip(paths, found, strict=True))
