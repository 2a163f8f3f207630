"""A learning that is cut off comes to the same network as one that is not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bc_model.distillation import student as drafts
from bc_model.distillation import student as learner
from bc_model.distillation.augmentation import ViewSampler
from bc_model.distillation.student import learn
from tests.bc_model.distillation.conftest import QUICK

CONFIG = dataclasses.replace(QUICK, steps=7, learning_rate=1e-2)

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(autouse=True)
def kept_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "KEPT_EVERY_S", 0.0)


@pytest.fixture
def whole(source) -> list[np.ndarray]:
    return learn(source, CONFIG, seed=3).get_weights()


def threshold(source, draft: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Learn until the views of a step cannot be made."""
    batch = ViewSampler.batch

    def broken(self, step: int):
        if step == at:
            raise RuntimeError("cut off")
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ViewSampler, "batch", broken)
        with pytest.raises(tf.errors.UnknownError, match="cut off"):
            learn(source, CONFIG, seed=3, draft=draft)


def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []
    batch = ViewSampler.batch

    def counted(self, step: int):
        asked.append(step)
        return batch(self, step)

    monkeypatch.setattr(ViewSampler, "batch", counted)
    return asked


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_cut_off_goes_on_and_comes_to_the_same(source, whole, tmp_path, monkeypatch):
    draft = tmp_path / "work" / "one.draft.npz"
    threshold(source, draft, monkeypatch, at=4)
    assert draft.exists()

    asked = steps_taken(monkeypatch)
    assert_equal(learn(source, CONFIG, seed=3, draft=draft).get_weights(), whole)
    assert asked == [4, 5, 6]
    assert not draft.exists()


def test_steps_are_kept_until_all_is_settled(source, whole, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    draft = tmp_path / "one.draft.npz"
    with monkeypatch.context() as patch:
        patch.setattr(learner, "settle_batch_norm", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            learn(source, CONFIG, seed=3, draft=draft)

    asked = steps_taken(monkeypatch)
    assert_equal(learn(source, CONFIG, seed=3, draft=draft).get_weights(), whole)
    assert asked == [6]


@pytest.mark.parametrize("found", ["half", "another"])
def test_a_draft_that_cannot_be_used_is_left_aside(source, whole, tmp_path, monkeypatch, found):
    draft = tmp_path / "one.draft.npz"
    if found == "half":
        threshold(source, draft, monkeypatch, at=4)
        draft.write_bytes(draft.read_bytes()[:-999])
    else:
        with draft.open("wb") as stream:
            np.savez(stream, done=4, **{"0": np.zeros(3)})

    assert_equal(learn(source, CONFIG, seed=3, draft=draft).get_weights(), whole)


def test_little_is_written(source, tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "KEPT_EVERY_S", 300.0)
    threshold(source, tmp_path / "one.draft.npz", monkeypatch, at=4)
    assert not list(tmp_path.iterdir())
