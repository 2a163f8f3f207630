import dataclasses

import cv2
import numpy as np
import pytest

from bc_model.distillation.augmentation import (
    View,
    compress_jpeg,
    degrade,
    frame_mpp,
    jitter_colors,
    mix_views,
    resample,
    sample_variants,
    sample_view,
)
from bc_model.distillation.config import DistillationConfig
from tests.bc_model.distillation.conftest import QUICK

PLAIN = DistillationConfig(stain_jitter=0.0, channel_mixing=0.0, degradation=0.0)


@pytest.fixture
def frame() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.uniform(60, 220, (456, 700, 3)).astype(np.float32), (0, 0), 3)
    return smooth.clip(0, 255).astype(np.uint8)


def views(frame, magnification, config, n=60):
    rng = np.random.default_rng(1)
    return [sample_view(frame, magnification, config, rng) for _ in range(n)]


def test_sample_view_shows_the_scale_that_it_states():
    # 0.36 gray levels per column. A column of the frame at 200X has 0.55 um, so a column of a view
    # at m um/px spans m / 0.55 columns of the frame.
    ramp = np.broadcast_to((np.arange(700) * 0.36)[None, :, None], (456, 700, 3)).astype(np.uint8)
    for view in views(ramp, 200, PLAIN):
        if np.isfinite(view.mpp):
            slope = abs(np.polyfit(np.arange(128), view.pixels[..., 0].mean(axis=0), 1)[0])
            # The aspect ratio of the crop changes by at most 7 % along one axis.
            assert slope == pytest.approx(0.36 * view.mpp / 0.55, rel=0.1)


def test_sample_view_scales_cover_the_range_and_prefer_complete_images(frame):
    mpp = np.array([view.mpp for view in views(frame, 200, PLAIN, 400)])
    mpp = mpp[np.isfinite(mpp)]
    serving = 0.55 * 700 / 336

    assert mpp.min() < 0.5 < 2.0 < mpp.max() <= 3.2
    assert mpp.min() >= 0.55 / 2.5 - 1e-9
    near = (mpp > 0.8 * serving) & (mpp < 1.25 * serving)
    assert near.mean() > 0.5


def test_mix_views_mixes_pixels_and_background_in_the_same_proportion():
    black, white = (
        View(np.full((16, 32, 3), value, np.uint8), np.full((16, 32), value > 0), mpp, 336.0)
        for value, mpp in ((0, 1.0), (255, 2.0))
    )
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(30):
        mixed, proportion = mix_views(black, white, rng)
        assert mixed.pixels.mean() / 255 == pytest.approx(1 - proportion, abs=3e-3)
        assert np.isnan(mixed.mpp)
        is_cut = set(np.unique(mixed.pixels)) <= {0, 255}
        kinds.add(is_cut)
        # With mixup, background is where both are background; with CutMix, that of each side.
        assert mixed.background.mean() == pytest.approx(1 - proportion if is_cut else 0.0)
    assert kinds == {True, False}
    assert mix_views(black, black._replace(background=white.background), rng)[0].mpp == 1.0


def test_sample_view_background_is_that_of_the_unchanged_colors(frame):
    half = frame.copy()
    half[:, :350] = 245  # glass
    jittered = dataclasses.replace(PLAIN, stain_jitter=0.9)

    shares = [v.background.mean() for v in views(half, 100, jittered) if np.isfinite(v.mpp)]

    assert max(shares) > 0.9
    assert min(shares) < 0.1


def test_sample_view_without_tissue_is_background(frame):
    found = views(frame, 100, PLAIN, 400)
    empty = [view for view in found if np.isnan(view.mpp)]

    assert 1 <= len(empty) <= 30
    assert all(view.background.all() for view in empty)


def test_sample_variants_are_the_image_crops_and_other_colors(frame):
    config = dataclasses.replace(QUICK, image_size=(228, 350), n_variants=3)

    variants, proportions = sample_variants(frame, config, np.random.default_rng(0))
    whole, *crops, recolored = variants
    assert proportions[[0, 3]].tolist() == [1.0, 1.0]
    assert all(0.5 <= p < 1.0 for p in proportions[1:3])

    np.testing.assert_array_equal(
        whole, cv2.resize(frame, (350, 228), interpolation=cv2.INTER_AREA)
    )
    for crop in crops:  # enlarged, so neighbors are more alike
        detail = [np.abs(np.diff(x.astype(float), axis=1)).mean() for x in (crop, whole)]
        assert detail[0] < detail[1]
    assert np.corrcoef(recolored.ravel(), whole.ravel())[0, 1] > 0.5


def test_degrade_blur_is_relative_to_the_frame_width(frame):
    config = dataclasses.replace(
        PLAIN, degradation=1.0, brightness=0.0, blur_px=4.0, jpeg_quality=(100, 100)
    )

    noise = np.random.default_rng(0).integers(0, 256, frame.shape, np.uint8)

    def sharpness(width: float) -> float:
        rng = np.random.default_rng(5)
        images = [degrade(noise, width, config, rng) for _ in range(6)]
        return float(np.mean([cv2.Laplacian(i.astype(np.float32), -1).std() for i in images]))

    assert sharpness(70) > 1.5 * sharpness(700)


def test_degrade_changes_the_brightness_within_its_range():
    gray = np.full((64, 64, 3), 100, np.uint8)
    config = dataclasses.replace(PLAIN, degradation=1.0, brightness=0.2)
    rng = np.random.default_rng(0)

    means = [degrade(gray, 700, config, rng).mean() for _ in range(200)]

    assert 78 < min(means) < 83  # JPEG rounds by one level
    assert 117 < max(means) < 122


def test_resample_by_two_averages_blocks():
    image = np.zeros((40, 40, 3), np.uint8)
    image[::2, ::2] = 200

    # Each block of 2 x 2 px has one bright pixel.
    np.testing.assert_array_equal(resample(image, 2.0), np.full((40, 40, 3), 50))
    np.testing.assert_array_equal(resample(image, 1.0), image)


def test_compress_jpeg_lower_quality_changes_more_and_keeps_rgb():
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 200
    noisy = image + np.random.default_rng(0).integers(0, 50, image.shape).astype(np.uint8)

    errors = [
        np.abs(compress_jpeg(noisy, quality).astype(int) - noisy).mean() for quality in (95, 40)
    ]

    assert 0 < errors[0] < errors[1]
    assert abs(compress_jpeg(image, 95).astype(int) - image).max() < 6


def test_jitter_colors_without_amount_keeps_the_image(frame):
    rng = np.random.default_rng(0)

    assert np.abs(jitter_colors(frame, 0.0, rng).astype(int) - frame).max() <= 1
    assert np.abs(jitter_colors(frame, 0.5, rng).astype(int) - frame).max() > 10


def test_frame_mpp_is_the_middle_of_the_range():
    assert [frame_mpp(m) for m in (40, 100, 400)] == [2.75, 1.1, 0.275]
