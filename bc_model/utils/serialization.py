"""Convert frozen dataclasses to JSON and back, as their type hints describe them.

A record is a dataclass whose fields hold only JSON values, other records, tuples, lists,
dictionaries with text keys, string enumerations and paths. Every key is required, no other key is
accepted, and no number may be NaN or infinite.

Two entries in the metadata of a field change how it is written:

- ``json=False`` leaves the field out. It needs a default value.
- ``null_means=math.inf`` writes infinity, for which JSON has no number, as null.

A class attribute ``SCHEMA_VERSION`` is written as ``schema_version`` and checked on reading.
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from enum import Enum, StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from bc_model.errors import RecordError
from bc_model.utils.io import write_text_atomic

R = TypeVar("R")

VERSION_KEY = "schema_version"


def to_json(record: Any) -> dict[str, Any]:
    """Return a record as a dictionary that JSON can hold.

    Parameters
    ----------
    record : dataclass instance
        NumPy numbers and arrays in it become plain numbers and lists.

    Returns
    -------
    dict
        One key per field, in the order of the fields, after ``schema_version`` if there is one.

    Raises
    ------
    RecordError
        A number is NaN or infinite, or a value has no form in JSON. The message names its path.

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
    """Return the record that a dictionary describes.

    Parameters
    ----------
    cls : type
        Dataclass of the record.
    data : dict
        Content as `to_json` returns it.

    Raises
    ------
    RecordError
        A key is missing or unknown, a value has another type, or the record refuses its values.
        The message names the path, such as ``metrics.roc_auc.ci_low``.

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
    record: R = _decode_record(cls, data, "")
    return record


def dumps(record: Any) -> str:
    """Return a record as JSON text that ends with a line break."""
    return json.dumps(to_json(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def loads(cls: type[R], text: str | bytes) -> R:
    """Return the record in a JSON text.

    Raises
    ------
    RecordError
        The text is not JSON in UTF-8, or does not describe such a record.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_finite)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{cls.__name__}: not valid JSON ({error})") from error
    return from_json(cls, data)


def read_record(path: str | Path, cls: type[R]) -> R:
    """Return the record in a JSON file.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    RecordError
        The file does not contain such a record.
    """
    return loads(cls, Path(path).read_bytes())


def write_record(path: str | Path, record: Any) -> None:
    """Write a record to a JSON file, completely or not at all."""
    write_text_atomic(Path(path), dumps(record))


def _encode_record(record: Any, path: str) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    if (version := getattr(record, "SCHEMA_VERSION", None)) is not None:
        encoded[VERSION_KEY] = version
    for field in _json_fields(type(record)):
        null_means = field.metadata.get("null_means")
        value = getattr(record, field.name)
        encoded[field.name] = _encode(value, _join(path, field.name), null_means)
    return encoded


def _encode(value: Any, path: str, null_means: float | None) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_record(value, path)
    if isinstance(value, float):
        if null_means is not None and value == null_means:
            return None
        if not math.isfinite(value):
            raise RecordError(f"{path}: expected a finite number, got {value}")
        return value
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_encode(one, f"{path}[{i}]", null_means) for i, one in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _encode_key(key, path): _encode(one, _join(path, str(key)), null_means)
            for key, one in value.items()
        }
    raise RecordError(f"{path}: expected a value for JSON, got {type(value).__name__}")


def _encode_key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise RecordError(f"{path}: expected str keys, got {type(key).__name__}")
    return str(key.value) if isinstance(key, StrEnum) else key


