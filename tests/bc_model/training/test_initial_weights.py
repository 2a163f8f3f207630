"""Initialization leakage: test images on which the initial weights were trained."""

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
def bundled(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the run of the tests as the bundled model."""
    model = open_bundle(tiny_run.path)
    monkeypatch.setattr("bc_model.training.initial_weights.open_bundled_model", lambda: model)


@pytest.mark.parametrize("weights", ["bundled", "file"])
def test_check_initialization_leakage_counts_test_images_of_seen_cases(
    tiny_run: Run, synthetic_dataset: Path, bundled, weights: str
):
    if weights == "file":
        weights = str(tiny_run.model_dir / "model.keras")
    split = read_split(tiny_run.split_file)
    other = split.assign(
        subset=split["subset"].map({"test": "train", "train": "test"}).fillna("train")
    )
    n = int((split["subset"] == "train").sum())

    dataset = load_dataset(synthetic_dataset)
    assert check_initialization_leakage(weights, dataset, split) is None
    leakage = make_check("BC410", n_seen=n, n_test=n)
    assert check_initialization_leakage(weights, dataset, other) == leakage


@pytest.mark.parametrize("weights", ["imagenet", "none", "/weights/resnet50.h5", "/no/model.keras"])
def test_check_initialization_leakage_of_unknown_weights_is_none(
    tiny_run: Run, synthetic_dataset: Path, bundled, weights: str
):
    assert find_initial_bundle(weights) is None
    split = read_split(tiny_run.split_file)
    assert check_initialization_leakage(weights, load_dataset(synthetic_dataset), split) is None


def test_check_initialization_leakage_of_renamed_copies_is_bc411(
    tiny_run: Run, synthetic_dataset: Path, bundled
):
    """Without the same pixels, names and cases, only near-duplicates identify images."""
    dataset, split = load_dataset(synthetic_dataset), read_split(tiny_run.split_file)
    names = {path: f"{number}.png" for number, path in enumerate(dataset.images["path"])}
    other = split.assign(
        path=split["path"].map(names), sha256="0" * 64, case="", group="",
        subset=split["subset"].map({"test": "train", "train": "test"}).fillna("train"),
    )  # fmt: skip
    images = dataset.images.assign(path=dataset.images["path"].map(names))
    renamed = Dataset(synthetic_dataset, images, dataset.excluded)

    check = check_initialization_leakage("bundled", renamed, other)
    assert check is not None
    assert check.code == "BC411"
    assert check_initialization_leakage("bundled", renamed, other.assign(subset="train")) is None


def test_collect_seen_images_adds_those_of_the_initial_weights(
    tiny_run: Run, synthetic_dataset: Path, bundled
):
    dataset, split = load_dataset(synthetic_dataset), read_split(tiny_run.split_file)
    swapped = split.assign(
        subset=["train" if subset == "test" else "test" for subset in split["subset"]]
    )
    own = set(split.loc[split["subset"] == "test", "sha256"])
    first = set(split["sha256"]) - own

    assert set(collect_seen_images("none", dataset, swapped).dhash) == own
    assert set(collect_seen_images("bundled", dataset, swapped).dhash) == own | first
    assert collect_seen_images("bundled", dataset, swapped).is_complete
    assert not collect_seen_images("/weights/resnet50.h5", dataset, swapped).is_complete
