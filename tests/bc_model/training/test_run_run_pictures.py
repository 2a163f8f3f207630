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
def run(tiny_run: Run, drawn_set: Path, tmp_path: Path) -> Run:
    """Return a run, without its model, on a data set that a test may alter."""
    shutil.copytree(drawn_set, tmp_path / "set")
    copy = Run(tmp_path / "run")
    copy.path.mkdir()
    shutil.copy(tiny_run.split_file, copy.split_file)
    config = tiny_run.read_config()
    config["config"]["data"] = str(tmp_path / "set")
    copy.write_config(config)
    return copy


def test_a_image_is_found_by_its_pixels(run: Run, tmp_path: Path):
    first = read_split(run.split_file).iloc[0]

    path, data = RunImages.from_run(run).read(first["sha256"])

    assert path == first["path"]
    assert data == (tmp_path / "set" / path).read_bytes()
    assert pixel_sha256(decode_image(data, path)) == first["sha256"]


@pytest.mark.parametrize("asked", ["", "../../etc/passwd", "/etc/passwd", "0" * 64])
def test_what_is_not_a_image_of_the_run_is_refused(run: Run, asked: str):
    with pytest.raises(DataError, match="has no picture"):
        RunImages.from_run(run).read(asked)


def test_a_row_without_a_hash_cannot_be_asked_for(run: Run):
    split = read_split(run.split_file)
    split.loc[0, "sha256"] = ""
    write_split(split, run.split_file)

    with pytest.raises(DataError, match="has no picture"):
        RunImages.from_run(run).read("")


@pytest.mark.parametrize("way_out", ["climb", "absolute", "link"])
def test_a_image_outside_the_data_set_is_not_opened(run: Run, tmp_path: Path, way_out: str):
    split = read_split(run.split_file)
    inside = tmp_path / "set" / split["path"].iloc[0]
    outside = tmp_path / "outside.png"
    shutil.move(inside, outside)
    if way_out == "link":
        inside.symlink_to(outside)
    else:
        split.loc[0, "path"] = "../outside.png" if way_out == "climb" else str(outside)
        write_split(split, run.split_file)

    with pytest.raises(DataError, match="outside its data set"):
        RunImages.from_run(run).read(split["sha256"].iloc[0])


def test_other_pixels_under_the_old_name_are_refused(run: Run, tmp_path: Path):
    one, other = read_split(run.split_file).iloc[:2].to_dict("records")
    shutil.copy(tmp_path / "set" / other["path"], tmp_path / "set" / one["path"])

    with pytest.raises(DataError, match="other pixels"):
        RunImages.from_run(run).read(one["sha256"])


def test_a_data_set_that_is_gone_is_said(run: Run, tmp_path: Path):
    shutil.rmtree(tmp_path / "set")

    with pytest.raises(ImageError, match="There is no picture"):
        RunImages.from_run(run).read(read_split(run.split_file)["sha256"].iloc[0])


def test_a_run_that_does_not_say_where_its_data_lies(run: Run):
    (run.path / "config.json").write_text(json.dumps({"config": {}}))

    with pytest.raises(RunError, match="where its data set lies"):
        RunImages.from_run(run)


def test_the_hash_of_the_file_is_not_that_of_the_image(run: Run, tmp_path: Path):
    first = read_split(run.split_file).iloc[0]
    of_file = hashlib.sha256((tmp_path / "set" / first["path"]).read_bytes()).hexdigest()

    with pytest.raises(DataError, match="has no picture"):
        RunImages.from_run(run).read(of_file)
