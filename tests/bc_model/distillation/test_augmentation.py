import dataclasses

import numpy as np

from bc_model.distillation.augmentation import ViewSampler
from bc_model.distillation.config import DistillationConfig
from bc_model.distillation.data import TrainingImages
from bc_model.distillation.features import extract_features
from tests.bc_model.distillation.conftest import QUICK

PLAIN = dataclasses.replace(QUICK, mixed=0.0)


def sampler(
    source: TrainingImages, config: DistillationConfig = QUICK, seed: int = 0
) -> ViewSampler:
    return ViewSampler(source, config, seed)


def test_a_batch_follows_from_seed_and_step_alone(source):
    first, again, other = (sampler(source, seed=1).batch(step) for step in (2, 2, 3))

    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert first.pixels.shape == (8, 32, 32, 3)
    assert (other.pixels != first.pixels).any()
    assert first.pixels.dtype == np.uint8
    for told in (first.labels, first.subtypes):
        np.testing.assert_allclose(told.sum(axis=1), 1.0, rtol=1e-6)


def test_features_are_those_of_the_view_and_not_of_its_image(source):
    views = sampler(source).batch(0)

    np.testing.assert_array_equal(views.features, extract_features(views.pixels))


def test_classes_and_magnifications_come_as_often_as_each_other(source):
    # One class is left with a single picture a magnification.
    benign = source.table["class"] == "benign"
    kept = ~benign | ~source.table.duplicated(["class", "magnification"])
    few = source.select(kept.to_numpy(bool))

    assert sampler(few, PLAIN).batch(0).labels.sum(axis=0).tolist() == [4.0, 4.0]
    # What is mixed in as well: drawn from all pictures, three in ten labels would be benign.
    mixed = sampler(few, dataclasses.replace(QUICK, mixed=1.0))
    labels = np.concatenate([mixed.batch(step).labels for step in range(40)])
    assert abs(labels[:, 0].mean() - 0.5) < 0.04


def test_a_mixed_view_has_as_much_of_a_label_as_of_the_image():
    # A black benign picture and a white malignant one, neither recoloured.
    import pandas as pd

    table = pd.DataFrame(
        {"class": ["benign", "malignant"], "case": ["1", "2"], "magnification": 200,
         "subtype": ["adenosis", "ductal_carcinoma"]}
    )  # fmt: skip
    pixels = np.stack([np.full((32, 48, 3), value, np.uint8) for value in (0, 255)])
    source = TrainingImages(table, pixels, extract_features(pixels))
    mixed = dataclasses.replace(QUICK, mixed=1.0, recolouring=0.0, view_size=(32, 40))

    views = [sampler(source, mixed).batch(step) for step in range(8)]

    seen = 0
    for batch in views:
        for view, label in zip(batch.pixels, batch.labels, strict=True):
            if 0.0 < label[1] < 1.0:
                seen += 1
                # Side by side: to a column; blended: to a grey level and stain's own shift.
                assert abs(view.mean() / 255.0 - label[1]) < 0.04
    assert seen > 10


def test_views_are_recoloured_as_far_as_the_recipe_says(source):
    views = sampler(source, PLAIN)
    plain = sampler(source, dataclasses.replace(PLAIN, recolouring=0.0))

    changed = [views.batch(step).pixels.mean(axis=(1, 2)) for step in range(4)]
    kept = [plain.batch(step).pixels.mean(axis=(1, 2)) for step in range(4)]

    assert np.std(changed) > np.std(kept)


def test_crops_are_as_large_as_the_recipe_says(source):
    # Pictures that grow brighter by 3 from row to row: a crop of twice the height, by 6.
    rows = np.arange(64, dtype=np.uint8)[:, None, None] * 3
    ramps = np.broadcast_to(rows, (len(source.pixels), 64, 96, 3)).copy()
    of_ramps = TrainingImages(source.table, ramps, extract_features(ramps))

    def steps(zoom: tuple[float, float]) -> set[int]:
        bare = dataclasses.replace(PLAIN, recolouring=0.0, unusual=0.0, zoom=zoom)
        views = np.concatenate([sampler(of_ramps, bare).batch(k).pixels for k in range(6)])
        down = np.abs(np.diff(views.astype(int), axis=1))
        return set(np.rint(np.median(down, axis=(1, 2, 3))).astype(int))

    assert steps((1.0, 1.0)) == {3}
    assert steps((2.0, 2.0)) == {3, 6}


def test_unusual_views_have_channels_that_are_means_of_the_image_s(source):
    gray = np.repeat(source.pixels[..., :1], 3, axis=3)
    of_gray = TrainingImages(source.table, gray, extract_features(gray))
    bare = dataclasses.replace(PLAIN, recolouring=0.0, unusual=1.0)

    # Means of three equal channels are the channel itself; of unequal ones they are others.
    still_gray, other = (sampler(one, bare).batch(0).pixels for one in (of_gray, source))

    assert np.ptp(still_gray.astype(int), axis=3).max() <= 1
    plain = sampler(source, dataclasses.replace(bare, unusual=0.0)).batch(0).pixels
    assert abs(other.mean((1, 2)) - plain.mean((1, 2))).max() > 10


def test_every_case_of_a_class_and_magnification_comes_in_turn(source):
    synthetic = np.concatenate([sampler(source).draw(number) for number in range(200)])

    table = source.table.iloc[synthetic]
    pools = table.groupby(["magnification", "class"]).size()
    assert (pools == 400).all()
    for _, cases in table.groupby(["magnification", "class"])["case"]:
        counts = cases.value_counts()
        assert counts.max() < 1.5 * counts.min()
