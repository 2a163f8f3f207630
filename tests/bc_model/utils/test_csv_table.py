"""CSV tables: safe in a spreadsheet, exact when they are read again."""

import csv
import io
import os
import random
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bc_model.utils import csv_table
from bc_model.utils.csv_table import read_table, table_to_csv

FORMULA = '=HYPERLINK("http://evil.example";"report")'
UNSAFE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", FORMULA]  # noqa: RUF001


def restore(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    file.write_bytes(table_to_csv(table).encode())
    return read_table(file, dtype={"path": "str"}, keep_default_na=False)


@pytest.mark.parametrize("text", UNSAFE)
def test_table_to_csv_text_like_a_formula_begins_with_an_apostrophe(text: str) -> None:
    table = pd.DataFrame({"path": [text], "margin": [-0.25], "n": [-3]})
    (row,) = csv.DictReader(io.StringIO(table_to_csv(table), newline=""))
    assert row["path"] == "'" + text.replace("\t=", "\t'=").replace("\r=", "\r'=").replace(
        "\n=", "\n'="
    )
    assert (row["margin"], row["n"]) == ("-0.25", "-3")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_table_to_csv_no_cell_is_a_formula_with_any_separator(separator: str) -> None:
    names = [f"a{separator}{text}" for text in UNSAFE]
    text = table_to_csv(pd.DataFrame({"path": names, "=class": "benign"}))
    cells = [cell for row in csv.reader(io.StringIO(text), delimiter=separator) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []


def test_read_table_restores_every_text_and_number(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices("=+-@＝'\t\r\n;,\"a é", k=rng.randrange(8))) for _ in range(5000)]  # noqa: RUF001
    numbers = np.random.default_rng(0).normal(size=len(texts))
    table = pd.DataFrame({"path": texts, "=prob": numbers, "n": range(len(texts))})
    pd.testing.assert_frame_equal(restore(table, tmp_path / "table.csv"), table, check_exact=True)


def test_table_to_csv_integers_with_missing_values_stay_integers() -> None:
    table = pd.DataFrame(
        {"n": pd.array([24, None], "Int64"), "m": pd.Series([1, ""], dtype=object)}
    )
    assert table_to_csv(table) == "n,m\n24,1\n,\n"


@pytest.mark.parametrize("content", [b"," * 3_000_000, b"a,b\n" + b"1,2\n" * 2_000_001])
def test_read_table_too_many_cells_is_refused_before_parsing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(csv_table.pd, "read_csv", None)
    (file := tmp_path / "table.csv").write_bytes(content)
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"at most 1,000 columns and 4,000,000 cells, got"):
        read_table(file)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("content", [b"", b"\xff\xfe,\n", b'a,b\n"1,2\n', b"a\n1,2\n1,2,3\n"])
def test_read_table_invalid_content_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    (file := tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - The text is that of pandas.
        read_table(file)


@pytest.mark.parametrize("number", ["inf", "1.5", "x", "9" * 30, "1e400"])
def test_read_table_number_of_another_type_is_a_value_error(tmp_path: Path, number: str) -> None:
    (file := tmp_path / "table.csv").write_text(f"n\n{number}\n")
    with pytest.raises(ValueError):  # noqa: PT011 - The text is that of pandas.
        read_table(file, dtype={"n": "Int64"})


def test_read_table_named_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.csv")
    with pytest.raises(OSError, match="Not a regular file"):
        read_table(tmp_path / "table.csv")
