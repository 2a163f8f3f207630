"""Eager training."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import pytest

from bc_model.training import trainer
from bc_model.training.run import Run


@contextmanager
def eager_training() -> Iterator[None]:
    """Train eagerly, because tracing takes longer than a few steps of a tiny model."""
    compile_model = trainer._compile

    def compile_eagerly(model: keras.Model, rate: float) -> None:
        compile_model(model, rate)
        model.run_eagerly = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_compile", compile_eagerly)
        yield


@pytest.fixture
def eagerly(tiny_run: Run) -> Iterator[None]:
    """Train eagerly in a test, but `tiny_run` as in normal use."""
    with eager_training():
        yield
