"""`build-bundled-model`: arguments of the build, and output."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bc_model.cli import commands
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.nested_cv import SEARCH_SPACE, proxy_config
from bc_model.errors import ConfigError, DataError
from bc_model.inference.model_card import CardMetrics, NestedResult, ProtocolResult, SearchSpace
from bc_model.utils.measurement import Metric
from bc_model.utils.serialization import to_json
from benchmarks.model_card import dummy_model_card

REPORTED_METRICS = {
    name: Metric(value, 0.5, 1.0, 9, 3, "bootstrap")
    for name, value in (("roc_auc", 0.91), ("balanced_accuracy", 0.82), ("accuracy", 0.8))
}
CARD = replace(
    dummy_model_card((160, 240)),
    metrics=CardMetrics(
        protocols=(
            ProtocolResult("case", False, 5, 9, 3, REPORTED_METRICS),
            ProtocolResult("image", True, 1, 9, 3, REPORTED_METRICS),
        ),
        nested=NestedResult(
            "large networks",
            "small networks",
            SearchSpace({}, (), ()),
            (),
            5,
            9,
            3,
            REPORTED_METRICS,
        ),
    ),
)

CONFIGS = (DistillationConfig(), proxy_config(DistillationConfig()))
"""Configurations of the evaluated and of the selecting networks."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a directory with two empty datasets."""
    for name in ("breakhis_100x", "breakhis_200x_224"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Return the list to which the replaced functions append their arguments."""
    found: list[tuple] = []

    def build_bundled_model(*arguments, n_processes, nested):
        found.append((*arguments, n_processes, nested))
        return SimpleNamespace(card=CARD, folder=arguments[2])

    monkeypatch.setattr("bc_model.distillation.build_bundled_model", build_bundled_model)
    for name in ("cross_validate_protocols", "nested_cross_validate", "train_on_all"):
        monkeypatch.setattr(
            f"bc_model.distillation.{name}",
            lambda *args, name=name, **more: found.append((name, *args, *more.values())),
        )
    monkeypatch.setattr("bc_model.distillation.data.TrainingImages.read", lambda *args: args)
    return found


def test_build_prints_the_cross_validation_results(calls, data: Path):
    (data / "folds").mkdir()
    file = data / "folds" / "dsfold1.txt"
    file.write_text("")
    done = CliRunner().invoke(
        commands,
        ["build-bundled-model", str(data), "--out", str(data / "model"), "--work", "work"],
        standalone_mode=False,
    )

    assert done.exception is None
    datasets = ("breakhis_100x", "breakhis_200x_224")
    assert calls == [(data, datasets, data / "model", Path("work"), file, 0, CONFIGS)]
    case, image, nested, last = done.stdout.splitlines()
    assert case == (
        "case, 5 folds: roc auc 0.910, balanced accuracy 0.820, accuracy 0.800; 9 images of 3 cases"
    )
    assert image.startswith("image (with leakage), 1 fold: ")
    assert nested == case.replace(
        "case,", "case, nested; selected by small networks; evaluated with large networks,"
    )
    assert last == f"Model written to {data / 'model'}"


def test_build_without_official_folds_prints_a_message(calls, data: Path, monkeypatch):
    monkeypatch.setenv("BC_DATA", str(data))
    done = CliRunner().invoke(commands, ["build-bundled-model", "--json"], standalone_mode=False)

    assert "The official folds are skipped." in done.stderr
    assert calls[0][2].name == "breakhis-scratch"
    assert calls[0][4] is None
    assert json.loads(done.stdout) == to_json(CARD)


@pytest.mark.parametrize("more", [[], ["--train-only"]])
def test_build_with_an_unusable_work_directory_raises_before_training(calls, data: Path, more):
    (data / "file").write_text("x")

    start = ["build-bundled-model", str(data), "--work", str(data / "file")]
    done = CliRunner().invoke(commands, [*start, *more], standalone_mode=False)

    assert isinstance(done.exception, NotADirectoryError)
    assert calls == []


@pytest.mark.parametrize(("networks", "config"), [("full", CONFIGS[0]), ("proxy", CONFIGS[1])])
def test_build_with_other_nested_networks_passes_their_config(calls, data: Path, networks, config):
    start = ["build-bundled-model", str(data), "--work", "kept", "--nested-cv", networks]
    for more in (["--train-only"], []):
        CliRunner().invoke(commands, [*start, *more], standalone_mode=False)

    _, model_selection, _, made = calls
    assert model_selection[0] == "nested_cross_validate"
    assert (model_selection[2], model_selection[-1]) == made[-1] == (config, config)


@pytest.mark.parametrize("as_json", [False, True])
def test_build_with_train_only_does_not_write_a_model(calls, data: Path, as_json):
    done = CliRunner().invoke(
        commands,
        ["build-bundled-model", str(data), "--work", "kept", "--processes", "3", "--train-only"]
        + ["--json"] * as_json,
        standalone_mode=False,
    )

    datasets = ("breakhis_100x", "breakhis_200x_224")
    source = (data, datasets, DistillationConfig().image_size)
    assert calls == [
        ("cross_validate_protocols", source, DistillationConfig(), Path("kept"), None, 3),
        ("nested_cross_validate", source, CONFIGS[0], SEARCH_SPACE, Path("kept"), 3, CONFIGS[1]),
        ("train_on_all", source, DistillationConfig(), Path("kept"), 3),
    ]
    expected = '{\n  "work": "kept"\n}\n' if as_json else "Training results written to kept\n"
    assert done.stdout == expected


def test_build_into_a_directory_with_other_files_raises(data: Path):
    (data / "photos").mkdir()
    (data / "photos" / "one.png").write_bytes(b"x")
    done = CliRunner().invoke(
        commands,
        ["build-bundled-model", str(data), "--out", str(data / "photos")],
        standalone_mode=False,
    )

    assert "contains files that are not a model" in str(done.exception)
    assert (data / "photos" / "one.png").exists()


def test_build_without_a_dataset_raises(calls, data: Path):
    (data / "breakhis_100x").rmdir()
    done = CliRunner().invoke(commands, ["build-bundled-model", str(data)], standalone_mode=False)

    assert isinstance(done.exception, DataError)
    assert str(done.exception) == (
        f"Missing dataset breakhis_100x in {data}. Expected the folders breakhis_100x and "
        "breakhis_200x_224, two extracts of BreakHis."
    )
    assert not done.stderr
    assert not calls


def test_build_with_a_missing_backend_raises(calls, data: Path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setitem(sys.modules, "keras", None)  # Its import fails.
    done = CliRunner().invoke(
        commands, ["build-bundled-model", str(data), "--train-only"], standalone_mode=False
    )

    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("KERAS_BACKEND 'jax' is not available (")
    assert not calls
