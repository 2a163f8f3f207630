"""Images of a run: found by the hash of their pixels, and read from inside the dataset only."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from bc_model.data.hashing import pixel_sha256
from bc_model.data.images import decode_image
from bc_model.data.splits import read_split, write_split
from bc_model.errors import DataError, ImageError, RunError
from bc_model.training.run import Run, RunImages


@pytest.fixture
def run(tiny_run: Run, synthetic_dataset: Path, tmp_path: Path) -> Run:
    """Return a run without a model, and with a copy of the dataset."""
    shutil.copytree(synthetic_dataset, tmp_path / "set")
    copy = Run(tmp_path / "run")
    copy.path.mkdir()
    shutil.copy(tiny_run.split_file, copy.split_file)
    config = tiny_run.read_config()
    config["config"]["data"] = str(tmp_path / "set")
    copy.write_config(config)
    return copy


def test_read_returns_the_file_with_these_pixels(run: Run, tmp_path: Path):
    first = read_split(run.split_file).iloc[0]

    path, data = RunImages.from_run(run).read(first["sha256"])

    assert path == first["path"]
    assert data == (tmp_path / "set" / path).read_bytes()
    assert pixel_sha256(decode_image(data, path)) == first["sha256"]


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "/etc/passwd", "0" * 64])
def test_read_with_an_unknown_hash_raises(run: Run, sha256: str):
    with pytest.raises(DataError, match="has no image"):
        RunImages.from_run(run).read(sha256)


def test_read_with_an_empty_hash_raises(run: Run):
    split = read_split(run.split_file)
    split.loc[0, "sha256"] = ""
    write_split(split, run.split_file)

    with pytest.raises(DataError, match="has no image"):
        RunImages.from_run(run).read("")


@pytest.mark.parametrize("case", ["climb", "absolute", "link"])
def test_read_outside_of_the_dataset_raises(run: Run, tmp_path: Path, case: str):
    split = read_split(run.split_file)
    inside = tmp_path / "set" / split["path"].iloc[0]
    outside = tmp_path / "outside.png"
    shutil.move(inside, outside)
    if case == "link":
        inside.symlink_to(outside)
    else:
        split.loc[0, "path"] = "../outside.png" if case == "climb" else str(outside)
        write_split(split, run.split_file)

    with pytest.raises(DataError, match="outside of its dataset"):
        RunImages.from_run(run).read(split["sha256"].iloc[0])


def test_read_with_changed_pixels_raises(run: Run, tmp_path: Path):
    one, other = read_split(run.split_file).iloc[:2].to_dict("records")
    shutil.copy(tmp_path / "set" / other["path"], tmp_path / "set" / one["path"])

    with pytest.raises(DataError, match="has changed since"):
        RunImages.from_run(run).read(one["sha256"])


def test_read_without_the_dataset_raises(run: Run, tmp_path: Path):
    shutil.rmtree(tmp_path / "set")

    with pytest.raises(ImageError, match="There is no"):
        RunImages.from_run(run).read(read_split(run.split_file)["sha256"].iloc[0])


def test_from_run_without_a_dataset_raises(run: Run):
    (run.path / "config.json").write_text(json.dumps({"config": {}}))

    with pytest.raises(RunError, match="no dataset in its configuration"):
        RunImages.from_run(run)


def test_read_with_the_hash_of_the_file_raises(run: Run, tmp_path: Path):
    first = read_split(run.split_file).iloc[0]
    file_sha256 = hashlib.sha256((tmp_path / "set" / first["path"]).read_bytes()).hexdigest()

    with pytest.raises(DataError, match="has no image"):
        RunImages.from_run(run).read(file_sha256)
