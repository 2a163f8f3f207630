"""The commands on models: what is there, what it is, whether it is whole, and what it becomes."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bc_model.inference.bundle import open_bundle
from bc_model.inference.model_card import ModelCard, SubsetCounts, read_model_card, write_model_card
from bc_model.inference.precision import supported_precisions
from bc_model.training.run import Run
from bc_model.utils.serialization import loads, to_json
from tests.bc_model.conftest import Command


@pytest.fixture
def command(command_line: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run `models`, where nothing is shipped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BC_RUNS", "runs")
    monkeypatch.setattr("bc_model.inference.bundle.BUNDLED_MODELS_DIR", tmp_path / "none")
    return partial(command_line, "models")


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Path:
    """Return a copy of the finished run that may be changed."""
    return Path(shutil.copytree(tiny_run.path, tmp_path / "runs/tiny"))


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def assert_one_line(ended: tuple[int, str, str], said: str) -> None:
    code, out, err = ended
    assert (code, out) == (2, ""), err
    assert err.startswith("Error: ")
    assert (err.count("\n"), err[-1]) == (1, "\n")
    assert said in err


# --- list ---


def test_the_list_tells_what_each_model_is(command: Command, run: Path) -> None:
    code, out, err = command("list")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == "tiny  runs/tiny/model"
    assert second.strip().startswith("tiny, balanced accuracy ")
    assert "pictures of 2 cases" in second


def test_the_list_as_json(command: Command, run: Path) -> None:
    code, out, err = command("list", "--runs", run.parent, "--json")
    assert (code, err) == (0, "")
    row = {"folder": str(run / "model"), "name": "tiny"}
    assert json.loads(out) == {"models": [row], "problems": []}


def test_an_empty_list_says_what_to_do(command: Command) -> None:
    assert command("list") == (0, "No model under runs; train one first.\n", "")


def test_an_empty_list_as_json(command: Command) -> None:
    code, out, _ = command("list", "--json")
    assert (code, json.loads(out)) == (0, {"models": [], "problems": []})


def test_a_model_that_cannot_be_opened_is_told_beside_the_others(
    command: Command, run: Path
) -> None:
    broken = run.parent / "broken/model"
    broken.mkdir(parents=True)
    (broken / "model_card.json").write_text("{")
    code, out, _ = command("list")
    assert code == 0
    assert "tiny  runs/tiny/model" in out
    assert "left out: The model card in runs/broken/model is not valid" in out


# --- show and verify ---


def test_show_prints_the_card_as_json(command: Command, run: Path) -> None:
    code, out, err = command("show", run)
    assert (code, err) == (0, "")
    assert loads(ModelCard, out) == open_bundle(run).card


def test_a_model_may_be_named_by_its_run(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_RUNS", str(run.parent))
    assert json.loads(command("show", "tiny")[1])["name"] == "tiny"
    assert_one_line(command("show", "gone"), "There is no model gone.")
    (tmp_path / "tiny").mkdir()  # what lies here goes first
    assert_one_line(command("show", "tiny"), "tiny is not a model")


@pytest.mark.parametrize("name", ["bundled", "breakhis-scratch"])
def test_the_model_that_comes_with_the_program_may_be_named(
    command: Command, run: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(run / "model", tmp_path / "none" / "breakhis-scratch")
    code, out, _ = command("verify", name)
    assert (code, out.partition(":")[0]) == (0, str(tmp_path / "none" / "breakhis-scratch"))


def test_show_of_nothing(command: Command, tmp_path: Path) -> None:
    assert_one_line(command("show", tmp_path / "gone"), "no model")


def test_a_whole_model_is_verified(command: Command, run: Path) -> None:
    code, out, _ = command("verify", run)
    assert (code, out) == (0, f"{run / 'model'}: 5 files are what they should be\n")


@pytest.mark.parametrize("name", ["model.keras", "served.bin", "head.npz"])
def test_a_changed_byte_is_found(command: Command, run: Path, name: str) -> None:
    change_a_byte(run / "model" / name)
    assert_one_line(command("verify", run), f"The file {name} in")


# --- export ---


def test_an_export_as_json(command: Command, run: Path, tmp_path: Path) -> None:
    code, out, _ = command("export", run, "--out", tmp_path / "out", "--format", "keras", "--json")
    path = tmp_path / "out/tiny.keras"
    assert code == 0
    assert json.loads(out) == [
        {"format": "keras", "path": str(path), "max_difference": 0.0, "n_images": 8}
    ]
    assert path.read_bytes() == (run / "model/model.keras").read_bytes()


def test_an_export_in_words(command: Command, run: Path, tmp_path: Path) -> None:
    code, out, _ = command("export", run, "--out", tmp_path / "out", "--format", "keras")
    assert (code, out) == (
        0,
        f"{tmp_path}/out/tiny.keras: largest difference from the reference 0.0e+00 on 8 images\n"
        f"{tmp_path}/out/tiny.md: how to feed it, and what its answers are\n",
    )
    assert "An exported file takes float32" in (tmp_path / "out/tiny.md").read_text()


def test_a_changed_model_is_not_exported(command: Command, run: Path, tmp_path: Path) -> None:
    change_a_byte(run / "model/served.bin")
    ended = command("export", run, "--out", tmp_path / "out", "--format", "keras")
    assert_one_line(ended, "served.bin")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format(command: Command, run: Path, tmp_path: Path) -> None:
    ended = command("export", run, "--out", tmp_path / "out", "--format", "pickle")
    assert_one_line(ended, "pickle")


# --- optimise ---


def test_quantize_tells_of_every_precision(command: Command, run: Path, drawn_set: Path) -> None:
    code, out, err = command("optimise", run, drawn_set)
    assert code == 0, err
    told = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    for precision in sorted({*supported_precisions(), "f32"}):
        assert told[precision].startswith(("allowed; ", "not allowed; "))
        assert told[precision].endswith(", 6 pictures")
    assert told["f32"].startswith("allowed; probability within 0.00000 (99th percentile)")
    open_bundle(run).verify()
    assert "served-int8.xml" in open_bundle(run).card.files


def test_quantize_as_json_is_all_of_stdout(command: Command, run: Path, drawn_set: Path) -> None:
    code, out, err = command("optimise", run, drawn_set, "--json")
    assert code == 0, err
    assert json.loads(out) == to_json(open_bundle(run).card)["precisions"]


def test_quantize_with_other_images(command: Command, run: Path, drawn_set: Path) -> None:
    other = drawn_set / "histology_slides/breast/malignant"
    before = {path: path.read_bytes() for path in (run / "model").iterdir()}
    assert_one_line(command("optimise", run, other), "pictures of the split are not under")
    assert {path: path.read_bytes() for path in (run / "model").iterdir()} == before


def test_quantize_of_a_model_without_its_split(
    command: Command, run: Path, drawn_set: Path
) -> None:
    (run / "split.csv").unlink()
    assert_one_line(command("optimise", run, drawn_set), "split.csv")


def test_quantize_with_the_split_of_another_run(
    command: Command, run: Path, drawn_set: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text((run / "split.csv").read_text() + "\n")
    card = (run / "model" / "model_card.json").read_text()
    ended = command("optimise", run, drawn_set, "--split", other)
    assert_one_line(ended, "is not the split that the model")
    assert (run / "model" / "model_card.json").read_text() == card


@pytest.mark.parametrize(
    "arguments",
    [
        ("optimise", "bundled", "data"),
        ("optimise", "bundled", "data", "--split", "split.csv"),
        ("calibrate", "bundled", "data"),
        ("cutoff", "bundled"),
    ],
)
def test_what_needs_images_kept_back_is_refused_for_a_model_that_kept_none(
    command: Command, run: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "none" / "breakhis-scratch"
    shutil.copytree(run / "model", folder)
    card = read_model_card(folder)
    data = replace(card.data, n_images=SubsetCounts(train=card.data.n_images.train))
    write_model_card(folder, replace(card, data=data))

    assert_one_line(command(*arguments), "learned from every picture that it was given")
