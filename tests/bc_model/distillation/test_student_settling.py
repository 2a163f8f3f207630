import keras
import numpy as np
import pytest

from bc_model.distillation.augmentation import ViewSampler
from bc_model.distillation.student import build_network, fit_line, settle_batch_norm, settle_logits
from bc_model.distillation.teacher import Teacher
from bc_model.model import reference_logits
from tests.bc_model.distillation.conftest import QUICK


def test_settled_statistics_are_those_of_whole_images(source):
    sampler = ViewSampler(source, QUICK, 0)
    model = build_network(QUICK, None)
    first = model.get_layer("block1_bn")
    before = first.momentum

    settle_batch_norm(model, source.pixels, sampler)

    # The mean over eight batches of what the first convolution makes of them, by hand.
    through = keras.Model(model.inputs[0], model.get_layer("block1_conv").output)
    batches = [
        through.predict_on_batch(source.pixels[sampler.draw(k)].astype("f4")) for k in range(8)
    ]
    expected = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(first.moving_mean, expected, rtol=1e-3, atol=1e-5)
    assert first.momentum == before


def test_the_last_layer_tells_the_teacher_s_logits_of_whole_images(source):
    case = source.table["case"].to_numpy(str)
    teacher = Teacher.fit(source.features, source.malignant, case, QUICK.penalty)
    model = build_network(QUICK, QUICK.image_size)

    settle_logits(model, source, teacher, penalty=1.0)

    # The same line by hand: ridge regression over the hidden layer, each case counting once.
    body = keras.Model(model.inputs[0], model.get_layer("dense_1").output)
    hidden = body.predict_on_batch(source.pixels.astype("f4")).astype(float)
    taught = teacher.logit(teacher.normalized(source.features)).astype(float)
    weight = np.array([1.0 / (case == one).sum() for one in case])
    weight *= len(case) / weight.sum()
    unit = hidden / (hidden.std(axis=0) + 1e-3)
    unit -= np.average(unit, axis=0, weights=weight)
    mean = np.average(taught, weights=weight)
    moments = unit.T @ (weight[:, None] * unit) + np.eye(unit.shape[1])
    line = np.linalg.solve(moments, unit.T @ (weight * (taught - mean)))
    logits = reference_logits(model, source.pixels)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], mean + unit @ line, atol=1e-3)
    np.testing.assert_allclose(logits.sum(axis=1), 0.0, atol=1e-4)


def test_a_line_weighs_cases_and_not_images():
    # Case a says 0 a hundred times, case b says 1 once: the best constant lies half-way.
    hidden = np.zeros((101, 1))
    logit = np.array([0.0] * 100 + [1.0])
    case = np.array(["a"] * 100 + ["b"])

    kernel, bias = fit_line(hidden, logit, case, penalty=1.0)

    assert kernel == pytest.approx([0.0])
    assert bias == pytest.approx(0.5)


def test_a_heavier_penalty_makes_a_flatter_line():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 3)) * [1.0, 10.0, 0.1] + 5.0
    logit = hidden @ [1.0, 0.2, 3.0]
    case = np.arange(200).astype(str)

    (exact, bias), (flat, _) = (fit_line(hidden, logit, case, p) for p in (1e-9, 1e3))

    np.testing.assert_allclose(exact, [1.0, 0.2, 3.0], rtol=2e-2)
    np.testing.assert_allclose(hidden @ exact + bias, logit, atol=1e-2)
    assert np.abs(flat).max() < 0.5 * np.abs(exact).max()
