"""A drawn data set at both magnifications, read once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import pytest

from bc_model.data.synthetic import write_synthetic
from bc_model.distillation import student as learner
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages

QUICK = DistillationConfig(
    image_size=(32, 48), view_size=(32, 32), steps=3, batch_size=8, warmup_steps=2,
    hidden_units=16, n_folds=3, backbone="tiny",
)  # fmt: skip


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    write_synthetic(
        folder / "drawn", n_cases=8, images_per_case=2, size=(92, 140), magnifications=(100, 200)
    )
    return folder


@pytest.fixture(scope="session")
def source(root: Path) -> TrainingImages:
    return TrainingImages.read(root, ("drawn",), QUICK.image_size)


@contextmanager
def without_traces() -> Iterator[None]:
    """Take the few steps of `QUICK` without a trace, which would cost more than they do."""
    compile_targets = learner._compile

    def compile_without_trace(
        targets: keras.Model, config: DistillationConfig, adamw_kind: type[keras.optimizers.AdamW]
    ) -> None:
        compile_targets(targets, config, adamw_kind)
        targets.run_eagerly = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "_compile", compile_without_trace)
        yield


@pytest.fixture
def eagerly() -> Iterator[None]:
    """See `without_traces`."""
    with without_traces():
        yield
