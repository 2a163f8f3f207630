"""Tables as CSV text that is safe to open in a spreadsheet, and back.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, also if the
cell is the name of a file. Such text gets an apostrophe in front, which reading removes.
"""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pandas as pd

from bc_model.utils.io import read_bytes

MAX_TABLE_BYTES = 64 * 2**20
MAX_COLUMNS = 1000
MAX_CELLS = 4_000_000
"""Limit of rows times columns. Parsing needs time for each column and memory for each cell."""

# A spreadsheet may use ';' or a tab as separator, so a cell can also begin inside a text. Text
# that begins with an apostrophe gets a second one, so that reading restores every text.
_CELL_START = r"(?:^|(?<=[;\t\r\n]))"
_SPECIAL = r"(?=[=+\-@＝＋－＠\t\r\n'])"  # noqa: RUF001
_UNSAFE = re.compile(_CELL_START + _SPECIAL)
_ESCAPED = re.compile(f"{_CELL_START}'{_SPECIAL}")


def table_to_csv(table: pd.DataFrame) -> str:
    r"""Return a table without its index as CSV text with ``\n`` line ends.

    Numbers keep every bit. `read_table` restores every text exactly.

    Examples
    --------
    >>> print(table_to_csv(pd.DataFrame({"path": ["a.png", "=A1"], "margin": [0.5, -2.0]})))
    path,margin
    a.png,0.5
    '=A1,-2.0
    <BLANKLINE>
    """
    rows = [[_escape(value) for value in row] for row in table.astype(object).to_numpy()]
    escaped = pd.DataFrame(rows, columns=[_escape(name) for name in table], dtype=object)
    # Only quoted text may contain a carriage return, which otherwise ends the line.
    has_return = any(isinstance(value, str) and "\r" in value for row in rows for value in row)
    return escaped.to_csv(
        index=False,
        lineterminator="\n",
        quoting=csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL,
    )


def read_table(path: str | Path, **options: Any) -> pd.DataFrame:
    """Return the table of a CSV file in UTF-8 from `table_to_csv`.

    `options` are those of `pandas.read_csv`.

    Raises
    ------
    OSError
        The file is missing, unreadable, not a regular file, or larger than `MAX_TABLE_BYTES`.
    ValueError
        The file is not a CSV table, or has too many columns or cells.
    """
    content = read_bytes(path, MAX_TABLE_BYTES)
    n_columns = max((line.count(b",") + 1 for line in io.BytesIO(content)), default=0)
    n_cells = n_columns * (content.count(b"\n") + 1)
    if n_columns > MAX_COLUMNS or n_cells > MAX_CELLS:
        raise ValueError(
            f"expected at most {MAX_COLUMNS:,} columns and {MAX_CELLS:,} cells, got "
            f"{n_columns:,} and {n_cells:,}"
        )
    try:
        table = pd.read_csv(io.BytesIO(content), encoding="utf-8", **options)
    except (OverflowError, TypeError) as error:  # "inf" or a fraction as integer.
        raise ValueError(f"a number has another type ({error})") from error
    return table.map(_unescape).rename(columns=_unescape)


def _escape(value: Any) -> Any:
    return _UNSAFE.sub("'", value) if isinstance(value, str) else value


def _unescape(value: Any) -> Any:
    return _ESCAPED.sub("", value) if isinstance(value, str) else value
