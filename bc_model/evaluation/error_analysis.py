"""The error gallery: which pictures were called wrong, and how sure the model was of others.

Plain data with paths: showing pictures and heatmaps is the work of others, and `neighbors` finds
what a picture resembles.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.breakhis import CLASSES
from bc_model.errors import SplitError
from bc_model.evaluation.features import FeatureTable, cosine_distances
from bc_model.evaluation.metrics import log_losses
from bc_model.evaluation.subgroups import infer_subtypes
from bc_model.inference.bundle import Bundle
from bc_model.inference.engine import Engine
from bc_model.inference.predict import Progress, predict_files


@dataclass(frozen=True)
class Neighbor:
    """A training picture that the network sees much like another one.

    Attributes
    ----------
    path, case, class_name : str
    distance : float
        1 - cosine of the pooled features: 0 for the same direction.
    """

    path: str
    case: str
    class_name: str
    distance: float


@dataclass(frozen=True)
class GalleryImage:
    """One picture of the gallery.

    Attributes
    ----------
    path : str
        Relative to the data set.
    case, subtype : str
        Empty and 'unknown' where names do not say them.
    magnification : int or None
    class_name, called : {'benign', 'malignant'}
        The truth and the verdict.
    prob_malignant : float
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
        """True when the verdict is the truth."""
        return self.predicted_class == self.class_name


@dataclass(frozen=True)
class CaseErrors:
    """The pictures of one case that were called wrong.

    Attributes
    ----------
    case : str
        Empty for a picture of an unknown case, which stands alone.
    class_name : str
    n_incorrect, n : int
        Pictures called wrong, and all of the case.
    worst : tuple of Entry
        The surest mistakes first.
    """

    case: str
    class_name: str
    n_incorrect: int
    n_images: int
    images: tuple[GalleryImage, ...]


@dataclass(frozen=True)
class ErrorGallery:
    """What is worth a look.

    Attributes
    ----------
    mistakes : tuple of CaseMistakes
        The case with the surest mistake first.
    most_certain, least_certain : tuple of Entry
        Farthest from 0.5, and nearest to the cut-off, from as many cases as there are.
    """

    errors: tuple[CaseErrors, ...]
    most_certain: tuple[GalleryImage, ...]
    least_certain: tuple[GalleryImage, ...]

    @property
    def images(self) -> tuple[GalleryImage, ...]:
        """All pictures in it, each once."""
        every = [entry for one in self.errors for entry in one.images]
        every += [*self.most_certain, *self.least_certain]
        return tuple({entry.path: entry for entry in every}.values())


def build_error_gallery(
    predictions: pd.DataFrame,
    *,
    threshold: float,
    n_cases: int = 12,
    per_case: int = 3,
    n_certain: int = 12,
) -> ErrorGallery:
    """Choose the pictures of the gallery.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As `check_predictions` returns it.
    threshold : float
        A picture is called malignant at this probability or above.
    n_cases, per_case : int
        Cases with mistakes, and the pictures shown of each.
    n_certain : int
        Pictures among the most, and among the least certain; one a case before a second one.
    """
    table = predictions.assign(subtype=infer_subtypes(predictions))
    called = table["prob_malignant"] >= threshold
    table["called"] = np.where(called, CLASSES[1], CLASSES[0])
    table["wrong"] = table["called"] != table["class"]
    malignant = (table["class"] == "malignant").to_numpy(dtype=bool)
    table["loss"] = log_losses(malignant, table["prob_malignant"].to_numpy(dtype=float))
    # A picture without a case stands for itself.
    table["who"] = table["case"].where(table["case"] != "", "\0" + table["path"]) + table["class"]
    table["certainty"] = (table["prob_malignant"] - 0.5).abs()
    table["doubt"] = (table["prob_malignant"] - threshold).abs()
    wrong = table[table["wrong"]].sort_values(["loss", "path"], ascending=[False, True])
    n_of = table.groupby("who").size()
    mistakes = [
        CaseErrors(
            case=str(rows["case"].iloc[0]),
            class_name=str(rows["class"].iloc[0]),
            n_incorrect=len(rows),
            n_images=int(n_of[who]),
            images=_entries(rows.head(per_case)),
        )
        for who, rows in wrong.groupby("who", sort=False)
    ]
    return ErrorGallery(
        errors=tuple(mistakes[:n_cases]),
        most_certain=_spread(
            table.sort_values(["certainty", "path"], ascending=[False, True]), n_certain
        ),
        least_certain=_spread(table.sort_values(["doubt", "path"]), n_certain),
    )


def _spread(ranked: pd.DataFrame, count: int) -> tuple[GalleryImage, ...]:
    """Take the first of each case before the second of any."""
    turn = ranked.groupby("who").cumcount()
    chosen = ranked.assign(turn=turn).sort_values("turn", kind="stable").head(count)
    return _entries(chosen)


def _entries(rows: pd.DataFrame) -> tuple[GalleryImage, ...]:
    return tuple(
        GalleryImage(
            path=row["path"],
            case=row["case"],
            subtype=row["subtype"] or "unknown",
            magnification=None if pd.isna(row["magnification"]) else int(row["magnification"]),
            class_name=row["class"],
            predicted_class=row["called"],
            prob_malignant=float(row["prob_malignant"]),
        )
        for _, row in rows.iterrows()
    )


FEATURES_FILE = "training_features.npz"


def compute_training_features(
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
    ImageError
        A picture cannot be read any more; nothing is written.
    """
    rows, key = _rows_and_key(engine.bundle, split)
    found = FeatureTable.load(Path(folder) / FEATURES_FILE, key)
    if found is None:
        predicted = predict_files(engine, root, list(rows["path"]), progress=progress)
        found = FeatureTable.of(rows, predicted)
        found.save(Path(folder) / FEATURES_FILE, key)
    return found


def read_training_features(
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
    rows = split[split["subset"] == "train"].reset_index(drop=True)
    if rows.empty:
        raise SplitError("The split has no train part; there is nothing to compare with.")
    listed = "\n".join(rows["path"] + " " + rows["sha256"])
    return rows, f"{bundle.network} {hashlib.sha256(listed.encode()).hexdigest()}"


def find_nearest(
    features: np.ndarray, case: np.ndarray, path: np.ndarray, table: FeatureTable, *, count: int = 3
) -> list[tuple[Neighbor, ...]]:
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
        taken: dict[str, Neighbor] = {}
        for k in np.argsort(row, kind="stable"):
            if len(taken) == count or np.isinf(row[k]):
                break
            who = str(table.case[k]) or f"\0{table.path[k]}"
            taken.setdefault(
                who,
                Neighbor(
                    str(table.path[k]), str(table.case[k]), str(table.class_name[k]), float(row[k])
                ),
            )
        found.append(tuple(taken.values()))
    return found


def find_neighbors(
    entries: Sequence[GalleryImage],
    engine: Engine,
    root: Path,
    table: FeatureTable,
    *,
    count: int = 3,
) -> dict[str, tuple[Neighbor, ...]]:
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
    ImageError
        A picture cannot be read any more.
    """
    if not entries:
        return {}
    paths = [entry.path for entry in entries]
    features = predict_files(engine, root, paths).features
    cases = np.array([entry.case for entry in entries])
    found = find_nearest(features, cases, np.array(paths), table, count=count)
    return dict(zip(paths, found, strict=True))
