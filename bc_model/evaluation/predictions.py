"""The table of predictions that an evaluation starts from: its columns, rules and CSV file.

Invalid tables are refused; values are changed only in blanks and types.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bc_model.data.breakhis import CLASSES
from bc_model.errors import DataError
from bc_model.evaluation.metrics import Floats
from bc_model.inference.batching import ModelOutputs
from bc_model.inference.engine import compute_prob_malignant
from bc_model.utils.csv_table import read_table, table_to_csv

COLUMNS = ("path", "sha256", "case", "class", "magnification", "prob_malignant")
_COPIED = ("path", "sha256", "case", "class", "magnification", "subtype")


def join_predictions(
    rows: pd.DataFrame, predicted: ModelOutputs, temperature: float
) -> pd.DataFrame:
    """Return the table of predictions of rows of a split or dataset."""
    table = rows[[name for name in _COPIED if name in rows]].reset_index(drop=True)
    return table.assign(
        prob_malignant=compute_prob_malignant(predicted.logits, temperature), logit=predicted.margin
    )


def check_predictions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return valid predictions with fixed types, sorted by path.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per image. ``path``, unique; ``sha256`` of the file, can be empty; ``case``, empty
        or NA if unknown; ``class``, 'benign' or 'malignant'; ``magnification`` of the objective,
        an integer such as 40 or NA; ``prob_malignant`` in [0, 1]. Other columns are kept.

    Raises
    ------
    DataError
        A column is missing, there is no row, or a value is invalid.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(
            f"Missing column {', '.join(missing)}. Expected {', '.join(COLUMNS)}. Add the column; "
            "case, sha256 and magnification can be empty."
        )
    if frame.empty:
        raise DataError("No predictions. Expected at least one row. Predict some images first.")
    extra = [name for name in frame.columns if name not in COLUMNS]
    table = frame[[*COLUMNS, *extra]].copy()
    for name in ("path", "sha256", "case", "class"):
        table[name] = case_names(table[name])
    _check_paths(table["path"])
    _refuse_rows(
        table,
        ~table["class"].isin(CLASSES),
        "class",
        "'benign' or 'malignant'",
        "Correct the class",
    )
    table["magnification"] = _parse_magnifications(table)
    table["prob_malignant"] = _parse_probabilities(table)
    return table.sort_values("path", kind="stable", ignore_index=True)


def predictions_to_csv(predictions: pd.DataFrame) -> str:
    """Return valid predictions as CSV text that preserves every bit of the numbers."""
    return table_to_csv(predictions)


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Return the valid predictions of a CSV file.

    Raises
    ------
    DataError
        The file is not a UTF-8 CSV table, or `check_predictions` refuses its content.
    OSError
        The file cannot be read.
    """
    try:
        # Text stays text: "007", "NA" and "1e5" are valid case names.
        table = read_table(
            path,
            dtype=dict.fromkeys(("path", "sha256", "case", "class"), "str"),
            keep_default_na=False,
            na_values={"magnification": [""], "prob_malignant": [""]},
        )
    except ValueError as error:
        raise DataError(
            f"Cannot read '{path}'. Expected a CSV table of predictions, got: {error}. Evaluate "
            "the model again."
        ) from error
    return check_predictions(table)


def case_weights(case: NDArray[np.str_]) -> Floats:
    """Return weights with the sum 1 and the same total for every case, shape (n_images,)."""
    names = case.astype(object)
    unknown = np.flatnonzero(case == "")
    names[unknown] = [f"\0{k}" for k in unknown]  # No case has such a name.
    _, code, sizes = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    weights: Floats = 1.0 / (sizes.size * sizes[code])
    return weights


def case_names(case: ArrayLike) -> NDArray[np.str_]:
    """Return case names as text, with ``""`` for unknown cases (None, NaN, NA, blank).

    Examples
    --------
    >>> case_names(["14-22549", None, " "]).tolist()
    ['14-22549', '', '']
    """
    values = np.asarray(case, dtype=object)
    known = ~pd.isna(values)
    return np.array([str(v).strip() if k else "" for v, k in zip(values, known, strict=True)], str)


def _check_paths(path: pd.Series) -> None:
    if (path == "").any():
        row = int(np.argmax(path == "")) + 1
        raise DataError(f"Missing path in row {row}. Expected the path of an image. Add it.")
    duplicates = path[path.duplicated()]
    if len(duplicates):
        raise DataError(
            f"Duplicate path '{_shorten(duplicates.iloc[0])}'. Expected one row per image, got "
            f"{len(duplicates)} more. Remove the duplicate rows."
        )


def _parse_magnifications(table: pd.DataFrame) -> pd.Series:
    numbers = pd.to_numeric(table["magnification"], errors="coerce").astype("Float64")
    invalid = table["magnification"].notna() & (numbers.isna() | (numbers % 1 != 0).fillna(True))
    _refuse_rows(table, invalid, "magnification", "an integer such as 40", "Correct the value")
    return numbers.astype("Int64")


def _parse_probabilities(table: pd.DataFrame) -> pd.Series:
    numbers = pd.to_numeric(table["prob_malignant"], errors="coerce").astype("float64")
    invalid = ~numbers.between(0.0, 1.0)
    _refuse_rows(table, invalid, "prob_malignant", "0 <= probability <= 1", "Predict again")
    return numbers


def _refuse_rows(
    table: pd.DataFrame, invalid: pd.Series, column: str, expected: str, advice: str
) -> None:
    if invalid.any():
        first = table[invalid].iloc[0]
        raise DataError(
            f"Invalid {column} of '{_shorten(first['path'])}' ({int(invalid.sum())} rows in "
            f"total). Expected {expected}, got '{_shorten(first[column])}'. {advice}."
        )


def _shorten(value: object) -> str:
    """Return a value of a damaged table as text of bounded length."""
    return str(value)[:200]