def _decode_record(cls: Any, data: Any, path: str) -> Any:
    where = path or cls.__name__
    data = _expect(data, dict, path or where)
    version = getattr(cls, "SCHEMA_VERSION", None)
    if version is not None:
        _check_version(data, version, where)
    fields = {field.name: field for field in _json_fields(cls)}
    expected = set(fields) | ({VERSION_KEY} if version is not None else set())
    if missing := [name for name in fields if name not in data]:
        raise RecordError(f"{where}: missing key '{missing[0]}'")
    if unknown := sorted(map(str, set(data) - expected)):
        raise RecordError(f"{where}: unknown key '{unknown[0]}'")
    hints = _hints(cls)
    values = {
        name: _decode(data[name], hints[name], _join(path, name), field.metadata.get("null_means"))
        for name, field in fields.items()
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise RecordError(f"{where}: {error}") from error


def _check_version(data: dict[str, Any], version: int, where: str) -> None:
    if VERSION_KEY not in data:
        raise RecordError(f"{where}: missing key '{VERSION_KEY}'")
    found = data[VERSION_KEY]
    if found != version or isinstance(found, bool):
        raise RecordError(f"{where}: expected {VERSION_KEY} {version}, got {found!r}")


def _decode(value: Any, hint: Any, path: str, null_means: float | None) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return _encode(value, path, None)
    if hint is float:
        if value is None and null_means is not None:
            return null_means
        return _decode_float(value, path)
    if origin in (Union, types.UnionType):
        return _decode_union(value, args, path, null_means)
    if origin is Literal:
        if not any(value == one and type(value) is type(one) for one in args):
            _refuse(path, f"one of {', '.join(map(repr, args))}", repr(value))
        return value
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, value, path)
    if origin in (tuple, list):
        return _decode_sequence(value, origin, args, path, null_means)
    if origin in (dict, Mapping):
        key_hint, one_hint = args
        return {
            _decode(key, key_hint, _join(path, key), None): _decode(
                one, one_hint, _join(path, key), null_means
            )
            for key, one in _expect(value, dict, path).items()
        }
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        members = [member.value for member in hint]
        if not isinstance(value, str) or value not in members:
            _refuse(path, f"one of {', '.join(map(repr, members))}", repr(value))
        return hint(value)
    if hint is Path:
        return Path(_expect(value, str, path))
    if hint in (bool, int, str):
        return _expect(value, hint, path)
    if hint is type(None):
        return value if value is None else _refuse(path, "null", _type_name(value))
    raise TypeError(f"{path}: records cannot have fields of the type {hint}")


def _decode_union(value: Any, args: tuple[Any, ...], path: str, null_means: float | None) -> Any:
    if value is None and type(None) in args:
        return None
    others = [one for one in args if one is not type(None)]
    if len(others) == 1:
        return _decode(value, others[0], path, null_means)
    for one in others:
        try:
            return _decode(value, one, path, null_means)
        except RecordError:
            continue
    names = [getattr(one, "__name__", str(one)) for one in args]
    return _refuse(path, " or ".join(names), _type_name(value))


def _decode_sequence(
    value: Any, kind: type, args: tuple[Any, ...], path: str, null_means: float | None
) -> Any:
    if not isinstance(value, (list, tuple)):
        _refuse(path, "list", _type_name(value))
    is_fixed = kind is tuple and not (len(args) == 2 and args[1] is Ellipsis)
    if is_fixed and len(value) != len(args):
        _refuse(path, f"{len(args)} values", str(len(value)))
    hints = args if is_fixed else (args[0],) * len(value)
    return kind(
        _decode(one, hint, f"{path}[{i}]", null_means)
        for i, (one, hint) in enumerate(zip(value, hints, strict=True))
    )


def _decode_float(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(path, "float", _type_name(value))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        _refuse(path, "a finite number", str(number))
    return number


def _expect(value: Any, kind: type, path: str) -> Any:
    # A bool is an int for isinstance, but not for a reader of the file.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        _refuse(path, kind.__name__, _type_name(value))
    return value


def _refuse(path: str, expected: str, found: str) -> NoReturn:
    raise RecordError(f"{path}: expected {expected}, got {found}")


def _type_name(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=256)
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _json_fields(cls: Any) -> list[dataclasses.Field[Any]]:
    return [one for one in dataclasses.fields(cls) if one.metadata.get("json", True)]


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _parse_finite(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _refuse_constant(word)
