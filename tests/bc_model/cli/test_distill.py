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
            SearchSpace({}, (), ()),
            (),
            5,
            9,
            3,
            REPORTED_METRICS,
        ),
    ),
)

NETWORKS = SimpleNamespace(final_model=None)


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

    def build_bundled_model(*arguments):
        found.append(("build_bundled_model", *arguments))
        return SimpleNamespace(card=CARD, folder=arguments[1])

    def prepare_networks(*arguments):
        found.append(("prepare_networks", *arguments))
        return NETWORKS

    monkeypatch.setattr("bc_model.distillation.build_bundled_model", build_bundled_model)
    monkeypatch.setattr("bc_model.distillation.prepare_networks", prepare_networks)
    monkeypatch.setattr(
        "bc_model.distillation.cross_validate_protocols",
        lambda *arguments: found.append(("cross_validate_protocols", *arguments)),
    )
    monkeypatch.setattr(NETWORKS, "final_model", lambda: found.append(("final_model",)))
    return found


def test_build_prints_the_cross_validation_results(calls, data: Path):
    (data / "folds").mkdir()
    (data / "breakhis_originals").mkdir()
    file = data / "folds" / "dsfold1.txt"
    file.write_text("")
    done = CliRunner().invoke(
        commands,
        ["build-bundled-model", str(data), "--out", str(data / "model"), "--work", "work"],
        standalone_mode=False,
    )

    assert done.exception is None
    datasets = ("breakhis_100x", "breakhis_200x_224")
    prepared = (data, datasets, ("breakhis_originals",), Path("work"), DistillationConfig())
    assert calls[0][:-1] == ("prepare_networks", *prepared)
    assert calls[0][-1] >= 1  # worker processes
    assert calls[1:] == [("build_bundled_model", NETWORKS, data / "model", file)]
    case, image, nested, last = done.stdout.splitlines()
    assert case == (
        "case, 5 folds: roc auc 0.910, balanced accuracy 0.820, accuracy 0.800; 9 images of 3 cases"
    )
    assert image.startswith("image (with leakage), 1 fold: ")
    assert nested == case.replace("case,", "case, nested; evaluated with large networks,")
    assert last == f"Model written to {data / 'model'}"


def test_build_without_official_folds_prints_a_message(calls, data: Path, monkeypatch):
    monkeypatch.setenv("BC_DATA", str(data))
    done = CliRunner().invoke(commands, ["build-bundled-model", "--json"], standalone_mode=False)

    assert "The official folds are skipped." in done.stderr
    assert calls[1][2].name == "breakhis-scratch"
    assert calls[1][3] is None
    assert json.loads(done.stdout) == to_json(CARD)


@pytest.mark.parametrize("more", [[], ["--train-only"]])
def test_build_with_an_unusable_work_directory_raises_before_training(calls, data: Path, more):
    (data / "file").write_text("x")

    start = ["build-bundled-model", str(data), "--work", str(data / "file")]
    done = CliRunner().invoke(commands, [*start, *more], standalone_mode=False)

    assert isinstance(done.exception, NotADirectoryError)
    assert calls == []


@pytest.mark.parametrize("as_json", [False, True])
def test_build_with_train_only_does_not_write_a_model(calls, data: Path, as_json):
    done = CliRunner().invoke(
        commands,
        ["build-bundled-model", str(data), "--work", "kept", "--processes", "3", "--train-only"]
        + ["--json"] * as_json,
        standalone_mode=False,
    )

    datasets = ("breakhis_100x", "breakhis_200x_224")
    assert calls == [
        ("prepare_networks", data, datasets, (), Path("kept"), DistillationConfig(), 3),
        ("cross_validate_protocols", NETWORKS, None),
        ("final_model",),
    ]
    expected = '{\n  "work": "kept"\n}\n' if as_json else "Training results written to kept\n"
    assert done.stdout == expected


def test_build_into_a_directory_with_other_files_raises(data: Path, monkeypatch):
    networks = SimpleNamespace(config=DistillationConfig())
    monkeypatch.setattr("bc_model.distillation.prepare_networks", lambda *arguments: networks)
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
