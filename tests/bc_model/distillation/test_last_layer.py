import dataclasses

import numpy as np
import pytest

from bc_model.distillation.last_layer import (
    N_CHANGED,
    HeadOptions,
    LastLayer,
    PooledActivations,
    fit_kernels,
    teacher_logits,
)
from tests.bc_model.distillation.conftest import QUICK

SCALE = np.array([0.5, 0.0, 0.0, 1.0], np.float32)


def blocks(pixels: np.ndarray) -> np.ndarray:
    """Return the mean color of blocks of 8 x 8 px as activations."""
    n, height, width, _ = pixels.shape
    return pixels.reshape(n, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4)) / 255.0


def activations_of(pooled: np.ndarray) -> PooledActivations:
    """Return activations without changed copies' differences and without background."""
    copies = np.repeat(pooled[:, None], 1 + N_CHANGED, axis=1)
    n, channels = pooled.shape
    return PooledActivations(
        copies,
        np.ones((n, 1 + N_CHANGED)),
        np.zeros((n, 1, channels)),
        np.full((n, 1), np.nan),
        np.zeros(channels + 1),
    )


def test_measure_pools_images_copies_and_background(source):
    frames = [frame.copy() for frame in source.frames]
    frames[0][:, : frames[0].shape[1] // 2] = 250  # glass in the left half
    frames[0][:, frames[0].shape[1] // 2 :] = (150, 60, 120)
    changed = dataclasses.replace(source, frames=tuple(frames))

    found = PooledActivations.measure(blocks, changed, QUICK, SCALE)

    assert found.pooled.shape == (32, 1 + N_CHANGED, 3)
    # The tiny network has cells of 8 px: three columns of glass, and three of tissue.
    np.testing.assert_allclose(found.cells[0, 3], 250 / 255, atol=0.01)
    assert found.cell_tissue[0, 3] == pytest.approx(0.0, abs=0.05)
    assert np.isnan(found.cell_tissue[0, :3]).sum() >= 2  # hardly a cell is partly glass
    assert found.tissue[0, 0] == pytest.approx(0.5, abs=0.02)
    expected = np.array([(250 + x) / 2 for x in (150, 60, 120)]) / 255
    np.testing.assert_allclose(found.pooled[0, 0], expected, atol=0.01)
    again = PooledActivations.measure(blocks, changed, QUICK, SCALE)
    np.testing.assert_array_equal(found.pooled, again.pooled)
    assert np.abs(found.pooled[:, 1:] - found.pooled[:, :1]).max() > 0.01


def test_measure_takes_the_tissue_before_brightness_and_color_change(source):
    frame = np.full_like(source.frames[0], 210)  # glass, which looks like tissue when darkened
    dark = dataclasses.replace(QUICK, degradation=1.0, brightness=0.5)
    changed = dataclasses.replace(source, frames=(frame,) * 16)

    found = PooledActivations.measure(blocks, changed, dark, SCALE)

    assert (found.pooled < 180 / 255).any()
    np.testing.assert_array_equal(found.tissue, 0.0)


def test_fit_kernels_match_weighted_ridge_regression():
    rng = np.random.default_rng(0)
    n, channels = 30, 5
    pooled = rng.normal(size=(n, 1 + N_CHANGED, channels))
    tissue = rng.uniform(0.2, 1.0, (n, 1 + N_CHANGED))
    cells = rng.normal(size=(n, 2, channels))
    cell_tissue = rng.uniform(0, 1, (n, 2))
    cell_tissue[:5, 1] = np.nan  # without such cells
    case = np.array(["a"] * 20 + ["b"] * 10)
    logits = rng.normal(size=(n, 2))

    activations = PooledActivations(pooled, tissue, cells, cell_tissue, np.zeros(channels + 1))
    (kernel,) = fit_kernels(activations, logits, case, (3.0,))

    # The minimum of the stated sum of squares: its gradient is zero.
    weight = np.where(case == "a", 1 / 40, 1 / 20) * n
    scale = np.sqrt(np.average(pooled[:, 0] ** 2, axis=0, weights=weight))

    def loss(k: np.ndarray) -> float:
        total = 3.0 * ((k * scale) ** 2).sum()
        for copy in range(1 + N_CHANGED):
            share = 0.5 if copy == 0 else 0.5 / N_CHANGED
            error = pooled[:, copy] @ k - logits[:, 1] * tissue[:, copy]
            total += share * (weight * error**2).sum()
        for band in range(2):
            error = cells[:, band] @ k - logits[:, 1] * cell_tissue[:, band]
            total += np.nansum(weight * error**2)
        return total

    best = loss(kernel[:, 1])
    for _ in range(20):
        assert loss(kernel[:, 1] + 1e-3 * rng.normal(size=channels)) > best


def test_fit_kernels_weight_cases_equally():
    # Case a has 100 logits of 0 and case b has one logit of 1: the best constant is 0.5.
    pooled = activations_of(np.ones((101, 1)))
    logits = np.array([0.0] * 100 + [1.0])[:, None]
    case = np.array(["a"] * 100 + ["b"])

    kernels = fit_kernels(pooled, logits, case, (1e-9, 1e4))

    assert kernels[0, 0, 0] == pytest.approx(0.5, abs=1e-3)
    assert kernels[1, 0, 0] < 0.01


def test_fit_kernels_background_gets_no_evidence():
    # The first channel is on everywhere, the second on tissue only.
    rng = np.random.default_rng(0)
    pooled = np.stack([np.ones(50), rng.uniform(0, 1, 50)], axis=1)
    activations = activations_of(pooled)
    case, logits = np.arange(50).astype(str), pooled.sum(axis=1)[:, None]

    plain = fit_kernels(activations, logits, case, (1e-6,))[0, :, 0]
    glass = dataclasses.replace(
        activations, cells=np.tile([100.0, 0.0], (50, 1, 1)), cell_tissue=np.zeros((50, 1))
    )
    without = fit_kernels(glass, logits, case, (1e-6,))[0, :, 0]

    np.testing.assert_allclose(plain, [1.0, 1.0], atol=0.01)
    assert abs(without[0]) < 0.01


def test_last_layer_fit_uses_only_labels_of_training_images(source, pool):
    activations = PooledActivations.measure(blocks, source, QUICK, SCALE)
    is_train = source.case != source.case[0]
    table = source.table.copy()
    flip = {"benign": "malignant", "malignant": "benign"}
    table.loc[~is_train, "class"] = table.loc[~is_train, "class"].map(flip)
    changed = dataclasses.replace(source, table=table)

    one, two = (
        LastLayer.fit(x, pool.variants, activations, is_train, HeadOptions.of(QUICK))
        for x in (source, changed)
    )

    np.testing.assert_array_equal(one.kernel, two.kernel)
    np.testing.assert_array_equal(one.teacher_logit, two.teacher_logit)


def test_last_layer_combine_is_linear_in_the_teachers(source, pool):
    activations = PooledActivations.measure(blocks, source, QUICK, SCALE)
    use = np.ones(len(source.table), bool)
    options = dataclasses.replace(HeadOptions.of(QUICK), teacher_weights=(1.0, 0.0, 0.0, 3.0))

    direct = LastLayer.fit(source, pool.variants, activations, use, options)

    logits = teacher_logits(source, pool.variants, use, QUICK.penalties)
    mixed = (logits[:, 0] + 3.0 * logits[:, 3]) / 4.0
    mixed /= mixed.std()
    kernel = fit_kernels(activations, mixed[:, None], source.case, (QUICK.last_penalty,))
    np.testing.assert_allclose(direct.kernel, kernel[0, :, 0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        direct.teacher_logit, mixed * activations.tissue[:, 0], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        direct.predict_logit(activations), activations.pooled[:, 0] @ direct.kernel
    )


def test_predict_mpp_is_linear_in_log2(source):
    activations = PooledActivations.measure(blocks, source, QUICK, SCALE)

    mpp = activations.predict_mpp()

    np.testing.assert_allclose(mpp, 2.0 ** (0.5 * activations.pooled[:, 0, 0] + 1.0), rtol=1e-5)
