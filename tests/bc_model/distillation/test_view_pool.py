import dataclasses

import numpy as np
import pytest

from bc_model.distillation import view_pool
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.folds import case_folds
from bc_model.distillation.view_pool import ViewPool, ViewSampler
from tests.bc_model.distillation.conftest import QUICK, measure


def test_load_or_make_features_are_those_of_the_views_before_degradation(source, tmp_path):
    config = dataclasses.replace(QUICK, degradation=0.0, n_views=16)
    pool = ViewPool.load_or_make(source, config, tmp_path, make_measure=lambda: measure)

    np.testing.assert_allclose(pool.features, measure(pool.pixels), atol=1e-5)
    np.testing.assert_allclose(pool.variants[:, 0], measure(source.pixels), atol=1e-4)
    assert pool.pixels.shape == (16, 32, 32, 3)
    degraded = dataclasses.replace(config, degradation=1.0)
    changed = ViewPool.load_or_make(source, degraded, tmp_path, make_measure=lambda: measure)
    assert (changed.pixels != pool.pixels).any(axis=(1, 2, 3)).mean() > 0.5
    assert pool.background.shape == (16, 4, 4)
    assert pool.variants.shape == (32, 7, 744)


def test_load_or_make_continues_an_interrupted_computation(source, tmp_path, monkeypatch):
    monkeypatch.setattr(view_pool, "_CHUNK", 16)
    config = dataclasses.replace(QUICK, n_views=40)
    calls: list[int] = []

    def counted(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return measure(images)

    first = ViewPool.load_or_make(source, config, tmp_path, make_measure=lambda: counted)
    n_calls = len(calls)
    (lost,) = tmp_path.glob("*/views-00001.npz")
    lost.unlink()
    again = ViewPool.load_or_make(source, config, tmp_path, make_measure=lambda: counted)

    assert calls[n_calls:] == [16]
    for one, two in zip(vars(first).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_load_or_make_with_processes_makes_the_same_views(source, pool, tmp_path):
    parallel = ViewPool.load_or_make(source, QUICK, tmp_path, 1, make_measure=make_measure)

    np.testing.assert_array_equal(parallel.pixels, pool.pixels)
    np.testing.assert_allclose(parallel.features, pool.features, atol=1e-5)


def make_measure():
    return measure


def test_load_or_make_other_options_of_training_share_the_views(source, pool, tmp_path):
    for changes in ({"steps": 9}, {"label_weight": 1.0}, {"last_penalty": 1.0}):
        keys = {
            view_pool._pool_key(source, config)
            for config in (QUICK, dataclasses.replace(QUICK, **changes))
        }
        assert len(keys) == 1
    other = dataclasses.replace(QUICK, blur_px=1.0)
    assert view_pool._pool_key(source, other) != view_pool._pool_key(source, QUICK)


def batches(source, pool, is_train, n=100, seed=0):
    sampler = ViewSampler(pool, source.table, is_train, 8, seed)
    return [sampler.sample_batch(step) for step in range(n)]


def test_sample_batch_uses_only_training_images(source, pool):
    is_train = (source.case != source.case[0]) & ~source.is_extra

    index = np.concatenate([batch.views for batch in batches(source, pool, is_train)])

    assert set(np.flatnonzero(~is_train)) & set(pool.image)  # there are views to leave out
    assert is_train[pool.image[index]].all()
    assert is_train[pool.other[index]].all()


def test_views_mix_only_images_of_the_same_fold(source, pool):
    fold = case_folds(source.table, QUICK).assignment
    mixed = pool.other != pool.image

    assert (fold[pool.image] == fold[pool.other]).all()
    assert 0.1 < mixed.mean() < 0.5
    assert (source.case[pool.image[mixed]] != source.case[pool.other[mixed]]).any()
    assert (pool.proportion == 1.0).mean() > 0.5


def test_sample_batch_depends_only_on_seed_and_step(source, pool):
    everything = np.ones(len(source.table), bool)
    first, again = (batches(source, pool, everything, 3, seed=1)[2] for _ in range(2))
    other = batches(source, pool, everything, 3, seed=2)[2]

    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.views != other.views).any()


def test_sample_batch_balances_classes_and_cases(source, pool):
    # One malignant case has a single image, but its views are as frequent as those of others.
    is_first = source.case == source.case[source.malignant][0]
    is_train = ~is_first | (np.cumsum(is_first) == 1)
    index = np.concatenate([b.views for b in batches(source, pool, is_train, 200)])
    images = pool.image[index]

    assert source.malignant[images].mean() == 0.5
    magnification = source.table["magnification"].astype(int).to_numpy()[images]
    assert 0.45 < (magnification == 100).mean() < 0.55


def test_sample_batch_flips_pixels_and_background_together(source, pool):
    pixels = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None], (96, 32, 32, 3)).copy()
    background = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None], (96, 4, 4)).copy()
    ramps = dataclasses.replace(pool, pixels=pixels, background=background)

    flipped = 0
    for batch in batches(source, ramps, np.ones(len(source.table), bool), 10):
        for image, mask in zip(batch.pixels, batch.background, strict=True):
            assert (image[0, 0, 0] == 31) == (mask[0, 0] > mask[3, 0])
            flipped += image[0, 0, 0] == 31
    assert 20 < flipped < 60


def test_strata_give_extra_magnifications_a_fifth(root):
    source = TrainingImages.read(root, ("synthetic",), QUICK.image_size, ("extra",))
    rows = source.table[source.malignant]

    shares = {
        int(rows.loc[cases[0][0], "magnification"]): share
        for cases, share in view_pool._strata(rows)
    }

    assert shares == pytest.approx({100: 0.4, 200: 0.4, 40: 0.1, 400: 0.1})
