"""The command that makes the model in the box: what it asks for, and what it says."""

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
from bc_model.utils.metric import Metric
from bc_model.utils.serialization import to_json
from benchmarks.card import dummy_model_card

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
            "large ones", "small ones", SearchSpace({}, (), ()), (), 5, 9, 3, REPORTED_METRICS
        ),
    ),
)

BOTH = (DistillationConfig(), proxy_config(DistillationConfig()))
"""Of what is judged inside the folds, and of what chooses there."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with both sets, and nothing in them."""
    for name in ("breakhis_100x", "breakhis_200x_224"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    found: list[tuple] = []

    def build_bundled_model(*arguments, n_processes, nested):
        found.append((*arguments, n_processes, nested))
        return SimpleNamespace(card=CARD, folder=arguments[2])

    monkeypatch.setattr("bc_model.distillation.build_bundled_model", build_bundled_model)
    for name in ("cross_validate_protocols", "nested_cross_validate", "train_on_all"):
        monkeypatch.setattr(
            f"bc_model.distillation.{name}",
            lambda *asked, name=name, **more: found.append((name, *asked, *more.values())),
        )
    monkeypatch.setattr("bc_model.distillation.data.TrainingImages.read", lambda *asked: asked)
    return found


def test_it_learns_from_the_two_sets_and_says_what_the_folds_came_to(asked, data: Path):
    (data / "folds").mkdir()
    file = data / "folds" / "dsfold1.txt"
    file.write_text("")
    done = CliRunner().invoke(
        commands,
        ["train-bundled", str(data), "--out", str(data / "box"), "--work", "work"],
        standalone_mode=False,
    )

    assert done.exception is None
    sets = ("breakhis_100x", "breakhis_200x_224")
    assert asked == [(data, sets, data / "box", Path("work"), file, 0, BOTH)]
    case, image, inside, last = done.stdout.splitlines()
    assert case == (
        "case, 5 folds: roc auc 0.910, balanced accuracy 0.820, accuracy 0.800; 9 pictures of 3 "
        "cases"
    )
    assert image.startswith("image (LEAKY), 1 fold: ")
    assert inside == case.replace(
        "case,",
        "case, four settings chosen inside the folds, by small ones, judged with large ones,",
    )
    assert last == f"Model in {data / 'box'}"


def test_without_official_folds_it_says_that_they_are_left_out(asked, data: Path, monkeypatch):
    monkeypatch.setenv("BC_DATA", str(data))
    done = CliRunner().invoke(commands, ["train-bundled", "--json"], standalone_mode=False)

    assert "the official folds are left out" in done.stderr
    assert asked[0][2].name == "breakhis-scratch"
    assert asked[0][4] is None
    assert json.loads(done.stdout) == to_json(CARD)


@pytest.mark.parametrize("more", [[], ["--learn-only"]])
def test_a_place_that_cannot_keep_the_work_is_refused_before_it(asked, data: Path, more):
    (data / "file").write_text("no folder")

    start = ["train-bundled", str(data), "--work", str(data / "file")]
    done = CliRunner().invoke(commands, [*start, *more], standalone_mode=False)

    assert isinstance(done.exception, NotADirectoryError)
    assert asked == []


@pytest.mark.parametrize(("inside", "network"), [("full", BOTH[0]), ("proxy", BOTH[1])])
def test_the_networks_inside_the_folds_may_be_others(asked, data: Path, inside, network):
    start = ["train-bundled", str(data), "--work", "kept", "--inside", inside]
    for more in (["--learn-only"], []):
        CliRunner().invoke(commands, [*start, *more], standalone_mode=False)

    _, model_selection, _, made = asked
    assert model_selection[0] == "nested_cross_validate"
    assert (model_selection[2], model_selection[-1]) == made[-1] == (network, network)


@pytest.mark.parametrize("as_json", [False, True])
def test_an_accelerator_may_do_the_long_part_alone(asked, data: Path, as_json):
    done = CliRunner().invoke(
        commands,
        ["train-bundled", str(data), "--work", "kept", "--processes", "3", "--learn-only"]
        + ["--json"] * as_json,
        standalone_mode=False,
    )

    sets = ("breakhis_100x", "breakhis_200x_224")
    source = (data, sets, DistillationConfig().image_size)
    assert asked == [
        ("cross_validate_protocols", source, DistillationConfig(), Path("kept"), None, 3),
        ("nested_cross_validate", source, BOTH[0], SEARCH_SPACE, Path("kept"), 3, BOTH[1]),
        ("train_on_all", source, DistillationConfig(), Path("kept"), 3),
    ]
    expected = '{\n  "work": "kept"\n}\n' if as_json else "All is learned and kept in kept\n"
    assert done.stdout == expected


def test_a_folder_that_holds_something_else_is_not_replaced(data: Path):
    (data / "photos").mkdir()
    (data / "photos" / "one.png").write_bytes(b"x")
    done = CliRunner().invoke(
        commands,
        ["train-bundled", str(data), "--out", str(data / "photos")],
        standalone_mode=False,
    )

    assert "contains files that are not a model" in str(done.exception)
    assert (data / "photos" / "one.png").exists()


def test_data_without_the_two_sets_is_refused_in_one_line(asked, data: Path):
    (data / "breakhis_100x").rmdir()
    done = CliRunner().invoke(commands, ["train-bundled", str(data)], standalone_mode=False)

    assert isinstance(done.exception, DataError)
    assert str(done.exception) == (
        "DATA holds breakhis_100x and breakhis_200x_224, two extracts of BreakHis; "
        f"{data} has no breakhis_100x."
    )
    assert not done.stderr
    assert not asked


def test_a_backend_that_keras_cannot_load_is_named(asked, data: Path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setitem(sys.modules, "keras", None)  # importing it now fails
    done = CliRunner().invoke(
        commands, ["train-bundled", str(data), "--learn-only"], standalone_mode=False
    )

    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("KERAS_BACKEND is 'jax', which Keras cannot use here (")
    assert not asked
