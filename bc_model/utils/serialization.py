"""Convert frozen dataclasses (records) to JSON and back according to their type hints.

Fields contain JSON values, records, tuples, lists, dictionaries with str keys, string enumerations
or paths. Every key is required, other keys are errors, and every number is finite.

Field metadata: ``json=False`` omits a field, which needs a default; ``optional=True`` uses the
default for a missing key, and omits the key while it is None; ``null_means=math.inf`` writes
infinity as null. A class attribute ``SCHEMA_VERSION`` is written and checked.
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from bc_model.errors import RecordError
from bc_model.utils.io import read_bytes, write_text_atomic

R = TypeVar("R")

MAX_JSON_BYTES = 4 * 2**20
"""Default limit of a file. Its values take up to 30 times the memory of their text."""
VERSION_KEY = "schema_version"
_get_hints = lru_cache(maxsize=256)(get_type_hints)


def to_json(record: Any) -> dict[str, Any]:
    """Return a record as a dictionary of JSON values, one key per field.

    NumPy numbers and arrays become numbers and lists.

    Raises
    ------
    RecordError
        If a number is not finite or a value is not supported. The message contains its path.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Size:
    ...     width_px: int
    ...     height_px: int
    >>> to_json(Size(700, 460))
    {'width_px': 700, 'height_px': 460}
    """
    return _encode_record(record, "")


def from_json(cls: type[R], data: Any) -> R:
    """Return the record for a dictionary from `to_json`.

    Raises
    ------
    RecordError
        If a key is missing or unknown, or a value is invalid. The message contains its path, such
        as ``metrics.roc_auc.ci_low``.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Size:
    ...     width_px: int
    ...     height_px: int
    >>> from_json(Size, {"width_px": 700, "height_px": "460"})
    Traceback (most recent call last):
        ...
    bc_model.errors.RecordError: height_px: expected int, got str
    """
    try:
        return _decode_record(cls, data, "")
    except RecursionError as error:
        raise RecordError(f"{cls.__name__}: nested too deeply") from error


def dumps(record: Any) -> str:
    """Return a record as indented JSON text."""
    return json.dumps(to_json(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def loads(cls: type[R], text: str | bytes) -> R:
    """Return the record in a JSON text.

    Raises
    ------
    RecordError
        If the text is not JSON in UTF-8 or not a record of this class.
    """
    return from_json(cls, parse_json(text, cls.__name__))


def read_record(path: str | Path, cls: type[R], max_bytes: int = MAX_JSON_BYTES) -> R:
    """Return the record in a JSON file, or raise an OSError or a RecordError."""
    return loads(cls, read_bytes(path, max_bytes))


def parse_json(text: str | bytes, name: str) -> Any:
    """Return the value of a JSON text in UTF-8, in which every number is finite.

    Raises
    ------
    RecordError
        If the text is not UTF-8, not JSON, or nested too deeply. The message starts with `name`.

    Examples
    --------
    >>> parse_json(b'{"value": NaN}', "status.json")
    Traceback (most recent call last):
        ...
    bc_model.errors.RecordError: status.json: not valid JSON (NaN is not a JSON number)
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, parse_constant=_reject_constant, parse_float=_parse_finite)
        if "\\u" in text:  # An escape can be half of a character, which no file or page accepts.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{name}: not valid JSON ({error})") from error


def check_fields(data: Any, fields: Any, name: str) -> Any:
    """Return a JSON object whose known keys have the types of a `TypedDict`.

    Unlike a record, the object may lack keys and have unknown keys.

    Raises
    ------
    RecordError
        The data is no object, or has a value of another type.

    Examples
    --------
    >>> from typing import TypedDict
    >>> class Progress(TypedDict, total=False):
    ...     epoch: int
    >>> check_fields({"epoch": "2"}, Progress, "status.json")
    Traceback (most recent call last):
        ...
    bc_model.errors.RecordError: status.json.epoch: expected int, got str
    """
    data = _expect(data, dict, name)
    for key, hint in _get_hints(fields).items():
        if key in data:
            _decode(data[key], hint, _join(name, key))
    return data


