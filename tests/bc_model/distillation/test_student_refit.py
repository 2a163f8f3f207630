import keras
import numpy as np
import pytest

from bc_model.distillation.augmentation import ViewSampler
from bc_model.distillation.student import (
    build_network,
    fit_ridge,
    recalibrate_batch_norm,
    refit_last_layer,
)
from bc_model.distillation.teacher import Teacher
from bc_model.model import reference_logits
from tests.bc_model.distillation.conftest import QUICK


def test_recalibrate_batch_norm_uses_complete_images(source):
    sampler = ViewSampler(source, QUICK, 0)
    model = build_network(QUICK, None)
    first = model.get_layer("block1_bn")
    before = first.momentum

    recalibrate_batch_norm(model, source.pixels, sampler)

    # The mean of the first convolution over eight batches of complete images.
    convolution = keras.Model(model.inputs[0], model.get_layer("block1_conv").output)
    batches = [
        convolution.predict_on_batch(source.pixels[sampler.sample_indices(k)].astype("f4"))
        for k in range(8)
    ]
    expected = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(first.moving_mean, expected, rtol=1e-3, atol=1e-5)
    assert first.momentum == before


def test_refit_last_layer_matches_weighted_ridge_regression(source):
    case = source.table["case"].to_numpy(str)
    teacher = Teacher.fit(source.features, source.malignant, case, QUICK.penalty)
    model = build_network(QUICK, QUICK.image_size)

    refit_last_layer(model, source, teacher, penalty=1.0)

    # Closed-form ridge regression on the hidden layer, with equal weights of the cases.
    body = keras.Model(model.inputs[0], model.get_layer("dense_1").output)
    hidden = body.predict_on_batch(source.pixels.astype("f4")).astype(float)
    teacher_logit = teacher.predict_logit(teacher.normalize(source.features)).astype(float)
    weight = np.array([1.0 / (case == one).sum() for one in case])
    weight *= len(case) / weight.sum()
    unit = hidden / (hidden.std(axis=0) + 1e-3)
    unit -= np.average(unit, axis=0, weights=weight)
    mean = np.average(teacher_logit, weights=weight)
    moments = unit.T @ (weight[:, None] * unit) + np.eye(unit.shape[1])
    kernel = np.linalg.solve(moments, unit.T @ (weight * (teacher_logit - mean)))
    logits = reference_logits(model, source.pixels)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], mean + unit @ kernel, atol=1e-3)
    np.testing.assert_allclose(logits.sum(axis=1), 0.0, atol=1e-4)


def test_fit_ridge_weights_cases_equally():
    # Case a has 100 logits of 0, and case b has one logit of 1: the best constant is 0.5.
    hidden = np.zeros((101, 1))
    logit = np.array([0.0] * 100 + [1.0])
    case = np.array(["a"] * 100 + ["b"])

    kernel, bias = fit_ridge(hidden, logit, case, penalty=1.0)

    assert kernel == pytest.approx([0.0])
    assert bias == pytest.approx(0.5)


def test_fit_ridge_larger_penalty_shrinks_the_kernel():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 3)) * [1.0, 10.0, 0.1] + 5.0
    logit = hidden @ [1.0, 0.2, 3.0]
    case = np.arange(200).astype(str)

    (exact, bias), (flat, _) = (fit_ridge(hidden, logit, case, p) for p in (1e-9, 1e3))

    np.testing.assert_allclose(exact, [1.0, 0.2, 3.0], rtol=2e-2)
    np.testing.assert_allclose(hidden @ exact + bias, logit, atol=1e-2)
    assert np.abs(flat).max() < 0.5 * np.abs(exact).max()
