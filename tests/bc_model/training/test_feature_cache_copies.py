"""Augmented copies: copy 0 is the image, the others are reproducible augmentations."""

import numpy as np
import tensorflow as tf

from bc_model.data.pipeline import augment, training_dataset
from bc_model.training.feature_cache import make_copy_dataset

SIZE = (16, 24)
N = 5


def images(size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (N, *size, 3), np.uint8)


def make_copy(number: int, *, seed: int = 7, batch_size: int = 2) -> np.ndarray:
    dataset = make_copy_dataset(images(), SIZE, copy=number, seed=seed, batch_size=batch_size)
    return np.concatenate([batch.numpy() for batch in dataset])


def test_make_copy_dataset_returns_batches_in_range() -> None:
    for number in (0, 1):
        found = list(make_copy_dataset(images(), SIZE, copy=number, seed=0, batch_size=2))
        assert [batch.shape for batch in found] == [(2, *SIZE, 3), (2, *SIZE, 3), (1, *SIZE, 3)]
        assert all(batch.dtype == tf.float32 for batch in found)
        assert min(map(np.min, found)) >= 0.0
        assert 200.0 < max(map(np.max, found)) <= 255.0


def test_copy_0_is_resized_as_in_the_augmentation() -> None:
    expected = tf.image.resize(images() / np.float32(255), SIZE) * 255.0
    np.testing.assert_allclose(make_copy(0), expected, atol=1e-3)


def test_copy_0_at_the_input_size_equals_the_image() -> None:
    exact = images(SIZE)
    (found,) = make_copy_dataset(exact, SIZE, copy=0, seed=0, batch_size=N)
    np.testing.assert_array_equal(found, exact)


def test_copy_0_does_not_depend_on_the_seed() -> None:
    np.testing.assert_array_equal(make_copy(0, seed=1), make_copy(0, seed=2))


def test_copy_equals_the_augmentation_with_its_seed() -> None:
    for position, found in enumerate(make_copy(3)):
        expected = augment(
            tf.constant(images()[position]), SIZE, tf.constant([7_000_024, -1 - position])
        )
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_copy_does_not_depend_on_the_batch_size() -> None:
    np.testing.assert_array_equal(make_copy(2), make_copy(2, batch_size=5))


def test_copies_differ_by_number_seed_and_position() -> None:
    copies = [make_copy(1), make_copy(2), make_copy(1, seed=8)]
    for i, one in enumerate(copies):
        for other in copies[i + 1 :]:
            assert all(np.abs(a - b).mean() > 1.0 for a, b in zip(one, other, strict=True))
    same = np.repeat(images()[:1], N, axis=0)
    (found,) = make_copy_dataset(same, SIZE, copy=1, seed=7, batch_size=N)
    assert len(np.unique(found.numpy().round(1), axis=0)) == N


def test_copies_do_not_repeat_images_of_uncached_training() -> None:
    same = np.repeat(images()[:1], N, axis=0)
    labels = np.zeros((N, 2), np.float32)
    uncached = training_dataset(
        same, labels, SIZE, batch_size=N, seed=7, first_epoch=0, last_epoch=4
    )
    trained = np.concatenate([x.numpy() for x, _ in uncached])
    copies = np.concatenate(
        [
            batch.numpy()
            for number in (1, 2, 3)
            for batch in make_copy_dataset(same, SIZE, copy=number, seed=7, batch_size=N)
        ]
    )
    distances = np.abs(trained[:, None] - copies[None]).mean(axis=(2, 3, 4))
    assert distances.min() > 0.1


def test_copy_with_the_largest_seed_is_finite() -> None:
    assert np.isfinite(make_copy(999, seed=2**31 - 1)).all()
