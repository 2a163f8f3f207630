"""`models`: list, show, verify, export, quantize and set the threshold."""

import json
import shutil
from collections.abc import Callable
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
    """Run `models` without an included model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BC_RUNS", "runs")
    for module in ("bc_model.inference", "bc_model.inference.bundle"):
        monkeypatch.setattr(f"{module}.BUNDLED_MODELS_DIR", tmp_path / "none")
    return partial(command_line, "models")


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Path:
    """Return a copy of the finished run that the test can change."""
    return Path(shutil.copytree(tiny_run.path, tmp_path / "runs/tiny"))


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def assert_refused(result: tuple[int, str, str], expected: str) -> None:
    code, out, err = result
    assert (code, out) == (2, ""), err
    assert err.startswith("Error: ")
    assert (err.count("\n"), err[-1]) == (1, "\n")
    assert expected in err


def test_list_prints_each_model_with_its_metric(command: Command, run: Path) -> None:
    code, out, err = command("list")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == "tiny  runs/tiny/model"
    assert second.strip().startswith("tiny, balanced accuracy ")
    assert "2 cases" in second


def test_list_with_json_prints_only_json(command: Command, run: Path) -> None:
    code, out, err = command("list", "--runs", run.parent, "--json")
    assert (code, err) == (0, "")
    row = {"folder": str(run / "model"), "name": "tiny"}
    assert json.loads(out) == {"models": [row], "problems": []}


def test_list_of_no_model_names_the_next_step(command: Command) -> None:
    assert command("list") == (0, "No model in runs. Train one with `train`.\n", "")


def test_list_of_no_model_with_json_is_empty(command: Command) -> None:
    code, out, _ = command("list", "--json")
    assert (code, json.loads(out)) == (0, {"models": [], "problems": []})


def test_list_with_a_damaged_model_prints_all_models(command: Command, run: Path) -> None:
    broken = run.parent / "broken/model"
    broken.mkdir(parents=True)
    (broken / "model_card.json").write_text("{")
    code, out, _ = command("list")
    assert code == 0
    assert "tiny  runs/tiny/model" in out
    assert "runs/broken/model" in out.partition("skipped: ")[2]


def test_show_prints_the_model_card_as_json(command: Command, run: Path) -> None:
    code, out, err = command("show", run)
    assert (code, err) == (0, "")
    assert loads(ModelCard, out) == open_bundle(run).card


def test_show_accepts_the_name_of_a_run(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BC_RUNS", str(run.parent))
    assert json.loads(command("show", "tiny")[1])["name"] == "tiny"
    assert_refused(command("show", "gone"), "There is no model gone.")
    (tmp_path / "tiny").mkdir()  # An existing path has precedence.
    assert_refused(command("show", "tiny"), "tiny is not a model")


@pytest.mark.parametrize("name", ["bundled", "breakhis-scratch"])
def test_verify_accepts_the_name_of_the_bundled_model(
    command: Command, run: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(run / "model", tmp_path / "none" / "breakhis-scratch")
    code, out, _ = command("verify", name)
    assert (code, out.partition(":")[0]) == (0, str(tmp_path / "none" / "breakhis-scratch"))


def test_show_of_a_missing_model_is_refused(command: Command, tmp_path: Path) -> None:
    assert_refused(command("show", tmp_path / "gone"), "no model")


def test_verify_of_a_complete_model_succeeds(command: Command, run: Path) -> None:
    code, out, _ = command("verify", run)
    assert (code, out) == (0, f"{run / 'model'}: all 5 files are valid\n")


@pytest.mark.parametrize("name", ["model.keras", "served.bin", "head.npz"])
def test_verify_of_a_changed_file_is_refused(command: Command, run: Path, name: str) -> None:
    change_a_byte(run / "model" / name)
    assert_refused(
        command("verify", run), f"{name} in {run / 'model'} does not match its model card"
    )


def test_export_with_json_prints_only_json(command: Command, run: Path, tmp_path: Path) -> None:
    code, out, _ = command("export", run, "--out", tmp_path / "out", "--format", "keras", "--json")
    path = tmp_path / "out/tiny.keras"
    assert code == 0
    assert json.loads(out) == [
        {"format": "keras", "path": str(path), "max_difference": 0.0, "n_images": 8}
    ]
    assert path.stat().st_size > 10_000


def test_export_prints_differences_and_writes_the_card(
    command: Command, run: Path, tmp_path: Path
) -> None:
    code, out, _ = command("export", run, "--out", tmp_path / "out", "--format", "keras")
    assert (code, out) == (
        0,
        f"{tmp_path}/out/tiny.keras: largest difference from the original 0.0e+00 on 8 images\n"
        f"{tmp_path}/out/tiny.md: inputs and outputs\n",
    )
    assert "An exported file takes float32" in (tmp_path / "out/tiny.md").read_text()


def test_export_of_a_changed_model_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    change_a_byte(run / "model/served.bin")
    result = command("export", run, "--out", tmp_path / "out", "--format", "keras")
    assert_refused(result, "served.bin")
    assert not (tmp_path / "out").exists()


def test_export_goes_on_after_a_format_that_fails(
    command: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "out/tiny.onnx").mkdir(parents=True)
    arguments = ("export", run, "--out", tmp_path / "out", "--format", "onnx", "--format", "keras")
    code, out, err = command(*arguments, "--json")
    failed, exported = json.loads(out)
    assert (code, failed["format"], exported["format"]) == (1, "onnx", "keras")
    assert f"onnx: not exported. {failed['error']}" in err
    assert (tmp_path / "out/tiny.md").exists()
    assert Path(exported["path"]).stat().st_size > 10_000


def test_export_with_an_unknown_format_is_refused(
    command: Command, run: Path, tmp_path: Path
) -> None:
    result = command("export", run, "--out", tmp_path / "out", "--format", "pickle")
    assert_refused(result, "pickle")


def test_quantize_prints_the_parity_of_every_precision(
    command: Command, run: Path, synthetic_dataset: Path
) -> None:
    code, out, err = command("quantize", run, synthetic_dataset)
    assert code == 0, err
    lines = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    for precision in sorted({*supported_precisions(), "f32"}):
        assert lines[precision].startswith(("passes ", "fails "))
        assert lines[precision].endswith(", 6 images")
    assert "passes the parity check" in lines["f32"]
    assert "difference 0.00000 (99th percentile)" in lines["f32"]
    open_bundle(run).verify()
    assert "served-int8.xml" in open_bundle(run).card.files


def test_quantize_with_json_prints_only_json(
    command: Command, run: Path, synthetic_dataset: Path
) -> None:
    code, out, err = command("quantize", run, synthetic_dataset, "--json")
    assert code == 0, err
    assert json.loads(out) == to_json(open_bundle(run).card)["precisions"]


def test_quantize_with_other_images_is_refused(
    command: Command, run: Path, synthetic_dataset: Path
) -> None:
    other = synthetic_dataset / "histology_slides/breast/malignant"
    before = {path: path.read_bytes() for path in (run / "model").iterdir()}
    assert_refused(command("quantize", run, other), "Use the dataset of the split")
    assert {path: path.read_bytes() for path in (run / "model").iterdir()} == before


def test_quantize_without_a_split_is_refused(
    command: Command, run: Path, synthetic_dataset: Path
) -> None:
    (run / "split.csv").unlink()
    assert_refused(command("quantize", run, synthetic_dataset), "split.csv")


def test_quantize_with_the_split_of_another_run_is_refused(
    command: Command, run: Path, synthetic_dataset: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text((run / "split.csv").read_text() + "\n")
    card = (run / "model" / "model_card.json").read_text()
    result = command("quantize", run, synthetic_dataset, "--split", other)
    assert_refused(result, "is not the split that model")
    assert (run / "model" / "model_card.json").read_text() == card


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "bundled", "data"),
        ("quantize", "bundled", "data", "--split", "split.csv"),
        ("calibrate", "bundled", "data"),
        ("choose-threshold", "bundled"),
    ],
)
def test_command_on_a_model_without_a_test_subset_is_refused(
    command: Command, run: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "none" / "breakhis-scratch"
    shutil.copytree(run / "model", folder)
    card = read_model_card(folder)
    data = replace(card.data, n_images=SubsetCounts(train=card.data.n_images.train))
    write_model_card(folder, replace(card, data=data))

    assert_refused(command(*arguments), "was trained on all ")


def test_set_threshold_of_a_bundled_model_is_refused(
    refused: Callable[..., str], tiny_run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "none/included"
    shutil.copytree(tiny_run.model_dir, folder)
    line = refused("set-threshold", folder, "0.7", "--reason", "test")
    assert f"The bundled model in {folder} belongs to the program and is not changed. Copy" in line


def test_show_prints_ascii(command: Command, run: Path) -> None:
    bundle = open_bundle(run)
    write_model_card(bundle.folder, replace(bundle.card, limits="\U0001f52c \u75c5"))
    code, out, _ = command("show", run)
    assert (code, out.isascii()) == (0, True)
    assert loads(ModelCard, out).limits == "\U0001f52c \u75c5"
