"""Exact resume: an interrupted training gives the same network."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bc_model.distillation import student
from bc_model.distillation.student import train_student
from bc_model.distillation.view_pool import ViewSampler
from tests.bc_model.distillation.conftest import QUICK, eager_training

CONFIG = dataclasses.replace(QUICK, steps=7, learning_rate=1e-2)

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(autouse=True)
def save_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student, "CHECKPOINT_INTERVAL_S", 0.0)


@pytest.fixture(scope="module")
def images(source, pool) -> tuple:
    """Return images, views and a mask of all images."""
    return source, pool, np.ones(len(source.table), bool)


@pytest.fixture(scope="module")
def uninterrupted(images) -> list[np.ndarray]:
    with eager_training():
        return train_student(*images, CONFIG, seed=3)[0].get_weights()


def interrupt(images, checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Train until the views of a step cannot be sampled."""
    sample_batch = ViewSampler.sample_batch

    def broken(self, step: int):
        if step == at:
            raise RuntimeError("interrupted")
        return sample_batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ViewSampler, "sample_batch", broken)
        with pytest.raises(tf.errors.UnknownError, match="interrupted"):
            train_student(*images, CONFIG, seed=3, checkpoint_file=checkpoint_file)


def record_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    steps: list[int] = []
    sample_batch = ViewSampler.sample_batch

    def counted(self, step: int):
        steps.append(step)
        return sample_batch(self, step)

    monkeypatch.setattr(ViewSampler, "sample_batch", counted)
    return steps


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_train_student_resumes_to_the_same_weights(images, uninterrupted, tmp_path, monkeypatch):
    checkpoint_file = tmp_path / "work" / "one.checkpoint.npz"
    interrupt(images, checkpoint_file, monkeypatch, at=4)
    assert checkpoint_file.exists()

    steps = record_steps(monkeypatch)
    assert_equal(
        train_student(*images, CONFIG, seed=3, checkpoint_file=checkpoint_file)[0].get_weights(),
        uninterrupted,
    )
    assert steps == [4, 5, 6]
    assert checkpoint_file.exists()  # The caller deletes it after the result is saved.


def test_train_student_keeps_the_checkpoint_until_the_end(
    images, uninterrupted, tmp_path, monkeypatch
):
    def fail(*_):
        raise RuntimeError("no memory")

    checkpoint_file = tmp_path / "one.checkpoint.npz"
    with monkeypatch.context() as patch:
        patch.setattr(student, "recalibrate_batch_norm", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            train_student(*images, CONFIG, seed=3, checkpoint_file=checkpoint_file)

    steps = record_steps(monkeypatch)
    assert_equal(
        train_student(*images, CONFIG, seed=3, checkpoint_file=checkpoint_file)[0].get_weights(),
        uninterrupted,
    )
    assert steps == [6]


@pytest.mark.parametrize("content", ["truncated", "other model"])
def test_train_student_ignores_an_unusable_checkpoint(
    images, uninterrupted, tmp_path, monkeypatch, content
):
    checkpoint_file = tmp_path / "one.checkpoint.npz"
    if content == "truncated":
        interrupt(images, checkpoint_file, monkeypatch, at=4)
        checkpoint_file.write_bytes(checkpoint_file.read_bytes()[:-999])
    else:
        with checkpoint_file.open("wb") as stream:
            np.savez(stream, n_done=4, **{"0": np.zeros(3)})

    assert_equal(
        train_student(*images, CONFIG, seed=3, checkpoint_file=checkpoint_file)[0].get_weights(),
        uninterrupted,
    )


def test_train_student_saves_after_the_interval_only(images, tmp_path, monkeypatch):
    monkeypatch.setattr(student, "CHECKPOINT_INTERVAL_S", 300.0)
    interrupt(images, tmp_path / "one.checkpoint.npz", monkeypatch, at=4)
    assert not list(tmp_path.iterdir())
