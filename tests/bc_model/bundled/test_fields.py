import dataclasses

import numpy as np
import pytest

from bc_model.bundled.fields import FieldSampler, read_fields
from bc_model.bundled.recipe import Recipe
from bc_model.data.synthetic import write_synthetic
from bc_model.errors import DataError
from tests.bc_model.bundled.conftest import QUICK


def sampler(fields, recipe: Recipe, seed: int = 0) -> FieldSampler:
    table, frames = fields
    return FieldSampler(table, frames, sorted(set(table["subtype"])), recipe, seed)


def test_frames_of_both_magnifications_have_the_same_micrometres_a_pixel(fields):
    table, frames = fields

    for magnification, frame in zip(table["magnification"], frames, strict=True):
        assert frame.shape == ((460, 700, 3) if magnification == 100 else (230, 350, 3))
    assert set(table["magnification"]) == {100, 200}
    assert table["path"].str.startswith("drawn/").all()


def test_another_magnification_is_refused(tmp_path):
    write_synthetic(tmp_path / "set", n_cases=2, pictures_per_case=1, size=(46, 70),
                    magnifications=(40,))  # fmt: skip

    with pytest.raises(DataError, match="100 and 200 times"):
        read_fields([tmp_path / "set"])


def test_a_batch_follows_from_seed_and_step_alone(fields):
    first, again, other = (
        sampler(fields, QUICK, seed).batch(step) for seed, step in ((1, 2), (1, 2), (1, 3))
    )

    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert first[0].shape == (8, 32, 32, 3)
    assert (other[0] != first[0]).any()
    assert first[0].min() >= 0.0
    assert first[0].max() <= 255.0
    np.testing.assert_allclose(first[1].sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(first[2].sum(axis=1), 1.0, rtol=1e-6)


def test_classes_and_magnifications_come_as_often_as_each_other(fields):
    table, frames = fields
    # One class is left with a single picture a magnification.
    benign = table["class"] == "benign"
    keep = ~benign | ~table.duplicated(["class", "magnification"])
    table, frames = table[keep], [f for f, kept in zip(frames, keep, strict=True) if kept]
    unmixed = dataclasses.replace(QUICK, mixup=0.0)
    _, labels, _ = sampler((table.reset_index(drop=True), frames), unmixed).batch(0)

    assert labels.sum(axis=0).tolist() == [4.0, 4.0]


def test_mixing_blends_pixels_and_labels_by_the_same_share(fields):
    plain = dataclasses.replace(QUICK, mixup=0.0)
    x, y, _ = sampler(fields, plain).batch(0)
    mixed_x, mixed_y, _ = sampler(fields, QUICK).batch(0)

    # The crops are drawn before the shares, so they are the same ones.
    changed = np.flatnonzero((mixed_y != y).any(axis=1))
    assert changed.size
    for i in changed:
        share = mixed_y[i, y[i].argmax()]
        blends = [share * x[i] + (1 - share) * x[j] for j in range(len(x))]
        assert min(np.abs(blend - mixed_x[i]).max() for blend in blends) < 1e-3
