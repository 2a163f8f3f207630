"""Training without traced functions."""

from collections.abc import Iterator

import keras
import pytest

from bc_model.training import trainer
from bc_model.training.run import Run


@pytest.fixture
def eagerly(tiny_run: Run) -> Iterator[None]:
    """Train eagerly in a test, because tracing takes longer than a few steps of a tiny model.

    `tiny_run`, `start_run` and the command line train as in normal use.
    """
    compile_model = trainer._compile

    def compile_eagerly(model: keras.Model, rate: float) -> None:
        compile_model(model, rate)
        model.run_eagerly = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_compile", compile_eagerly)
        yield
