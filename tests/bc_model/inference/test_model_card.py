"""The model card: the values it refuses, and its file."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bc_model.data.stain import STAIN_COLUMNS
from bc_model.errors import BundleError
from bc_model.inference.model_card import (
    INTENDED_USE,
    LIMITS,
    MODEL_CARD_FILE,
    Architecture,
    CardMetrics,
    DecisionThreshold,
    EvaluationSummary,
    ModelCard,
    ModelInput,
    Scale,
    StainStatistics,
    SubsetCounts,
    Temperature,
    TrainingData,
    describe_synthetic_training,
    read_model_card,
    write_model_card,
)
from bc_model.inference.precision import Parity
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import to_json

CARD = ModelCard(
    name="20261123-181500-tiny",
    version="0.1.0",
    created="2026-11-23T18:15:00+00:00",
    architecture=Architecture("tiny", "none", 6000, (16,), 0.5),
    input=ModelInput(
        32,
        32,
        "in the graph: scale",
        ("96x64",),
        stain=StainStatistics(
            (0.01, 0.5, 0.99), dict.fromkeys(STAIN_COLUMNS, (0.1, 0.2, 0.3)), 0.0
        ),
    ),
    scale=Scale((200,), {"200": (0.5, 0.6)}, "estimate"),
    data=TrainingData(
        dataset_sha256="0" * 64,
        split_sha256="1" * 64,
        protocol="case",
        has_leakage=False,
        n_images=SubsetCounts(18, 6, 6),
        n_cases=SubsetCounts(6, 2, 2),
        training_cases=("90001",),
        validation_cases=("90002",),
        is_synthetic=True,
        license="unknown",
    ),
    metrics=CardMetrics(
        EvaluationSummary(
            "case",
            False,
            0.5,
            6,
            2,
            0.5,
            {
                name: Metric(0.9, 0.8, 1.0, 6, 2, "bootstrap")
                for name in ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
            },
        )
    ),
    threshold=DecisionThreshold(0.5, "default"),
    temperature=Temperature(1.0, "default"),
    precisions={"f32": Parity(0.0, None, 6, True)},
    files={"model.keras": "a" * 64},
)


def write(folder: Path, path: str, value: object) -> Path:
    """Write the card with one changed value, past the checks of the dataclasses."""
    data = to_json(CARD)
    *parents, last = path.split("/")
    parent: Any = data
    for name in parents:
        parent = parent[name]
    parent[last] = value
    (folder / MODEL_CARD_FILE).write_text(json.dumps(data), encoding="utf-8")
    return folder


def test_write_model_card_then_read_gives_it_back(tmp_path: Path) -> None:
    write_model_card(tmp_path, CARD)
    assert read_model_card(tmp_path) == CARD
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_CARD_FILE]


def test_write_model_card_states_schema_version_two_first(tmp_path: Path) -> None:
    write_model_card(tmp_path, CARD)
    data = json.loads((tmp_path / MODEL_CARD_FILE).read_text(encoding="utf-8"))
    assert next(iter(data.items())) == ("schema_version", 2)


@pytest.mark.parametrize("key", list(to_json(CARD)))
def test_read_model_card_missing_key_is_refused_by_name(key: str, tmp_path: Path) -> None:
    data = {name: value for name, value in to_json(CARD).items() if name != key}
    (tmp_path / MODEL_CARD_FILE).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BundleError, match=f"missing key '{key}'"):
        read_model_card(tmp_path)


@pytest.mark.parametrize("version", [0, 1, 99, "2", None, 2.5, True])
def test_read_model_card_other_schema_version_is_refused(version: object, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"expected schema_version 2, got {version!r}"):
        read_model_card(write(tmp_path, "schema_version", version))


@pytest.mark.parametrize(
    "name",
    ["../model.keras", "a/b.bin", "a\\b.bin", "/etc/passwd", "C:model", ".hidden", "..", "", "a\n"],
)
def test_read_model_card_file_name_that_is_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="files: expected file names"):
        read_model_card(write(tmp_path, "files", {name: "a" * 64}))
    with pytest.raises(BundleError, match="name: expected letters"):
        read_model_card(write(tmp_path, "name", name))


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", 5])
def test_read_model_card_value_that_is_not_a_hash_is_refused(
    digest: object, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"files\.model\.keras: expected "):
        read_model_card(write(tmp_path, "files", {"model.keras": digest}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("files", {}),
        ("surprise", 1),
        ("version", ""),
        ("version", "1\x00"),
        ("version", "\ud800"),
        ("limits", "a" * 20_001),
        ("created", "9999-99"),
        ("data/training_cases", ["90001\x1b"]),
        ("data/dataset_sha256", "0"),
        ("data/n_images/train", 10**15),
        ("intended_use", ""),
        ("classes", ["malignant", "benign"]),
        ("classes", ["benign", "malignant", "normal"]),
        ("architecture/backbone", ""),
        ("architecture/backbone", "resnet5000"),
        ("architecture/n_parameters", -1),
        ("architecture/dense_units", [0]),
        ("architecture/dense_units", [10**6]),
        ("architecture/dropout", 1.5),
        ("input/height_px", 0),
        ("input/height_px", 10**5),
        ("input/channels", "BGR"),
        ("input/value_range", [0, 1]),
        ("input/training_sizes", ["96"]),
        ("input/reshaped_sizes", ["0x64"]),
        ("input/width_px", 32.5),
        ("input/value_range", [0]),
        ("input/stain/values", {"eosin_mean": [0.1, 0.2, 0.3]}),
        ("input/stain/values/eosin_mean", [1.0, 2.0]),
        ("input/stain/quantiles", [0.01, 0.99, 0.5]),
        ("input/stain/quantiles", [0.1, 0.5, 0.9]),
        ("input/stain/grayscale_proportion", 1.5),
        ("scale/magnifications", ["200"]),
        ("scale/magnifications", [-200]),
        ("scale/magnifications", [0]),
        ("scale/mpp_range", {"x": [0.5, 0.6]}),
        ("scale/mpp_range", {"200": [0.6, 0.5]}),
        ("scale/mpp_range", {"200": [0.5]}),
        ("data/has_leakage", "no"),
        ("data/license", ""),
        ("data/n_images", {"train": 1}),
        ("data/n_cases/test", -1),
        ("threshold/value", -0.01),
        ("threshold/value", 1.01),
        ("threshold/value", "0.5"),
        ("threshold/value", True),
        ("threshold/method", ""),
        ("threshold/unit", "slide"),
        ("threshold/date", "yesterday"),
        ("temperature/value", 1e-308),
        ("temperature/value", 0),
        ("temperature/value", -1.0),
        ("temperature/value", 101),
        ("metrics", []),
        ("metrics/test/metrics", {}),
        ("metrics/test/threshold", 2),
        ("metrics/test/metrics/accuracy/n_images", -1),
        ("metrics/test/checks", [{"code": "BC212", "severity": "info", "params": {}}]),
        ("metrics/test/subgroups", [{"kind": "magnification", "name": "40X", "metrics": {}}]),
        ("metrics/test/metrics/accuracy", "good"),
        ("metrics/test/metrics/accuracy/low", None),
        ("precisions/f16", to_json(CARD.precisions["f32"])),
        ("precisions/f32/n_images", -1),
    ],
    ids=str,
)
def test_read_model_card_value_out_of_range_is_refused(
    path: str, value: object, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="is not valid"):
        read_model_card(write(tmp_path, path, value))


@pytest.mark.parametrize("path", ["threshold/value", "temperature/value"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_read_model_card_number_that_is_not_finite_is_refused(
    path: str, value: str, tmp_path: Path
) -> None:
    """No probability reaches a threshold of NaN: every image would be predicted benign."""
    file = write(tmp_path, path, "HERE") / MODEL_CARD_FILE
    file.write_text(file.read_text(encoding="utf-8").replace('"HERE"', value), encoding="utf-8")
    with pytest.raises(BundleError, match="is not valid"):
        read_model_card(tmp_path)


def test_decision_threshold_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="value: expected 0 to 1, got nan"):
        DecisionThreshold(float("nan"), "default")


def test_write_model_card_invalid_card_does_not_replace_a_valid_one(tmp_path: Path) -> None:
    write_model_card(tmp_path, CARD)
    with pytest.raises(BundleError, match="files: expected at least one"):
        write_model_card(tmp_path, replace(CARD, files={}))
    broken = replace(CARD, architecture=replace(CARD.architecture, config={"steps": object()}))
    with pytest.raises(BundleError, match="steps"):
        write_model_card(tmp_path, broken)
    assert read_model_card(tmp_path) == CARD


def test_read_model_card_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no model_card\.json"):
        read_model_card(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"not JSON", b"[" * 200_000, b"null", b"[]", b"1", b"{}"]
)
def test_read_model_card_other_content_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MODEL_CARD_FILE).write_bytes(content)
    with pytest.raises(BundleError, match="is not valid"):
        read_model_card(tmp_path)


def test_read_model_card_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / MODEL_CARD_FILE).mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        read_model_card(tmp_path)


def test_intended_use_excludes_diagnosis() -> None:
    assert "not a diagnosis" in INTENDED_USE
    assert "no normal tissue" in LIMITS


def test_describe_synthetic_training_counts_the_cases_of_the_initial_weights() -> None:
    assert describe_synthetic_training(CARD.data).endswith("Do not use it for tissue.")
    initialized = replace(CARD.data, initial_cases=("1", "2"))
    assert describe_synthetic_training(initialized).endswith("tissue, from 2 cases.")


@pytest.mark.parametrize("depth", [20, 100, 400, 700])
def test_read_model_card_deeply_nested_value_is_refused(depth: int, tmp_path: Path) -> None:
    nested: list = []
    for _ in range(depth):
        nested = [nested]
    folder = write(tmp_path, "architecture/config", {"a": nested})
    with pytest.raises(BundleError, match=r"nested too deeply|recursion"):
        read_model_card(folder)


def test_read_model_card_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / MODEL_CARD_FILE).write_bytes(b" " * (4 * 2**20 + 1))
    with pytest.raises(BundleError, match="Larger than 4 MB"):
        read_model_card(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_read_model_card_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MODEL_CARD_FILE)
    with pytest.raises(BundleError, match="Not a regular file"):
        read_model_card(tmp_path)