def read_json(path: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Return the value in a JSON file, or raise an OSError or a RecordError; see `parse_json`."""
    return parse_json(read_bytes(path, max_bytes), Path(path).name)


def write_record(path: str | Path, record: Any) -> None:
    """Write a record atomically to a JSON file."""
    write_text_atomic(path, dumps(record))


def _encode_record(record: Any, path: str) -> dict[str, Any]:
    version = getattr(record, "SCHEMA_VERSION", None)
    encoded = {} if version is None else {VERSION_KEY: version}
    for field in _json_fields(type(record)):
        value = getattr(record, field.name)
        if value is None and field.metadata.get("optional"):
            continue
        encoded[field.name] = _encode(
            value, _join(path, field.name), field.metadata.get("null_means")
        )
    return encoded


def _encode(value: Any, path: str, null_means: float | None = None) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_record(value, path)
    if isinstance(value, float):
        if null_means is not None and value == null_means:
            return None
        return value if math.isfinite(value) else _fail(path, "a finite number", str(value))
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_encode(item, f"{path}[{i}]", null_means) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if other := [key for key in value if not isinstance(key, str)]:
            _fail(path, "str keys", type(other[0]).__name__)
        return {str(k): _encode(item, _join(path, k), null_means) for k, item in value.items()}
    return _fail(path, "a value for JSON", type(value).__name__)


def _decode_record(cls: Any, data: Any, path: str) -> Any:
    where = path or cls.__name__
    data = _expect(data, dict, where)
    fields = {field.name: field for field in _json_fields(cls)}
    keys = set(fields)
    if (version := getattr(cls, "SCHEMA_VERSION", None)) is not None:
        keys.add(VERSION_KEY)
        found = data.get(VERSION_KEY, version)
        if found != version or isinstance(found, bool):
            _fail(where, f"{VERSION_KEY} {version}", repr(found))
    optional = {name for name, field in fields.items() if field.metadata.get("optional")}
    if missing := sorted(keys - optional - set(data)):
        raise RecordError(f"{where}: missing key '{missing[0]}'")
    if unknown := sorted(map(str, set(data) - keys)):
        raise RecordError(f"{where}: unknown key '{unknown[0]}'")
    hints = _get_hints(cls)
    values = {
        name: _decode(data[name], hints[name], _join(path, name), field.metadata.get("null_means"))
        for name, field in fields.items()
        if name in data
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise RecordError(f"{where}: {error}") from error


def _decode(value: Any, hint: Any, path: str, null_means: float | None = None) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return _encode(value, path)
    if hint is float:
        is_null = value is None and null_means is not None
        return null_means if is_null else _decode_float(value, path)
    if origin in (Union, types.UnionType):
        return _decode_union(value, args, path, null_means)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in args):
            _fail(path, f"one of {', '.join(map(repr, args))}", repr(value))
        return value
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, value, path)
    if origin in (tuple, list):
        return _decode_sequence(value, origin, args, path, null_means)
    if origin in (dict, Mapping):
        return {
            _decode(key, args[0], _join(path, key)): _decode(
                item, args[1], _join(path, key), null_means
            )
            for key, item in _expect(value, dict, path).items()
        }
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        members = [member.value for member in hint]
        if value not in members:
            _fail(path, f"one of {', '.join(map(repr, members))}", repr(value))
        return hint(value)
    if hint is Path:
        return Path(_expect(value, str, path))
    if hint in (bool, int, str, type(None)):
        return _expect(value, hint, path)
    raise TypeError(f"{path}: records cannot have fields of the type {hint}")


def _decode_union(value: Any, args: tuple[Any, ...], path: str, null_means: float | None) -> Any:
    if value is None and type(None) in args:
        return None
    hints = [hint for hint in args if hint is not type(None)]
    if len(hints) == 1:
        return _decode(value, hints[0], path, null_means)
    for hint in hints:
        with suppress(RecordError):
            return _decode(value, hint, path, null_means)
    names = [getattr(hint, "__name__", str(hint)) for hint in args]
    return _fail_type(path, " or ".join(names), value)


def _decode_sequence(
    value: Any, kind: type, args: tuple[Any, ...], path: str, null_means: float | None
) -> Any:
    if not isinstance(value, (list, tuple)):
        _fail_type(path, "list", value)
    is_fixed = kind is tuple and not (len(args) == 2 and args[1] is Ellipsis)
    if is_fixed and len(value) != len(args):
        _fail(path, f"{len(args)} values", str(len(value)))
    hints = args if is_fixed else (args[0],) * len(value)
    return kind(
        _decode(item, hint, f"{path}[{i}]", null_means)
        for i, (item, hint) in enumerate(zip(value, hints, strict=True))
    )


def _decode_float(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _fail_type(path, "float", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    return number if math.isfinite(number) else _fail(path, "a finite number", str(number))


def _expect(value: Any, kind: type, path: str) -> Any:
    # isinstance accepts a bool as an int, but JSON distinguishes them.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        _fail_type(path, kind.__name__, value)
    return value


def _fail(path: str, expected: str, found: str) -> NoReturn:
    raise RecordError(f"{path}: expected {expected}, got {found}")


def _fail_type(path: str, expected: str, value: Any) -> NoReturn:
    _fail(path, expected, "null" if value is None else type(value).__name__)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _json_fields(cls: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.metadata.get("json", True)]


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _parse_finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _reject_constant(text)
