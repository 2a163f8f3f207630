import dataclasses

import numpy as np

from bc_model.distillation.augmentation import ViewSampler
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import extract_features
from tests.bc_model.distillation.conftest import QUICK

PLAIN = dataclasses.replace(QUICK, image_mixing=0.0)


def sampler(
    source: TrainingImages, config: DistillationConfig = QUICK, seed: int = 0
) -> ViewSampler:
    return ViewSampler(source, config, seed)


def test_sample_batch_depends_only_on_seed_and_step(source):
    first, again, other = (sampler(source, seed=1).sample_batch(step) for step in (2, 2, 3))

    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert first.pixels.shape == (8, 32, 32, 3)
    assert (other.pixels != first.pixels).any()
    assert first.pixels.dtype == np.uint8
    for proportions in (first.labels, first.subtypes):
        np.testing.assert_allclose(proportions.sum(axis=1), 1.0, rtol=1e-6)


def test_sample_batch_features_are_those_of_the_views(source):
    views = sampler(source).sample_batch(0)

    np.testing.assert_array_equal(views.features, extract_features(views.pixels))


def test_sample_batch_balances_classes_and_magnifications(source):
    # One class has a single image per magnification.
    benign = source.table["class"] == "benign"
    mask = ~benign | ~source.table.duplicated(["class", "magnification"])
    few = source.select(mask.to_numpy(bool))

    assert sampler(few, PLAIN).sample_batch(0).labels.sum(axis=0).tolist() == [4.0, 4.0]
    # The second view of a mixture is balanced as well; otherwise 30 % of the labels were benign.
    mixed = sampler(few, dataclasses.replace(QUICK, image_mixing=1.0))
    labels = np.concatenate([mixed.sample_batch(step).labels for step in range(40)])
    assert abs(labels[:, 0].mean() - 0.5) < 0.04


def test_sample_batch_mixes_labels_and_pixels_in_the_same_proportion():
    # A black benign image and a white malignant one, without stain jitter.
    import pandas as pd

    table = pd.DataFrame(
        {"class": ["benign", "malignant"], "case": ["1", "2"], "magnification": 200,
         "subtype": ["adenosis", "ductal_carcinoma"]}
    )  # fmt: skip
    pixels = np.stack([np.full((32, 48, 3), value, np.uint8) for value in (0, 255)])
    source = TrainingImages(table, pixels, extract_features(pixels))
    mixed = dataclasses.replace(QUICK, image_mixing=1.0, stain_jitter=0.0, view_size=(32, 40))

    views = [sampler(source, mixed).sample_batch(step) for step in range(8)]

    n_mixed = 0
    for batch in views:
        for view, label in zip(batch.pixels, batch.labels, strict=True):
            if 0.0 < label[1] < 1.0:
                n_mixed += 1
                # CutMix rounds to a column, and mixup to a gray level.
                assert abs(view.mean() / 255.0 - label[1]) < 0.04
    assert n_mixed > 10


def test_sample_batch_stain_jitter_changes_colors(source):
    views = sampler(source, PLAIN)
    plain = sampler(source, dataclasses.replace(PLAIN, stain_jitter=0.0))

    jittered = [views.sample_batch(step).pixels.mean(axis=(1, 2)) for step in range(4)]
    unchanged = [plain.sample_batch(step).pixels.mean(axis=(1, 2)) for step in range(4)]

    assert np.std(jittered) > np.std(unchanged)


def test_sample_batch_crop_scale_changes_the_crop_size(source):
    # The brightness increases by 3 per row, and by 6 in a crop of twice the height.
    rows = np.arange(64, dtype=np.uint8)[:, None, None] * 3
    ramps = np.broadcast_to(rows, (len(source.pixels), 64, 96, 3)).copy()
    ramp_images = TrainingImages(source.table, ramps, extract_features(ramps))

    def steps(crop_scale: tuple[float, float]) -> set[int]:
        config = dataclasses.replace(
            PLAIN, stain_jitter=0.0, channel_mixing=0.0, crop_scale=crop_scale
        )
        views = np.concatenate(
            [sampler(ramp_images, config).sample_batch(k).pixels for k in range(6)]
        )
        differences = np.abs(np.diff(views.astype(int), axis=1))
        return set(np.rint(np.median(differences, axis=(1, 2, 3))).astype(int))

    assert steps((1.0, 1.0)) == {3}
    assert steps((2.0, 2.0)) == {3, 6}


def test_sample_batch_channel_mixing_averages_channels(source):
    gray = np.repeat(source.pixels[..., :1], 3, axis=3)
    gray_images = TrainingImages(source.table, gray, extract_features(gray))
    config = dataclasses.replace(PLAIN, stain_jitter=0.0, channel_mixing=1.0)

    # A mean of three equal channels is the channel itself.
    mixed_gray, mixed = (
        sampler(images, config).sample_batch(0).pixels for images in (gray_images, source)
    )

    assert np.ptp(mixed_gray.astype(int), axis=3).max() <= 1
    plain = sampler(source, dataclasses.replace(config, channel_mixing=0.0)).sample_batch(0).pixels
    assert abs(mixed.mean((1, 2)) - plain.mean((1, 2))).max() > 10


def test_sample_indices_balance_pools_and_cases(source):
    indices = np.concatenate([sampler(source).sample_indices(number) for number in range(200)])

    table = source.table.iloc[indices]
    pools = table.groupby(["magnification", "class"]).size()
    assert (pools == 400).all()
    for _, cases in table.groupby(["magnification", "class"])["case"]:
        counts = cases.value_counts()
        assert counts.max() < 1.5 * counts.min()
