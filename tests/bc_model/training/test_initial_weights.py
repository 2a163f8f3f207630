"""What the first weights of a run know of its test part."""

from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.data.dataset import Manifest, read_manifest
from bc_model.data.splits import read_split
from bc_model.inference.bundle import open_bundle
from bc_model.training.initial_weights import all_known, initial_model, known_at_first
from bc_model.training.run import RunFolder


@pytest.fixture
def boxed(tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run of the tests be the model in the box."""
    model = open_bundle(tiny_run.path)
    monkeypatch.setattr("bc_model.training.initial_weights.bundled_model", lambda: model)


@pytest.mark.parametrize("weights", ["bundled", "file"])
def test_pictures_of_known_cases_in_test_are_counted(
    tiny_run: RunFolder, drawn_set: Path, boxed, weights: str
):
    if weights == "file":
        weights = str(tiny_run.model_folder / "model.keras")
    split = read_split(tiny_run.split_file)
    other = split.assign(part=split["part"].map({"test": "train", "train": "test"}).fillna("train"))
    n = int((split["part"] == "train").sum())

    manifest = read_manifest(drawn_set)
    assert known_at_first(weights, manifest, split) is None
    leakage = make_check("BC410", n_seen=n, n_test=n)
    assert known_at_first(weights, manifest, other) == leakage


@pytest.mark.parametrize("weights", ["imagenet", "none", "/weights/resnet50.h5", "/no/model.keras"])
def test_of_a_stranger_s_weights_nothing_can_be_told(
    tiny_run: RunFolder, drawn_set: Path, boxed, weights: str
):
    assert initial_model(weights) is None
    split = read_split(tiny_run.split_file)
    assert known_at_first(weights, read_manifest(drawn_set), split) is None


def test_copies_packed_anew_are_known_at_first(tiny_run: RunFolder, drawn_set: Path, boxed):
    """Other pixels, no official names, no cases: what they look like is what is left."""
    manifest, split = read_manifest(drawn_set), read_split(tiny_run.split_file)
    names = {path: f"{number}.png" for number, path in enumerate(manifest.pictures["path"])}
    other = split.assign(
        path=split["path"].map(names), sha256="0" * 64, case="", group="",
        part=split["part"].map({"test": "train", "train": "test"}).fillna("train"),
    )  # fmt: skip
    pictures = manifest.pictures.assign(path=manifest.pictures["path"].map(names))
    packed_anew = Manifest(drawn_set, pictures, manifest.rejected)

    check = known_at_first("bundled", packed_anew, other)
    assert check is not None
    assert check.code == "BC411"
    assert known_at_first("bundled", packed_anew, other.assign(part="train")) is None


def test_all_that_is_known_is_listed_with_what_the_first_weights_knew(
    tiny_run: RunFolder, drawn_set: Path, boxed
):
    manifest, split = read_manifest(drawn_set), read_split(tiny_run.split_file)
    turned = split.assign(part=["train" if part == "test" else "test" for part in split["part"]])
    own = set(split.loc[split["part"] == "test", "sha256"])
    first = set(split["sha256"]) - own

    assert set(all_known("none", manifest, turned).dhash) == own
    assert set(all_known("bundled", manifest, turned).dhash) == own | first
    assert all_known("bundled", manifest, turned).whole
    assert not all_known("/weights/resnet50.h5", manifest, turned).whole
