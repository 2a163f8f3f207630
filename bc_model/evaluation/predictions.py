"""The table of predictions that an evaluation starts from: its columns, its rules, its CSV file.

It refuses what cannot be evaluated in one sentence and changes no value but blanks and types.
"""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model.data.breakhis import CLASSES
from bc_model.errors import DataError
from bc_model.evaluation.intervals import case_names

COLUMNS = ("path", "sha256", "case", "class", "magnification", "prob_malignant")


def check_predictions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return predictions with fixed types, sorted by path, or say what is wrong with them.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row a picture. ``path``, unique; ``sha256`` of the file, may be empty; ``case``, empty
        or NA where unknown; ``class``, 'benign' or 'malignant'; ``magnification`` of the
        objective, a whole number such as 40 or NA; ``prob_malignant`` in [0, 1]. Further columns
        are kept as they are.

    Returns
    -------
    pandas.DataFrame
        A new frame with a plain index: the six columns first, text without NA, ``magnification``
        as Int64, ``prob_malignant`` as float64.

    Raises
    ------
    DataError
        A column is missing, there is no row, a path comes twice or is empty, or a class, a
        magnification or a probability breaks its rule.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(
            f"An evaluation needs the columns {', '.join(COLUMNS)}, but {', '.join(missing)} "
            "is missing: add it (case, sha256 and magnification may be empty)."
        )
    if frame.empty:
        raise DataError(
            "An evaluation needs at least one prediction, but the table has no row: predict some "
            "pictures first."
        )
    extra = [name for name in frame.columns if name not in COLUMNS]
    table = frame[[*COLUMNS, *extra]].copy()
    for name in ("path", "sha256", "case", "class"):
        table[name] = case_names(table[name])
    _check_paths(table["path"])
    _check_classes(table)
    table["magnification"] = _magnifications(table)
    table["prob_malignant"] = _probabilities(table)
    return table.sort_values("path", kind="stable", ignore_index=True)


def predictions_to_csv(predictions: pd.DataFrame) -> str:
    """Return checked predictions as CSV text; every number reads back to the same bits."""
    return predictions.to_csv(index=False, lineterminator="\n")


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read and check a ``predictions.csv``.

    Raises
    ------
    DataError
        The file is no UTF-8 CSV table, or its content breaks a rule of `check_predictions`.
    OSError
        The file cannot be read.
    """
    try:
        # Text stays text: a case may be called "007", "NA" or "1e5".
        table = pd.read_csv(
            StringIO(Path(path).read_text(encoding="utf-8")),
            dtype=dict.fromkeys(("path", "sha256", "case", "class"), "str"),
            keep_default_na=False,
            na_values={"magnification": [""], "prob_malignant": [""]},
        )
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"'{path}' should be a CSV table of predictions, but it cannot be read as one "
            f"({error}): evaluate again."
        ) from error
    return check_predictions(table)


def _check_paths(path: pd.Series) -> None:
    if (path == "").any():
        raise DataError(
            f"Every prediction needs a path, but row {int(np.argmax(path == '')) + 1} has none: "
            "name the picture."
        )
    twice = path[path.duplicated()]
    if len(twice):
        raise DataError(
            f"Every picture counts once, but '{twice.iloc[0]}' comes more than once "
            f"({len(twice)} rows too many): keep one row a picture."
        )


def _check_classes(table: pd.DataFrame) -> None:
    wrong = table[~table["class"].isin(CLASSES)]
    if len(wrong):
        first = wrong.iloc[0]
        raise DataError(
            f"A class is 'benign' or 'malignant', but '{first['path']}' has '{first['class']}' "
            f"({len(wrong)} rows in all): correct the class column."
        )


def _magnifications(table: pd.DataFrame) -> pd.Series:
    numbers = pd.to_numeric(table["magnification"], errors="coerce").astype("Float64")
    wrong = table["magnification"].notna() & (numbers.isna() | (numbers % 1 != 0).fillna(True))
    if wrong.any():
        first = table[wrong].iloc[0]
        raise DataError(
            "A magnification is a whole number such as 40 or empty, but "
            f"'{first['path']}' has '{first['magnification']}': correct the magnification column."
        )
    return numbers.astype("Int64")


def _probabilities(table: pd.DataFrame) -> pd.Series:
    numbers = pd.to_numeric(table["prob_malignant"], errors="coerce").astype("float64")
    wrong = ~numbers.between(0.0, 1.0)
    if wrong.any():
        first = table[wrong].iloc[0]
        raise DataError(
            "A probability lies between 0 and 1, but prob_malignant of "
            f"'{first['path']}' is {first['prob_malignant']} ({int(wrong.sum())} rows in all): "
            "predict those pictures again."
        )
    return numbers
