import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict

import numpy as np
import pytest

from bc_model.errors import DataError, RecordError
from bc_model.utils.serialization import (
    MAX_JSON_BYTES,
    check_fields,
    dumps,
    from_json,
    loads,
    parse_json,
    read_record,
    to_json,
    write_record,
)


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Metric:
    value: float
    ci_low: float | None = None

    def __post_init__(self) -> None:
        if self.value > 1:
            raise ValueError("value must be at most 1")


@dataclass(frozen=True)
class Curve:
    threshold: tuple[float, ...] = field(metadata={"null_means": math.inf})


@dataclass(frozen=True)
class Everything:
    SCHEMA_VERSION: ClassVar[int] = 4

    name: str
    count: int
    flag: bool
    color: Color
    mode: Literal["fast", "exact"]
    file: Path
    metrics: dict[str, Metric]
    named: Mapping[str, int]
    pair: tuple[int, str]
    cells: tuple[tuple[int, int], tuple[int, int]]
    many: tuple[Metric, ...]
    rows: list[float]
    best: Metric | None
    note: str | int | None
    extra: dict[str, Any]
    curve: Curve
    table: np.ndarray | None = field(default=None, compare=False, metadata={"json": False})


RECORD = Everything(
    name="café",
    count=3,
    flag=True,
    color=Color.BLUE,
    mode="exact",
    file=Path("a/b.csv"),
    metrics={"roc_auc": Metric(0.9, 0.8)},
    named={"a": 1},
    pair=(1, "x"),
    cells=((1, 2), (3, 4)),
    many=(Metric(0.5), Metric(1.0)),
    rows=[1.0, 2.5],
    best=None,
    note=7,
    extra={"free": [1, "two", None, {"deep": True}]},
    curve=Curve((math.inf, 0.5)),
)
DATA = {
    "schema_version": 4,
    "name": "café",
    "count": 3,
    "flag": True,
    "color": "blue",
    "mode": "exact",
    "file": "a/b.csv",
    "metrics": {"roc_auc": {"value": 0.9, "ci_low": 0.8}},
    "named": {"a": 1},
    "pair": [1, "x"],
    "cells": [[1, 2], [3, 4]],
    "many": [{"value": 0.5, "ci_low": None}, {"value": 1.0, "ci_low": None}],
    "rows": [1.0, 2.5],
    "best": None,
    "note": 7,
    "extra": {"free": [1, "two", None, {"deep": True}]},
    "curve": {"threshold": [None, 0.5]},
}


def test_to_json_every_type_returns_the_expected_dictionary():
    assert to_json(RECORD) == DATA
    assert list(to_json(RECORD)) == list(DATA)


def test_from_json_every_type_returns_the_record():
    assert from_json(Everything, DATA) == RECORD
    assert loads(Everything, dumps(RECORD)) == RECORD


def test_to_json_numpy_values_become_python_values():
    @dataclass(frozen=True)
    class Numbers:
        real: float
        whole: int
        truth: bool
        row: tuple[float, ...]

    record = Numbers(np.float32(0.5), np.int64(3), np.bool_(True), np.array([1.0, 2.0]))  # type: ignore[arg-type]
    data = to_json(record)
    assert data == {"real": 0.5, "whole": 3, "truth": True, "row": [1.0, 2.0]}
    assert [type(value) for value in data.values()] == [float, int, bool, list]


def test_from_json_int_for_float_becomes_float():
    value = from_json(Metric, {"value": 1, "ci_low": 0}).value
    assert (value, type(value)) == (1.0, float)


@dataclass(frozen=True)
class Head:
    units: int
    slope: float = field(default=0.5, metadata={"optional": True})


def test_from_json_optional_field_uses_its_default():
    assert from_json(Head, {"units": 3}) == Head(3, 0.5)
    assert from_json(Head, to_json(Head(3, 0.25))) == Head(3, 0.25)
    with pytest.raises(RecordError, match="missing key 'units'"):
        from_json(Head, {"slope": 0.25})


