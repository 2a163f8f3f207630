import dataclasses
import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from bc_model.data.synthetic import write_synthetic
from bc_model.distillation import student as learner
from bc_model.distillation.augmentation import ViewSampler
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.student import build_network, learn
from bc_model.distillation.teacher import Teacher
from bc_model.model import reference_logits
from bc_model.training.devices import computing_in
from tests.bc_model.distillation.conftest import QUICK, without_traces


def test_it_learns_what_its_teacher_would_say_of_other_cases(source, tmp_path):
    """The last layer alone, fitted anew to the teacher, does not come to that."""
    write_synthetic(
        tmp_path / "other", n_cases=8, images_per_case=2, size=(92, 140), seed=9,
        magnifications=(100, 200),
    )  # fmt: skip
    others = TrainingImages.read(tmp_path, ("other",), QUICK.image_size)
    teacher = Teacher.fit(
        source.features, source.malignant, source.table["case"].to_numpy(str), QUICK.penalty
    )
    taught = teacher.logit(teacher.normalized(others.features))

    def agreement(steps: int) -> float:
        config = dataclasses.replace(QUICK, steps=steps, learning_rate=3e-3, averaging=0.9)
        logits = reference_logits(learn(source, config, seed=0), others.pixels)
        return float(np.corrcoef(logits[:, 1] - logits[:, 0], taught)[0, 1])

    assert agreement(60) > 0.8
    with without_traces():
        assert agreement(1) < 0.8


@pytest.mark.parametrize("quick", [False, True])
def test_views_teach_their_features(source, fast):
    teacher = Teacher.fit(
        source.features, source.malignant, source.table["case"].to_numpy(str), QUICK.penalty
    )
    sampler = ViewSampler(source, QUICK, 0)
    config = dataclasses.replace(QUICK, steps=60, learning_rate=3e-3, averaging=0.5)
    _, targets = learner.build_student(config, sampler, fast=fast)
    pixels, answers = learner._target(sampler.batch(0), teacher, spread=1.0)

    def errors() -> list[float]:
        told = [np.asarray(one) for one in targets(pixels, training=True)]
        return [float(np.mean(np.square(told[i] - answers[i]))) for i in (0, 1)]

    before = errors()
    targets.fit(pixels, answers, batch_size=len(pixels), epochs=60, verbose=0)
    after = errors()
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.7 * before[1]


@pytest.fixture(scope="module")
def fast(source: TrainingImages) -> keras.Model:
    with without_traces():
        return learn(source, QUICK, seed=5)


def test_what_is_served_was_settled_on_whole_images(source, fast):
    # By hand: what the first convolution makes of eight batches of them, on the mean.
    sampler = ViewSampler(source, QUICK, 5)
    through = keras.Model(fast.inputs[0], fast.get_layer("block1_conv").output)
    batches = [
        through.predict_on_batch(source.pixels[sampler.draw(k)].astype("f4")) for k in range(8)
    ]
    expected = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(
        fast.get_layer("block1_bn").moving_mean, expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.usefixtures("eagerly")
def test_weights_are_averaged_over_the_steps(source):
    def kernel(averaging: float) -> np.ndarray:
        config = dataclasses.replace(QUICK, averaging=averaging)
        return learn(source, config, seed=0).get_layer("block1_conv").get_weights()[0]

    keras.utils.set_random_seed(0)
    at_first = build_network(QUICK, None).get_layer("block1_conv").get_weights()[0]

    # The first step learns at a rate of 0. A mean that never forgets stays where it was then.
    np.testing.assert_allclose(kernel(1.0 - 1e-9), at_first, atol=1e-6)
    assert np.abs(kernel(0.0) - at_first).max() > 1e-3


@pytest.mark.usefixtures("eagerly")
def test_the_steps_compute_in_the_arithmetic_of_the_recipe(source, monkeypatch):
    asked: list[str] = []

    def spy(model, compute_dtype):
        asked.append(compute_dtype)
        return computing_in(model, compute_dtype)

    monkeypatch.setattr(learner, "computing_in", spy)
    model = learn(source, dataclasses.replace(QUICK, compute_dtype="float32"), seed=0)

    assert asked == ["float32"]
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_jax_learns_too():
    code = """
import numpy as np
from bc_model.distillation.data import Source
from bc_model.distillation.student import learn
from bc_model.distillation.config import Recipe
from bc_model.data.synthetic import write_synthetic
import pathlib, tempfile, keras
assert keras.backend.backend() == "jax"
root = pathlib.Path(tempfile.mkdtemp())
write_synthetic(root / "drawn", n_cases=4, images_per_case=2, size=(92, 140),
                magnifications=(100, 200))
recipe = Recipe(image_size=(32, 48), view_size=(32, 32), steps=3, batch_size=8, warmup_steps=2,
                hidden_units=16, backbone="tiny")
model = learn(Source.read(root, ("drawn",), recipe.image_size), recipe, seed=0)
assert all(np.isfinite(w).all() for w in model.get_weights())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("eagerly")
def test_the_same_seed_learns_the_same_and_another_one_does_not(source, fast):
    one = reference_logits(fast, source.pixels)
    two, other = (
        reference_logits(learn(source, QUICK, seed=seed), source.pixels) for seed in (5, 6)
    )

    np.testing.assert_allclose(one, two, atol=0.05)
    assert np.abs(one - other).max() > 0.1
