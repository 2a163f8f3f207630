import dataclasses
import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from bc_model.data.synthetic import generate_dataset
from bc_model.distillation import student
from bc_model.distillation.augmentation import ViewSampler
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.student import build_network, train_student
from bc_model.distillation.teacher import Teacher
from bc_model.model import reference_logits
from bc_model.training.devices import use_compute_dtype
from tests.bc_model.distillation.conftest import QUICK, eager_training


def test_train_student_learns_the_teacher_on_other_cases(source, tmp_path):
    """Refitting the last layer alone is not sufficient."""
    generate_dataset(
        tmp_path / "other", n_cases=8, images_per_case=2, size=(92, 140), seed=9,
        magnifications=(100, 200),
    )  # fmt: skip
    others = TrainingImages.read(tmp_path, ("other",), QUICK.image_size)
    teacher = Teacher.fit(
        source.features, source.malignant, source.table["case"].to_numpy(str), QUICK.penalty
    )
    teacher_logit = teacher.predict_logit(teacher.normalize(others.features))

    def agreement(steps: int) -> float:
        config = dataclasses.replace(QUICK, steps=steps, learning_rate=3e-3, ema_decay=0.9)
        logits = reference_logits(train_student(source, config, seed=0), others.pixels)
        return float(np.corrcoef(logits[:, 1] - logits[:, 0], teacher_logit)[0, 1])

    assert agreement(60) > 0.8
    with eager_training():
        assert agreement(1) < 0.8


@pytest.mark.parametrize("fast", [False, True])
def test_build_student_training_reduces_feature_and_teacher_errors(source, fast):
    teacher = Teacher.fit(
        source.features, source.malignant, source.table["case"].to_numpy(str), QUICK.penalty
    )
    sampler = ViewSampler(source, QUICK, 0)
    config = dataclasses.replace(QUICK, steps=60, learning_rate=3e-3, ema_decay=0.5)
    _, model = student.build_student(config, sampler, fast=fast)
    pixels, targets = student.make_targets(sampler.sample_batch(0), teacher, spread=1.0)

    def errors() -> list[float]:
        outputs = [np.asarray(output) for output in model(pixels, training=True)]
        return [float(np.mean(np.square(outputs[i] - targets[i]))) for i in (0, 1)]

    before = errors()
    model.fit(pixels, targets, batch_size=len(pixels), epochs=60, verbose=0)
    after = errors()
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.7 * before[1]


@pytest.fixture(scope="module")
def trained(source: TrainingImages) -> keras.Model:
    with eager_training():
        return train_student(source, QUICK, seed=5)


def test_train_student_recalibrates_batch_norm_on_complete_images(source, trained):
    # The mean of the first convolution over eight batches of complete images.
    sampler = ViewSampler(source, QUICK, 5)
    convolution = keras.Model(trained.inputs[0], trained.get_layer("block1_conv").output)
    batches = [
        convolution.predict_on_batch(source.pixels[sampler.sample_indices(k)].astype("f4"))
        for k in range(8)
    ]
    expected = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(
        trained.get_layer("block1_bn").moving_mean, expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.usefixtures("eagerly")
def test_train_student_averages_weights_over_the_steps(source):
    def kernel(ema_decay: float) -> np.ndarray:
        config = dataclasses.replace(QUICK, ema_decay=ema_decay)
        return train_student(source, config, seed=0).get_layer("block1_conv").get_weights()[0]

    keras.utils.set_random_seed(0)
    initial = build_network(QUICK, None).get_layer("block1_conv").get_weights()[0]

    # The first step has a learning rate of 0. With a decay of almost 1, the mean stays there.
    np.testing.assert_allclose(kernel(1.0 - 1e-9), initial, atol=1e-6)
    assert np.abs(kernel(0.0) - initial).max() > 1e-3


@pytest.mark.usefixtures("eagerly")
def test_train_student_uses_the_compute_dtype_of_the_config(source, monkeypatch):
    dtypes: list[str] = []

    def spy(model, compute_dtype):
        dtypes.append(compute_dtype)
        return use_compute_dtype(model, compute_dtype)

    monkeypatch.setattr(student, "use_compute_dtype", spy)
    model = train_student(source, dataclasses.replace(QUICK, compute_dtype="float32"), seed=0)

    assert dtypes == ["float32"]
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_train_student_with_jax_is_finite():
    code = """
import numpy as np
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.student import train_student
from bc_model.distillation.config import DistillationConfig
from bc_model.data.synthetic import generate_dataset
import pathlib, tempfile, keras
assert keras.backend.backend() == "jax"
root = pathlib.Path(tempfile.mkdtemp())
generate_dataset(root / "synthetic", n_cases=4, images_per_case=2, size=(92, 140),
                magnifications=(100, 200))
config = DistillationConfig(image_size=(32, 48), view_size=(32, 32), steps=3, batch_size=8,
                            warmup_steps=2, hidden_units=16, backbone="tiny")
source = TrainingImages.read(root, ("synthetic",), config.image_size)
model = train_student(source, config, seed=0)
assert all(np.isfinite(w).all() for w in model.get_weights())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("eagerly")
def test_train_student_depends_on_the_seed(source, trained):
    one = reference_logits(trained, source.pixels)
    two, other = (
        reference_logits(train_student(source, QUICK, seed=seed), source.pixels) for seed in (5, 6)
    )

    np.testing.assert_allclose(one, two, atol=0.05)
    assert np.abs(one - other).max() > 0.1