def test_from_json_field_without_json_keeps_its_default():
    assert from_json(Everything, DATA).table is None
    with pytest.raises(RecordError, match=r"^Everything: unknown key 'table'$"):
        from_json(Everything, DATA | {"table": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name: expected str, got int"),
        ({"name": None}, "name: expected str, got null"),
        ({"count": True}, "count: expected int, got bool"),
        ({"count": 3.0}, "count: expected int, got float"),
        ({"flag": 1}, "flag: expected bool, got int"),
        ({"color": "green"}, "color: expected one of 'red', 'blue', got 'green'"),
        ({"color": ["red"]}, r"color: expected one of 'red', 'blue', got \['red'\]"),
        ({"mode": "slow"}, "mode: expected one of 'fast', 'exact', got 'slow'"),
        ({"file": 1}, "file: expected str, got int"),
        ({"metrics": []}, "metrics: expected dict, got list"),
        ({"metrics": {"roc_auc": 1}}, "metrics.roc_auc: expected dict, got int"),
        (
            {"metrics": {"roc_auc": {"value": 0.9, "ci_low": "0.8"}}},
            "metrics.roc_auc.ci_low: expected float, got str",
        ),
        (
            {"metrics": {"roc_auc": {"value": True, "ci_low": None}}},
            "metrics.roc_auc.value: expected float, got bool",
        ),
        ({"metrics": {"f1": {"value": 0.9}}}, "metrics.f1: missing key 'ci_low'"),
        (
            {"metrics": {"f1": {"value": 0.9, "ci_low": None, "low": 1}}},
            "metrics.f1: unknown key 'low'",
        ),
        (
            {"metrics": {"f1": {"value": 2.0, "ci_low": None}}},
            "metrics.f1: value must be at most 1",
        ),
        ({"named": {"a": "1"}}, "named.a: expected int, got str"),
        ({"pair": [1]}, "pair: expected 2 values, got 1"),
        ({"pair": "1x"}, "pair: expected list, got str"),
        ({"pair": ["x", 1]}, r"pair\[0\]: expected int, got str"),
        ({"cells": [[1, 2], [3]]}, r"cells\[1\]: expected 2 values, got 1"),
        ({"many": [{"value": "a", "ci_low": None}]}, r"many\[0\].value: expected float, got str"),
        ({"rows": [1, math.nan]}, r"rows\[1\]: expected a finite number, got nan"),
        ({"rows": [math.inf]}, r"rows\[0\]: expected a finite number, got inf"),
        ({"rows": [10**400]}, r"rows\[0\]: expected a finite number, got inf"),
        ({"rows": [None]}, r"rows\[0\]: expected float, got null"),
        ({"best": 3}, "best: expected dict, got int"),
        ({"note": 0.5}, "note: expected str or int or NoneType, got float"),
        ({"extra": {"free": [math.nan]}}, r"extra.free\[0\]: expected a finite number, got nan"),
        ({"curve": {"threshold": [math.inf]}}, r"curve.threshold\[0\]: expected a finite number"),
        ({"schema_version": 3}, "Everything: expected schema_version 4, got 3"),
        ({"schema_version": "4"}, "Everything: expected schema_version 4, got '4'"),
        ({"surplus": 1}, "Everything: unknown key 'surplus'"),
    ],
)
def test_from_json_wrong_value_names_its_path(change, message):
    with pytest.raises(RecordError, match=rf"^{message}"):
        from_json(Everything, DATA | change)


@pytest.mark.parametrize("key", list(DATA))
def test_from_json_missing_key_raises_record_error(key):
    data = {name: value for name, value in DATA.items() if name != key}
    with pytest.raises(RecordError, match=rf"^Everything: missing key '{key}'$"):
        from_json(Everything, data)


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_from_json_other_than_a_dictionary_raises_record_error(data):
    with pytest.raises(DataError, match=r"^Everything: expected dict, got "):
        from_json(Everything, data)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_to_json_infinite_number_raises_record_error(value):
    with pytest.raises(RecordError, match=r"^value: expected a finite number, got "):
        to_json(Metric(value) if math.isnan(value) or value < 0 else Wide(value))


@dataclass(frozen=True)
class Wide:
    value: Any


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: "a"}, "value: expected str keys, got int"),
        ({"a": {1, 2}}, "value.a: expected a value for JSON, got set"),
        ([1, b"x"], r"value\[1\]: expected a value for JSON, got bytes"),
    ],
)
def test_to_json_unsupported_value_raises_record_error(value, message):
    with pytest.raises(RecordError, match=rf"^{message}$"):
        to_json(Wide(value))


