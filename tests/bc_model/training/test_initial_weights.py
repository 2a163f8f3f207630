"""What the first weights of a run know of its test part."""

from pathlib import Path

import pytest

from bc_model.checks import make_check
from bc_model.data.dataset import Dataset, load_dataset
from bc_model.data.splits import read_split
from bc_model.inference.bundle import open_bundle
from bc_model.training.initial_weights import (
    check_initialization_leakage,
    collect_seen_images,
    find_initial_bundle,
)
from bc_model.training.run import Run


@pytest.fixture
def boxed(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run of the tests be the model in the box."""
    model = open_bundle(tiny_run.path)
    monkeypatch.setattr("bc_model.training.initial_weights.open_bundled_model", lambda: model)


@pytest.mark.parametrize("weights", ["bundled", "file"])
def test_images_of_known_cases_in_test_are_counted(
    tiny_run: Run, drawn_set: Path, boxed, weights: str
):
    if weights == "file":
        weights = str(tiny_run.model_dir / "model.keras")
    split = read_split(tiny_run.split_file)
    other = split.assign(
        subset=split["subset"].map({"test": "train", "train": "test"}).fillna("train")
    )
    n = int((split["subset"] == "train").sum())

    dataset = load_dataset(drawn_set)
    assert check_initialization_leakage(weights, dataset, split) is None
    leakage = make_check("BC410", n_seen=n, n_test=n)
    assert check_initialization_leakage(weights, dataset, other) == leakage


@pytest.mark.parametrize("weights", ["imagenet", "none", "/weights/resnet50.h5", "/no/model.keras"])
def test_of_a_stranger_s_weights_nothing_can_be_told(
    tiny_run: Run, drawn_set: Path, boxed, weights: str
):
    assert find_initial_bundle(weights) is None
    split = read_split(tiny_run.split_file)
    assert check_initialization_leakage(weights, load_dataset(drawn_set), split) is None


def test_copies_packed_anew_are_known_at_first(tiny_run: Run, drawn_set: Path, boxed):
    """Other pixels, no official names, no cases: what they look like is what is left."""
    dataset, split = load_dataset(drawn_set), read_split(tiny_run.split_file)
    names = {path: f"{number}.png" for number, path in enumerate(dataset.images["path"])}
    other = split.assign(
        path=split["path"].map(names), sha256="0" * 64, case="", group="",
        subset=split["subset"].map({"test": "train", "train": "test"}).fillna("train"),
    )  # fmt: skip
    images = dataset.images.assign(path=dataset.images["path"].map(names))
    packed_anew = Dataset(drawn_set, images, dataset.excluded)

    check = check_initialization_leakage("bundled", packed_anew, other)
    assert check is not None
    assert check.code == "BC411"
    assert (
        check_initialization_leakage("bundled", packed_anew, other.assign(subset="train")) is None
    )


def test_all_that_is_known_is_listed_with_what_the_first_weights_knew(
    tiny_run: Run, drawn_set: Path, boxed
):
    dataset, split = load_dataset(drawn_set), read_split(tiny_run.split_file)
    turned = split.assign(
        subset=["train" if subset == "test" else "test" for subset in split["subset"]]
    )
    own = set(split.loc[split["subset"] == "test", "sha256"])
    first = set(split["sha256"]) - own

    assert set(collect_seen_images("none", dataset, turned).dhash) == own
    assert set(collect_seen_images("bundled", dataset, turned).dhash) == own | first
    assert collect_seen_images("bundled", dataset, turned).is_complete
    assert not collect_seen_images("/weights/resnet50.h5", dataset, turned).is_complete
