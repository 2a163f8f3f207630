"""`explain`: files for one image, several images and a folder, and invalid images."""

import io
import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bc_model import inference
from bc_model.data.breakhis import parse_name
from bc_model.data.synthetic import example_png
from bc_model.inference.bundle import has_bundled_model, open_bundle
from bc_model.training.run import Run
from bc_model.utils.csv_table import read_table
from tests.bc_model.conftest import Command


def huge_png() -> bytes:
    """Return a PNG with 20,000 x 20,000 pixels in its header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def write_noise(path: Path, seed: int) -> None:
    """Write a small color image that every model classifies."""
    noise = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def test_explain_writes_heatmaps_and_result(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    image = next(synthetic_dataset.rglob("*.png"))
    code, out, _ = command(
        "explain", image, "--model", tiny_run.path, "--out", tmp_path / "maps", "--json"
    )
    (result,) = json.loads(out)
    assert code == 0
    assert 0.0 < result["prob_malignant"] < 1.0
    suffixes = sorted(path.suffix for path in (tmp_path / "maps").iterdir())
    assert suffixes == [".json", *[".npy"] * 3, *[".png"] * 3]


def test_explain_a_page_of_a_file(command: Command, tiny_run: Run, tmp_path: Path) -> None:
    images = [Image.open(io.BytesIO(example_png(malignant=value))) for value in (False, True)]
    path = tmp_path / "scan.tif"
    images[0].save(path, "TIFF", save_all=True, append_images=images[1:])
    arguments = "explain", path, "--model", tiny_run.path, "--out", tmp_path / "maps", "--json"
    first, second = (json.loads(command(*arguments, "--page", str(page))[1])[0] for page in (1, 2))
    assert (first["page"], second["page"]) == (1, 2)
    assert first["sha256"] == second["sha256"]
    assert first["prob_malignant"] != second["prob_malignant"]
    assert len(list((tmp_path / "maps").glob("*.json"))) == 2
    code, _, error = command(*arguments, "--page", "3")
    assert code == 2
    assert "scan.tif has no page 3. Expected 1 to 2" in error


def test_explain_prints_where_the_evidence_lies(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    image = next(synthetic_dataset.rglob("*.png"))
    code, out, _ = command("explain", image, "--model", tiny_run.path, "--out", tmp_path / "maps")
    (path,) = (tmp_path / "maps").glob("*.json")
    location = json.loads(path.read_text())["location"]
    assert code == 0
    assert f"  info BC182: {location['message']}\n" in out


def test_explain_with_a_resolution_that_the_model_lacks_is_refused(
    refused: Callable[..., str], tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    image = next(synthetic_dataset.rglob("*.png"))
    error = refused(
        "explain", image, "--model", tiny_run.path, "--out", tmp_path / "maps",
        "--resolution", "fine",
    )  # fmt: skip
    assert "Expected the backbone resnet50, got tiny" in error


@pytest.mark.skipif(not has_bundled_model(), reason="the bundled model is not installed")
def test_explain_with_fine_resolution_writes_heatmaps_of_four_times_as_many_cells(
    command: Command, tmp_path: Path
) -> None:
    write_noise(tmp_path / "a.png", 3)
    Image.open(tmp_path / "a.png").resize((700, 460), Image.Resampling.BICUBIC).save(
        tmp_path / "a.png"
    )
    results = []
    for resolution in ("standard", "fine"):
        out = tmp_path / resolution
        code, text, _ = command(
            "explain", tmp_path / "a.png", "--model", "bundled", "--out", out,
            "--resolution", resolution, "--show-anyway", "--json",
        )  # fmt: skip
        assert code == 0
        (result,) = json.loads(text)
        results.append(result)
        for entry in result["heatmaps"].values():
            raw = np.load(out / entry["raw"])
            assert list(raw.shape[::-1]) == entry["cells"]
            assert raw.sum() == pytest.approx(entry["contribution"], rel=1e-5)
    standard, fine = results
    assert fine["prob_malignant"] == pytest.approx(standard["prob_malignant"], abs=1e-4)
    assert [r["heatmaps"]["malignant"]["cells"] for r in results] == [[11, 7], [21, 14]]


def test_explain_a_folder_skips_damaged_images_and_exits_with_1(
    command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    folder, out = tmp_path / "fields", tmp_path / "fields/maps"
    folder.mkdir()
    for number in (1, 2):
        write_noise(folder / f"{number}.png", number)
    (folder / "broken.png").write_bytes(b"Dear colleague")

    # The second call finds the heatmaps of the first call in the folder.
    for target in (out, out, folder / "elsewhere"):
        code, printed, err = command(
            "explain", folder, "--model", tiny_run.path, "--out", target, "--json"
        )
        assert code == 1
        *results, skipped = json.loads(printed)
        assert [Path(result["image"]).name for result in results] == ["1.png", "2.png"]
        assert skipped["image"] == str(folder / "broken.png")
        assert "is not an image" in skipped["error"]
        first, second = err.strip().splitlines()[-2:]
        assert first == f"skipped in {folder}: {skipped['error']}"
        assert second == "1 of 3 images skipped."
        assert len(list(target.iterdir())) == 15
        table = read_table(target / "predictions.csv")
        assert table["image"].tolist() == [result["image"] for result in results]
        assert table["prob_malignant"].tolist() == [result["prob_malignant"] for result in results]
        assert table["checks"].str.contains("BC").all()


def test_explain_without_a_readable_image_is_refused(
    command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    code, out, err = command("explain", tmp_path, "--model", tiny_run.path, "--out", tmp_path / "o")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("Error: None of 2 images could be explained")
    assert not (tmp_path / "o").exists()


def test_explain_with_one_missing_image_writes_nothing(
    refused: Callable[..., str], tiny_run: Run, tmp_path: Path
) -> None:
    Image.new("RGB", (48, 48)).save(tmp_path / "there.png")
    line = refused(
        "explain", tmp_path / "there.png", tmp_path / "gone.png", "--model", tiny_run.path,
        "--out", tmp_path / "maps",
    )  # fmt: skip
    assert "does not exist" in line
    assert "gone.png" in line


def test_explain_a_folder_with_heatmaps_only_is_refused(
    refused: Callable[..., str], command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    write_noise(tmp_path / "a.png", 0)
    maps = tmp_path / "maps"
    options = ("--model", tiny_run.path, "--out", maps)
    assert command("explain", tmp_path / "a.png", *options)[0] == 0
    assert len(list(maps.glob("*.png"))) == 3

    line = refused("explain", maps, *options)
    assert f"The folder {maps} contains no images" in line
    Image.new("RGB", (48, 48), "red").save(maps / "real.png")
    code, out, _ = command("explain", maps, *options)
    assert code == 0
    assert "real.png" in out
    assert len(list(maps.glob("real-*.json"))) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"Dear colleague,\nplease find attached", "is not an image"),
        (b"", "is empty"),
        (huge_png(), "Expected at most 160 million pixels"),
        (None, "damaged or incomplete"),
    ],
    ids=["text", "empty", "20,000 px", "truncated"],
)
def test_explain_an_invalid_image_is_refused(
    refused: Callable[..., str],
    tiny_run: Run,
    tmp_path: Path,
    content: bytes | None,
    expected: str,
) -> None:
    image = tmp_path / "slide 7.png"
    if content is None:
        Image.effect_noise((64, 64), 50).save(image)
        content = image.read_bytes()[:1000]
    image.write_bytes(content)
    line = refused("explain", image, "--model", tiny_run.path, "--out", tmp_path / "maps")
    assert "slide 7.png" in line
    assert expected in line


def test_explain_with_an_empty_path_is_refused(
    refused: Callable[..., str], tiny_run: Run, tmp_path: Path
) -> None:
    line = refused("explain", "", "--model", tiny_run.path, "--out", tmp_path / "maps")
    assert "The path is empty." in line


def test_explain_a_missing_image_is_refused(
    refused: Callable[..., str], tiny_run: Run, tmp_path: Path
) -> None:
    image = tmp_path / "gone.png"
    line = refused("explain", image, "--model", tiny_run.path, "--out", tmp_path / "maps")
    assert "gone.png" in line


def test_explain_with_a_blocking_check_prints_the_reason_and_no_class(
    command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    Image.new("RGB", (96, 64), (244, 244, 244)).save(tmp_path / "blank.png")
    code, out, _ = command(
        "explain", tmp_path / "blank.png", "--model", tiny_run.path, "--out", tmp_path / "maps"
    )
    assert code == 0
    assert "blank.png: not classified" in out
    assert "blocking BC104: The image is grayscale" in out
    assert "probability" not in out.partition("blocking")[0]


def test_explain_shortens_long_names_to_255_bytes(
    command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "fields"
    folder.mkdir()
    names = ["a" * 240, "\u75c5" * 80, "b"]
    for seed, name in enumerate(names):
        write_noise(folder / f"{name}.png", seed)
    code, _, err = command("explain", folder, "--model", tiny_run.path, "--out", tmp_path / "maps")
    assert (code, err) == (0, "")
    written = [path.name for path in (tmp_path / "maps").iterdir()]
    written.remove("predictions.csv")
    assert len(written) == 7 * len(names)
    assert max(len(name.encode()) for name in written) <= 255
    assert {name[0] for name in written} == {"a", "\u75c5", "b"}


def test_explain_goes_on_after_results_that_cannot_be_written(
    command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    folder, maps = tmp_path / "fields", tmp_path / "maps"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        write_noise(folder / f"{name}.png", seed)
    arguments = ("explain", folder, "--model", tiny_run.path, "--out", maps)
    assert command(*arguments)[0] == 0
    (blocked,) = maps.glob("b-*.json")
    blocked.unlink()
    blocked.mkdir()  # No file can replace a folder.
    code, out, err = command(*arguments)
    assert code == 1
    assert [name for name in "abc" if f"{name}.png: estimated" in out] == ["a", "c"]
    assert err.startswith(f"skipped in {folder}: Is a directory")
    assert err.endswith("1 of 3 images skipped.\n")
    assert not list(maps.glob(".*"))


@pytest.mark.parametrize("arguments", [("explain",), ("explain", "--json"), ("audit",)])
def test_names_outside_the_code_page_are_written_with_escapes(
    command: Command,
    tiny_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    folder = tmp_path / "fields \u75c5" / "benign"
    folder.mkdir(parents=True)
    for seed, name in enumerate("abc"):
        write_noise(folder / f"{name}\u7406.png", seed)
    (folder / "broken \u75c5.png").write_bytes(b"x")
    name, *rest = arguments
    options = ("--model", tiny_run.path, "--out", tmp_path / "maps") if name == "explain" else ()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    code, _, _ = command(name, folder.parent, *rest, *options)
    stream.flush()
    printed = stream.buffer.getvalue().decode("cp1252")
    assert code == (1 if name == "explain" else 0)
    assert "\\u75c5" in printed
    if rest:
        images = [Path(row["image"]).name for row in json.loads(printed)]
        assert images == ["a\u7406.png", "b\u7406.png", "c\u7406.png", "broken \u75c5.png"]


def test_explain_several_images_uses_the_fastest_precision_that_passed(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    chosen: list[str] = []
    load = inference.load_classifier

    def spy(source: Path, *, precision: str) -> inference.Classifier:
        chosen.append(precision)
        return load(source, precision=precision)

    monkeypatch.setattr(inference, "load_classifier", spy)
    images = sorted(synthetic_dataset.rglob("*.png"))[:2]
    for arguments in ((images[0],), (*images,), (*images, "--precision", "f32")):
        code, out, _ = command(
            "explain", *arguments, "--model", tiny_run.path, "--out", tmp_path / "maps", "--json"
        )
        assert code == 0
        card = open_bundle(tiny_run.model_dir).card
        fastest = inference.fastest_precision(card.precisions, card.files)
        expected = fastest if chosen[-1] == "fastest" else "f32"
        assert {result["precision"] for result in json.loads(out)} == {expected}
    assert chosen == ["f32", "fastest", "f32"]


def test_explain_with_views_and_nearest_images_adds_them_to_the_json(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path
) -> None:
    image = next(synthetic_dataset.rglob("*.png"))
    common = ["explain", image, "--model", tiny_run.path, "--out", tmp_path / "maps"]
    code, out, _ = command(*common, "--views", "--nearest", 2, "--json")
    (result,) = json.loads(out)
    assert code == 0
    assert result["outcome"] == result["predicted_class"]
    assert result["uncertain_band"] is None
    values = list(result["views"]["prob_malignant"].values())
    assert len(values) == 12
    assert values[0] == pytest.approx(result["prob_malignant"], abs=1e-6)
    assert result["views"]["mean"] == pytest.approx(np.mean(values))
    first, second = result["nearest"]
    assert first["distance"] <= second["distance"]
    assert parse_name(image.name).case not in (first["case"], second["case"])
    (file,) = (tmp_path / "maps").glob("*.json")
    assert json.loads(file.read_text()) == result
    _, text, _ = command(*common, "--views", "--nearest", 2)
    assert "12 views: mean" in text
    assert text.count("  nearest: ") == 2


def test_explain_without_training_images_states_the_reason(
    command: Command, tiny_run: Run, synthetic_dataset: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("BC_DATASETS", str(tmp_path / "empty"))
    shutil.copytree(tiny_run.model_dir, tmp_path / "copied")
    image = next(synthetic_dataset.rglob("*.png"))
    _, out, _ = command(
        "explain", image, "--model", tmp_path / "copied", "--out", tmp_path / "maps",
        "--nearest", 2, "--json",
    )  # fmt: skip
    (result,) = json.loads(out)
    assert result["nearest"] == []
    assert result["nearest_check"]["code"] == "BC196"
    assert "views" not in result


def test_explain_states_why_a_result_is_missing(
    command: Command, tiny_run: Run, tmp_path: Path
) -> None:
    Image.new("RGB", (96, 64), (244, 244, 244)).save(tmp_path / "blank.png")
    common = ["explain", tmp_path / "blank.png", "--model", tiny_run.path, "--out", tmp_path / "m"]
    options = ["--views", "--trust-test", "--layer", "occlusion", "--what-if", "blur=2"]
    _, out, _ = command(*common, *options, "--json")
    (result,) = json.loads(out)
    (check,) = result["not_computed"]
    assert check["code"] == "BC147"
    assert check["params"]["names"] == ["views", "trust test", "occlusion", "what-if"]
    _, text, _ = command(*common, *options)
    assert "BC147: This image is blocked, so that it has no views, trust test" in text


def test_explain_with_a_change_states_the_difference(command: Command, tmp_path: Path) -> None:
    image = tmp_path / "field.png"
    image.write_bytes(example_png(malignant=True))
    common = ["explain", image, "--model", "synthetic-demo", "--out", tmp_path / "maps"]
    common += ["--scale", "200X", "--show-anyway"]
    change = ["--what-if", "rectangle=0:0:1:0.5,fill=blur,brightness=0.8"]
    _, out, _ = command(*common, *change, "--json")
    (result,) = json.loads(out)
    what_if = result["what_if"]
    assert what_if["change"]["rectangle"] == [0.0, 0.0, 1.0, 0.5]
    assert what_if["prob_difference"] == pytest.approx(
        what_if["prob_malignant"] - result["prob_malignant"]
    )
    _, text, _ = command(*common, *change)
    assert f"({what_if['prob_difference']:+.3f})" in text
    code, _, error = command(*common, "--what-if", "blur=99")
    assert (code, error.count("\n")) == (2, 1)
    assert "Expected 0 to 20 px" in error


def test_explain_json_has_the_measured_values_with_limits_and_the_layers(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "field_0.55um.png").write_bytes(example_png(malignant=True))
    common = ["explain", tmp_path / "field_0.55um.png", "--model", "bundled", "--show-anyway"]
    out_dir = tmp_path / "maps"
    _, out, _ = command(*common, "--out", out_dir, "--layer", "grad-cam-plus-plus", "--json")
    (result,) = json.loads(out)
    assert (result["width_px"], result["height_px"], result["reduction"]) == (700, 460, 1)
    focus = result["measured"]["focus"]
    assert focus["is_minimum"]
    assert focus["blocking_limit"] < focus["warning_limit"]
    assert set(result["measured"]) >= {"tissue", "color", "texture", "brown"}
    layer = result["layers"]["grad-cam-plus-plus"]
    assert (out_dir / layer["overlay"]).exists()
    assert list(np.load(out_dir / layer["raw"]).shape[::-1]) == layer["cells"]
    assert result["is_forced"]
    # The overlay of a blocked image has a mark in its upper left corner.
    overlay = np.asarray(Image.open(out_dir / result["contribution"]["overlay"]))
    assert (overlay[0, :5] == 255).all()
    # Without the layer, its files of the last call would be those of another model.
    command(*common, "--out", out_dir, "--json")
    assert not (out_dir / layer["overlay"]).exists()
