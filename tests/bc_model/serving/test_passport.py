"""The passport's schema: what is refused, and with which words."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bc_model.errors import BundleError
from bc_model.serving.passport import (
    INTENDED_USE,
    LIMITS,
    PASSPORT_FILE,
    SCHEMA,
    check_passport,
    drawn_in_words,
    read_passport,
    write_passport,
)

VALID: dict[str, Any] = {
    "schema_version": 1,
    "name": "20261123-181500-tiny",
    "version": "0.1.0",
    "created": "2026-11-23T18:15:00+00:00",
    "architecture": {"backbone": "tiny", "initial_weights": "none", "parameters": 6000},
    "classes": ["benign", "malignant"],
    "input": {
        "height_px": 32, "width_px": 32, "channels": "RGB", "range": [0, 255],
        "preprocessing": "in the graph: scale", "training_sizes": ["96x64"],
    },
    "scale": {"magnifications": [200], "mpp_range": {"200": [0.5, 0.6]}, "source": "estimate"},
    "data": {
        "manifest_sha256": "0" * 64, "split_sha256": "1" * 64, "protocol": "case",
        "leaky": False, "pictures": {"train": 18, "validation": 6, "test": 6},
        "cases": {"train": 6},
        "training_cases": ["90001"], "validation_cases": ["90002"], "drawn": True,
        "licence": "unknown",
    },
    "metrics": {},
    "threshold": {"value": 0.5, "chosen": "default"},
    "temperature": {"value": 1.0, "chosen": "default"},
    "precisions": {},
    "intended_use": INTENDED_USE,
    "limits": LIMITS,
    "files": {"model.keras": "a" * 64},
}  # fmt: skip

REQUIRED = [
    *((name,) for name in SCHEMA["required"]),
    *(
        (part, name)
        for part, rules in SCHEMA["properties"].items()
        for name in rules.get("required", ())
    ),
]


def changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    passport = copy.deepcopy(VALID)
    place = passport
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return passport


def write(folder: Path, text: str) -> Path:
    (folder / PASSPORT_FILE).write_text(text, encoding="utf-8")
    return folder


def test_a_valid_passport_is_returned_as_it_is() -> None:
    assert check_passport(VALID, "here") is VALID


def test_a_written_passport_is_read_back(tmp_path: Path) -> None:
    write_passport(tmp_path, VALID)
    assert read_passport(tmp_path) == VALID
    assert [path.name for path in tmp_path.iterdir()] == [PASSPORT_FILE]


def test_every_part_is_required() -> None:
    assert set(SCHEMA["required"]) == set(VALID)


@pytest.mark.parametrize("path", REQUIRED, ids="/".join)
def test_a_missing_field_is_refused_by_name(path: tuple[str, ...]) -> None:
    passport = copy.deepcopy(VALID)
    place = passport
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    with pytest.raises(BundleError, match=path[-1]):
        check_passport(passport, "here")


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_schema_version_is_refused_with_both_numbers(version: int) -> None:
    with pytest.raises(BundleError, match=f"version {version}; this program reads version 1"):
        check_passport(changed(("schema_version",), version), "here")


@pytest.mark.parametrize("version", ["1", None, 1.5, True])
def test_a_schema_version_of_another_kind_is_refused(version: object) -> None:
    with pytest.raises(BundleError, match="schema_version"):
        check_passport(changed(("schema_version",), version), "here")


@pytest.mark.parametrize(
    "classes", [["malignant", "benign"], ["benign", "malignant", "normal"], ["a", "b"]]
)
def test_other_classes_or_another_order_are_refused(classes: list[str]) -> None:
    with pytest.raises(BundleError, match="in this order"):
        check_passport(changed(("classes",), classes), "here")


@pytest.mark.parametrize(
    "name",
    ["../model.keras", "a/b.bin", "a\\b.bin", "/etc/passwd", "C:model", ".hidden", "..", ""],
)
def test_a_file_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="files"):
        check_passport(changed(("files",), {name: "a" * 64}), "here")


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, 5])
def test_a_hash_that_is_none_is_refused(digest: object) -> None:
    with pytest.raises(BundleError, match=r"files/model\.keras"):
        check_passport(changed(("files",), {"model.keras": digest}), "here")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("files",), {}),
        (("surprise",), 1),
        (("name",), ""),
        (("input", "height_px"), 0),
        (("input", "width_px"), 32.5),
        (("scale", "magnifications"), ["200"]),
        (("data", "leaky"), "no"),
        (("threshold", "value"), -0.01),
        (("threshold", "value"), 1.01),
        (("threshold", "value"), "0.5"),
        (("threshold", "value"), True),
        (("temperature", "value"), 0),
        (("temperature", "value"), -1.0),
        (("metrics",), []),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused(path: tuple[str, ...], value: object) -> None:
    with pytest.raises(BundleError, match="not valid"):
        check_passport(changed(path, value), "here")


@pytest.mark.parametrize("passport", [None, [], "text", 1, {}])
def test_a_passport_that_is_no_object_is_refused(passport: object) -> None:
    with pytest.raises(BundleError):
        check_passport(passport, "here")


@pytest.mark.parametrize("part", ["threshold", "temperature"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(part: str, value: str, tmp_path: Path) -> None:
    """No probability reaches a threshold of NaN: every picture would be called benign."""
    text = json.dumps(changed((part, "value"), "HERE")).replace('"HERE"', value)
    with pytest.raises(BundleError):
        read_passport(write(tmp_path, text))


def test_a_figure_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises((BundleError, ValueError)):
        write_passport(tmp_path, changed(("metrics",), {"accuracy": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_an_invalid_passport_does_not_replace_a_valid_one(tmp_path: Path) -> None:
    write_passport(tmp_path, VALID)
    with pytest.raises(BundleError):
        write_passport(tmp_path, changed(("classes",), ["malignant", "benign"]))
    assert read_passport(tmp_path) == VALID


def test_a_folder_without_a_passport_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no passport\.json"):
        read_passport(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"not JSON"])
def test_a_passport_that_is_no_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / PASSPORT_FILE).write_bytes(content)
    with pytest.raises(BundleError, match="cannot be read as JSON"):
        read_passport(tmp_path)


def test_a_passport_nested_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        read_passport(write(tmp_path, "[" * 200_000))


def test_the_words_say_that_it_is_no_diagnosis() -> None:
    assert "not a diagnosis" in INTENDED_USE
    assert "no normal tissue" in LIMITS


def test_drawn_pictures_teach_nothing_of_tissue_but_a_first_model_may_have() -> None:
    assert drawn_in_words({}).endswith("knows nothing of tissue.")
    assert drawn_in_words({"initial_cases": []}).endswith("knows nothing of tissue.")
    assert drawn_in_words({"initial_cases": ["1", "2"]}).endswith("had learned, from 2 cases.")


def test_a_number_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    text = json.dumps(VALID).replace('"threshold": {"value": 0.5', '"threshold": {"value": 1e999')
    assert "1e999" in text
    with pytest.raises(BundleError, match="cannot be read as JSON"):
        read_passport(write(tmp_path, text))


def test_figures_of_another_kind_are_refused() -> None:
    with pytest.raises(BundleError, match="metrics/test/figures/accuracy"):
        check_passport(changed(("metrics",), {"test": {"figures": {"accuracy": "good"}}}), "here")
