"""The command that makes the model in the box: what it asks for, and what it says."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bc_model.cli import commands

FIGURES = {
    name: {"value": value, "low": 0.5, "high": 1.0, "n": 9, "n_cases": 3}
    for name, value in (("roc_auc", 0.91), ("balanced_accuracy", 0.82), ("accuracy", 0.8))
}
PASSPORT = {
    "metrics": {
        "protocols": [
            {"protocol": "case", "leaky": False, "folds": 5, "n": 9, "n_cases": 3,
             "figures": FIGURES},
            {"protocol": "image", "leaky": True, "folds": 1, "n": 9, "n_cases": 3,
             "figures": FIGURES},
        ]
    }
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    found: list[tuple] = []

    def make_box(*arguments, processes):
        found.append((*arguments, processes))
        return SimpleNamespace(passport=PASSPORT, folder=arguments[2])

    def learn_for_box(*arguments, processes):
        found.append(("learn", *arguments, processes))

    monkeypatch.setattr("bc_model.bundled.box.make_box", make_box)
    monkeypatch.setattr("bc_model.bundled.box.learn_for_box", learn_for_box)
    return found


def test_it_learns_from_the_two_sets_and_says_what_the_folds_came_to(asked, tmp_path: Path):
    (tmp_path / "folds").mkdir()
    file = tmp_path / "folds" / "dsfold1.txt"
    file.write_text("")
    done = CliRunner().invoke(
        commands,
        ["train-bundled", str(tmp_path), "--out", str(tmp_path / "box"), "--work", "work"],
        standalone_mode=False,
    )

    assert done.exception is None
    sets = ("breakhis_100x", "breakhis_200x_224")
    assert asked == [(tmp_path, sets, tmp_path / "box", Path("work"), file, 0)]
    case, image, last = done.stdout.splitlines()
    assert case == (
        "case, 5 folds: roc auc 0.910, balanced accuracy 0.820, accuracy 0.800; 9 pictures of 3 "
        "cases"
    )
    assert image.startswith("image (LEAKY), 1 fold: ")
    assert last == f"Model in {tmp_path / 'box'}"


def test_without_official_folds_it_says_that_they_are_left_out(asked, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("BC_DATA", str(tmp_path))
    done = CliRunner().invoke(commands, ["train-bundled", "--json"], standalone_mode=False)

    assert "the official folds are left out" in done.stderr
    assert asked[0][2].name == "breakhis-scratch"
    assert asked[0][4] is None
    assert json.loads(done.stdout) == PASSPORT


@pytest.mark.parametrize("as_json", [False, True])
def test_an_accelerator_may_do_the_long_part_alone(asked, tmp_path: Path, as_json):
    done = CliRunner().invoke(
        commands,
        ["train-bundled", str(tmp_path), "--work", "kept", "--processes", "3", "--learn-only"]
        + ["--json"] * as_json,
        standalone_mode=False,
    )

    sets = ("breakhis_100x", "breakhis_200x_224")
    assert asked == [("learn", tmp_path, sets, Path("kept"), None, 3)]
    expected = '{\n  "work": "kept"\n}\n' if as_json else "All is learned and kept in kept\n"
    assert done.stdout == expected


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(b"x")
    done = CliRunner().invoke(
        commands,
        ["train-bundled", str(tmp_path), "--out", str(tmp_path / "photos")],
        standalone_mode=False,
    )

    assert "holds something else than a model" in str(done.exception)
    assert (tmp_path / "photos" / "one.png").exists()
