"""A synthetic dataset at both magnifications, and training views with a small measure."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest

from bc_model.data.synthetic import generate_dataset
from bc_model.distillation import student
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.cross_validation import Networks
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import extract_features
from bc_model.distillation.imagenet import N_ACTIVATIONS
from bc_model.distillation.view_pool import ViewPool

QUICK = DistillationConfig(
    image_size=(32, 48), view_size=(32, 32), n_views=96, steps=3, batch_size=8, warmup_steps=2,
    n_folds=3, n_components=8, backbone="tiny",
)  # fmt: skip

_PROJECTION = np.random.default_rng(0).normal(size=(3, N_ACTIVATIONS // 2))


def measure(images: np.ndarray) -> np.ndarray:
    """Return hand-crafted features, and random color filters in place of ImageNet activations."""
    pixels = images.reshape(len(images), -1, 3) / 127.5 - 1.0
    filtered = np.tanh(pixels @ _PROJECTION)
    activations = np.concatenate([filtered.mean(axis=1), filtered.std(axis=1)], axis=1)
    return np.concatenate([extract_features(images), activations], axis=1).astype(np.float32)


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
    generate_dataset(
        folder / "extra", n_cases=4, images_per_case=1, size=(92, 140), magnifications=(40, 400),
        seed=3,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def source(root: Path) -> TrainingImages:
    return TrainingImages.read(root, ("synthetic",), QUICK.image_size)


@pytest.fixture(scope="session")
def pool(source: TrainingImages, tmp_path_factory: pytest.TempPathFactory) -> ViewPool:
    return ViewPool.load_or_make(
        source, QUICK, tmp_path_factory.mktemp("views"), make_measure=lambda: measure
    )


@pytest.fixture
def networks(source: TrainingImages, pool: ViewPool, tmp_path: Path) -> Networks:
    return Networks(source, pool, QUICK, tmp_path / "work")


@contextmanager
def eager_training() -> Iterator[None]:
    """Train eagerly, because tracing would take longer than the few steps of `QUICK`."""
    compile_model = student._compile

    def compile_eagerly(model: keras.Model, *arguments: object) -> None:
        compile_model(model, *arguments)
        model.run_eagerly = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "_compile", compile_eagerly)
        yield


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Train eagerly in a test."""
    with eager_training():
        yield
