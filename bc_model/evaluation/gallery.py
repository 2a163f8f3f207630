"""The error gallery: which pictures were called wrong, and how sure the model was of others.

Plain data with paths: showing pictures and heatmaps is the work of others, and `neighbours` finds
what a picture resembles.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bc_model.data.names import CLASSES
from bc_model.evaluation.by_group import subtypes
from bc_model.evaluation.metrics import log_losses


@dataclass(frozen=True)
class Neighbour:
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
class Entry:
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
    called: str
    prob_malignant: float

    @property
    def is_right(self) -> bool:
        """True when the verdict is the truth."""
        return self.called == self.class_name


@dataclass(frozen=True)
class CaseMistakes:
    """The pictures of one case that were called wrong.

    Attributes
    ----------
    case : str
        Empty for a picture of an unknown case, which stands alone.
    class_name : str
    n_wrong, n : int
        Pictures called wrong, and all of the case.
    worst : tuple of Entry
        The surest mistakes first.
    """

    case: str
    class_name: str
    n_wrong: int
    n: int
    worst: tuple[Entry, ...]


@dataclass(frozen=True)
class Gallery:
    """What is worth a look.

    Attributes
    ----------
    mistakes : tuple of CaseMistakes
        The case with the surest mistake first.
    most_certain, least_certain : tuple of Entry
        Farthest from 0.5, and nearest to the cut-off, from as many cases as there are.
    """

    mistakes: tuple[CaseMistakes, ...]
    most_certain: tuple[Entry, ...]
    least_certain: tuple[Entry, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All pictures in it, each once."""
        every = [entry for one in self.mistakes for entry in one.worst]
        every += [*self.most_certain, *self.least_certain]
        return tuple({entry.path: entry for entry in every}.values())


def error_gallery(
    predictions: pd.DataFrame,
    *,
    threshold: float,
    n_cases: int = 12,
    per_case: int = 3,
    n_certain: int = 12,
) -> Gallery:
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
    table = predictions.assign(subtype=subtypes(predictions))
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
        CaseMistakes(
            case=str(rows["case"].iloc[0]),
            class_name=str(rows["class"].iloc[0]),
            n_wrong=len(rows),
            n=int(n_of[who]),
            worst=_entries(rows.head(per_case)),
        )
        for who, rows in wrong.groupby("who", sort=False)
    ]
    return Gallery(
        mistakes=tuple(mistakes[:n_cases]),
        most_certain=_spread(
            table.sort_values(["certainty", "path"], ascending=[False, True]), n_certain
        ),
        least_certain=_spread(table.sort_values(["doubt", "path"]), n_certain),
    )


def _spread(ranked: pd.DataFrame, count: int) -> tuple[Entry, ...]:
    """Take the first of each case before the second of any."""
    turn = ranked.groupby("who").cumcount()
    chosen = ranked.assign(turn=turn).sort_values("turn", kind="stable").head(count)
    return _entries(chosen)


def _entries(rows: pd.DataFrame) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            path=row["path"],
            case=row["case"],
            subtype=row["subtype"] or "unknown",
            magnification=None if pd.isna(row["magnification"]) else int(row["magnification"]),
            class_name=row["class"],
            called=row["called"],
            prob_malignant=float(row["prob_malignant"]),
        )
        for _, row in rows.iterrows()
    )