def test_from_json_field_of_an_unsupported_type_raises_type_error():
    @dataclass(frozen=True)
    class Odd:
        data: bytes

    with pytest.raises(TypeError, match="data"):
        from_json(Odd, {"data": "x"})


@pytest.mark.parametrize(
    "text",
    ['{"value": NaN, "ci_low": null}', '{"value": 1e999, "ci_low": null}', "{", "", b"\xff"],
)
def test_loads_invalid_json_raises_record_error(text):
    with pytest.raises(RecordError, match=r"^Metric: not valid JSON "):
        loads(Metric, text)


def test_loads_deeply_nested_text_raises_record_error():
    with pytest.raises(RecordError):
        loads(Metric, "[" * 200_000)


def test_write_record_then_read_record_returns_the_record(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, RECORD)
    assert json.loads(path.read_text(encoding="utf-8")) == DATA
    assert "café" in path.read_text(encoding="utf-8")
    assert read_record(path, Everything) == RECORD
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_write_record_with_nan_keeps_the_old_file(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, Metric(0.5))
    with pytest.raises(RecordError):
        write_record(path, Metric(math.nan))
    assert read_record(path, Metric) == Metric(0.5)


def test_read_record_missing_file_raises_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "none.json", Metric)


@pytest.mark.parametrize(
    "text", [b"\xff", b"{", b"[" * 100_000, b"1e999", b"[Infinity]", b"", b'["\\ud800"]']
)
def test_parse_json_raises_a_record_error_for_every_text_that_is_not_json(text: bytes) -> None:
    with pytest.raises(RecordError, match=r"a\.json: not valid JSON"):
        parse_json(text, "a.json")


class Progress(TypedDict, total=False):
    epoch: int
    rate: float | None


def test_check_fields_keeps_known_and_unknown_keys() -> None:
    data = {"epoch": 1, "rate": None, "other": [1]}
    assert check_fields(data, Progress, "x") == data
    assert check_fields({}, Progress, "x") == {}


@pytest.mark.parametrize("data", [[], None, {"epoch": "1"}, {"epoch": True}, {"rate": "a"}])
def test_check_fields_with_another_type_raises(data: Any) -> None:
    with pytest.raises(RecordError, match=r"^x"):
        check_fields(data, Progress, "x")


def test_parse_json_with_half_a_character_raises() -> None:
    assert parse_json('"\\ud83d\\ude00"', "x") == "\U0001f600"
    for text in ('"\\ud800"', '{"\\udcff": 1}'):
        with pytest.raises(RecordError, match=r"^x: not valid JSON"):
            parse_json(text, "x")


MEMORY = """
import sys, psutil
from bc_model.utils.serialization import read_json
before = psutil.Process().memory_info().rss
try:
    content = read_json(sys.argv[1])
except OSError as error:
    content = error.strerror
print(type(content).__name__, (psutil.Process().memory_info().rss - before) // 2**20)
"""


@pytest.mark.parametrize(("n_bytes", "kind"), [(MAX_JSON_BYTES, "list"), (2**24, "str")])
def test_read_json_limits_memory(tmp_path: Path, n_bytes: int, kind: str) -> None:
    file = tmp_path / "bomb.json"
    file.write_bytes(b"[" + b"{}," * (n_bytes // 3 - 2) + b"{}]")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, file], capture_output=True, text=True, check=True
    )
    found, megabytes = done.stdout.split()
    assert found == kind
    assert int(megabytes) < 300


@dataclass(frozen=True)
class _WithOptional:
    name: str
    note: str | None = field(default=None, metadata={"optional": True})


def test_optional_field_is_absent_while_it_is_none():
    assert to_json(_WithOptional("a")) == {"name": "a"}
    assert from_json(_WithOptional, {"name": "a"}) == _WithOptional("a")
    assert from_json(_WithOptional, {"name": "a", "note": None}) == _WithOptional("a")
    written = to_json(_WithOptional("a", "b"))
    assert written == {"name": "a", "note": "b"}
    assert from_json(_WithOptional, written) == _WithOptional("a", "b")
    with pytest.raises(RecordError, match="missing key 'name'"):
        from_json(_WithOptional, {"note": "b"})
