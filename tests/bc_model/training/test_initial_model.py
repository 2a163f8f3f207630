"""What the first weights of a run know of its test part."""

import pytest

from bc_model.data.splits import read_split
from bc_model.serving.bundle import open_bundle
from bc_model.training.initial_model import initial_model, known_at_first
from bc_model.training.run_folder import RunFolder


@pytest.fixture
def boxed(tiny_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run of the tests be the model in the box."""
    model = open_bundle(tiny_run.path)
    monkeypatch.setattr("bc_model.training.initial_model.bundled_model", lambda: model)


@pytest.mark.parametrize("weights", ["bundled", "file"])
def test_pictures_of_known_cases_in_test_are_counted(tiny_run: RunFolder, boxed, weights: str):
    if weights == "file":
        weights = str(tiny_run.model_folder / "model.keras")
    split = read_split(tiny_run.split_file)
    other = split.assign(part=split["part"].map({"test": "train", "train": "test"}).fillna("train"))
    n = int((split["part"] == "train").sum())

    assert known_at_first(weights, split) == ""
    assert known_at_first(weights, other).startswith(
        f"The first weights know {n} of {n} test pictures: they learned from these"
    )


@pytest.mark.parametrize("weights", ["imagenet", "none", "/weights/resnet50.h5", "/no/model.keras"])
def test_of_a_stranger_s_weights_nothing_can_be_told(tiny_run: RunFolder, boxed, weights: str):
    assert initial_model(weights) is None
    assert known_at_first(weights, read_split(tiny_run.split_file)) == ""
