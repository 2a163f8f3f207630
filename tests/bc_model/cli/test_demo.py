"""`demo`: the files and the results of the six samples."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from bc_model.evaluation import make_demo_samples
from tests.bc_model.conftest import Command


def test_demo_writes_images_masks_heatmaps_and_json(command_line: Command, tmp_path: Path) -> None:
    code, out, err = command_line("demo", "--out", tmp_path / "demo", "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert content == json.loads((tmp_path / "demo/demo.json").read_text(encoding="utf-8"))
    assert content["notice"].startswith("Synthetic images")
    assert [row["outcome"] for row in content["samples"]] == [
        "benign", "benign", "malignant", "malignant", "uncertain", "blocked",
    ]  # fmt: skip
    assert content["samples"][-1]["checks"][0]["code"] == "BC104"
    assert content["pointing_score"]["n_images"] == 3
    listed = {name for row in content["samples"] for name in row["files"]}
    assert listed | {"demo.json"} == {path.name for path in (tmp_path / "demo").iterdir()}
    sample = make_demo_samples()[2]
    with Image.open(tmp_path / "demo/lesion-1-mask.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask)[..., 0] > 0, sample.mask)


def test_demo_prints_one_line_per_sample(command_line: Command, tmp_path: Path) -> None:
    code, out, _ = command_line("demo", "--out", tmp_path)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("Glands 1: benign, estimated probability of malignancy 0.0")
    assert lines[5] == "Grayscale: blocked"
    assert "Not tissue" in lines[6]
