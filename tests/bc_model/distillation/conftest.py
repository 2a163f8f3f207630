"""A synthetic dataset at both magnifications, read once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import pytest

from bc_model.data.synthetic import generate_dataset
from bc_model.distillation import student
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages

QUICK = DistillationConfig(
    image_size=(32, 48), view_size=(32, 32), steps=3, batch_size=8, warmup_steps=2,
    hidden_units=16, n_folds=3, backbone="tiny",
)  # fmt: skip


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    generate_dataset(
        folder / "synthetic",
        n_cases=8,
        images_per_case=2,
        size=(92, 140),
        magnifications=(100, 200),
    )
    return folder


@pytest.fixture(scope="session")
def source(root: Path) -> TrainingImages:
    return TrainingImages.read(root, ("synthetic",), QUICK.image_size)


@contextmanager
def eager_training() -> Iterator[None]:
    """Train eagerly, because tracing would take longer than the few steps of `QUICK`."""
    compile_model = student._compile

    def compile_eagerly(
        model: keras.Model, config: DistillationConfig, optimizer_class: type
    ) -> None:
        compile_model(model, config, optimizer_class)
        model.run_eagerly = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "_compile", compile_eagerly)
        yield


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Train eagerly in a test."""
    with eager_training():
        yield
