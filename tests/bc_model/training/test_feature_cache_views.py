"""Views by number: the picture itself first, then draws that can be repeated."""

import numpy as np
import tensorflow as tf

from bc_model.data.pipeline import augment, training_dataset
from bc_model.training.feature_cache import view_dataset

SIZE = (16, 24)
N = 5


def images(size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (N, *size, 3), np.uint8)


def view(number: int, *, seed: int = 7, batch_size: int = 2) -> np.ndarray:
    dataset = view_dataset(images(), SIZE, view=number, seed=seed, batch_size=batch_size)
    return np.concatenate([batch.numpy() for batch in dataset])


def test_batches_have_their_shapes_and_ranges() -> None:
    for number in (0, 1):
        found = list(view_dataset(images(), SIZE, view=number, seed=0, batch_size=2))
        assert [batch.shape for batch in found] == [(2, *SIZE, 3), (2, *SIZE, 3), (1, *SIZE, 3)]
        assert all(batch.dtype == tf.float32 for batch in found)
        assert min(map(np.min, found)) >= 0.0
        assert 200.0 < max(map(np.max, found)) <= 255.0


def test_view_0_is_the_image_resized_as_the_augmentation_resizes() -> None:
    expected = tf.image.resize(images() / np.float32(255), SIZE) * 255.0
    np.testing.assert_allclose(view(0), expected, atol=1e-3)


def test_view_0_at_the_input_size_is_the_image_bit_for_bit() -> None:
    exact = images(SIZE)
    (found,) = view_dataset(exact, SIZE, view=0, seed=0, batch_size=N)
    np.testing.assert_array_equal(found, exact)


def test_view_0_does_not_depend_on_the_seed() -> None:
    np.testing.assert_array_equal(view(0, seed=1), view(0, seed=2))


def test_a_view_is_one_draw_of_the_augmentation() -> None:
    for position, found in enumerate(view(3)):
        expected = augment(
            tf.constant(images()[position]), SIZE, tf.constant([7_000_024, -1 - position])
        )
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_view_is_the_same_again_whatever_the_batches() -> None:
    np.testing.assert_array_equal(view(2), view(2, batch_size=5))


def test_views_seeds_and_positions_differ() -> None:
    draws = [view(1), view(2), view(1, seed=8)]
    for i, one in enumerate(draws):
        for other in draws[i + 1 :]:
            assert all(np.abs(a - b).mean() > 1.0 for a, b in zip(one, other, strict=True))
    same = np.repeat(images()[:1], N, axis=0)
    (found,) = view_dataset(same, SIZE, view=1, seed=7, batch_size=N)
    assert len(np.unique(found.numpy().round(1), axis=0)) == N


def test_no_view_repeats_a_image_of_the_uncached_training() -> None:
    same = np.repeat(images()[:1], N, axis=0)
    labels = np.zeros((N, 2), np.float32)
    synthetic = training_dataset(
        same, labels, SIZE, batch_size=N, seed=7, first_epoch=0, last_epoch=4
    )
    trained = np.concatenate([x.numpy() for x, _ in synthetic])
    views = np.concatenate(
        [
            batch.numpy()
            for number in (1, 2, 3)
            for batch in view_dataset(same, SIZE, view=number, seed=7, batch_size=N)
        ]
    )
    distances = np.abs(trained[:, None] - views[None]).mean(axis=(2, 3, 4))
    assert distances.min() > 0.1


def test_the_largest_seed_of_the_settings_works() -> None:
    assert np.isfinite(view(999, seed=2**31 - 1)).all()
