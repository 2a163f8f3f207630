"""Image batches: preprocessing, order, augmentation and reproducibility."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bc_model.data.dataset import load_dataset
from bc_model.data.images import preprocess_image, read_image
from bc_model.data.pipeline import (
    augment,
    class_weights,
    load_pixels,
    one_hot,
    shuffle_epochs,
    training_dataset,
    training_size,
    validation_dataset,
)
from bc_model.errors import ImageError

SIZE = (16, 24)
N = 7


def make_images(n: int = N, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Return smooth noise, whose neighboring pixels are similar."""
    coarse = np.random.default_rng(0).uniform(0, 255, (n, 5, 5, 3)).astype(np.float32)
    return tf.image.resize(coarse, size).numpy().astype(np.uint8)


def make_labels(n: int = N) -> np.ndarray:
    return one_hot(["benign" if i % 3 == 0 else "malignant" for i in range(n)])


def make_batches(first_epoch: int, last_epoch: int, *, seed: int = 1) -> list[tuple]:
    dataset = training_dataset(
        make_images(),
        make_labels(),
        SIZE,
        batch_size=3,
        seed=seed,
        first_epoch=first_epoch,
        last_epoch=last_epoch,
    )
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def augment_first(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return augment(make_images()[0], size, tf.constant([seed, 0], tf.int64)).numpy()


# Loading


@pytest.mark.parametrize("image_size", [(32, 32), (24, 48), (80, 120)])
def test_load_pixels_equals_preprocessing_of_inference(
    synthetic_dataset: Path, image_size: tuple[int, int]
) -> None:
    paths = list(load_dataset(synthetic_dataset).images["path"])[::7]
    pixels = load_pixels(synthetic_dataset, paths, image_size)
    for path, loaded in zip(paths, pixels, strict=True):
        np.testing.assert_array_equal(
            loaded, preprocess_image(read_image(synthetic_dataset / path), image_size)
        )


def test_load_pixels_keeps_order_of_paths(synthetic_dataset: Path) -> None:
    paths = list(load_dataset(synthetic_dataset).images["path"])
    forwards, backwards = (
        load_pixels(synthetic_dataset, p, (32, 32)) for p in (paths, paths[::-1])
    )
    np.testing.assert_array_equal(forwards, backwards[::-1])


def test_load_pixels_reports_progress(synthetic_dataset: Path) -> None:
    reported = []
    paths = list(load_dataset(synthetic_dataset).images["path"])[:3]
    load_pixels(
        synthetic_dataset, paths, (32, 32), progress=lambda *counts: reported.append(counts)
    )
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_load_pixels_missing_image_raises(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        load_pixels(tmp_path, ["gone.png"], (32, 32))


# Labels and weights


def test_one_hot_benign_is_first() -> None:
    expected = np.array([[0, 1], [1, 0]], np.float32)
    np.testing.assert_array_equal(one_hot(["malignant", "benign"]), expected)
    assert one_hot(["benign"]).dtype == np.float32


def test_class_weights_are_inverse_proportions() -> None:
    # 1 benign of 4: 4 / (2 * 1) = 2 and 4 / (2 * 3) = 0.6667
    weights = class_weights(one_hot(["benign", "malignant", "malignant", "malignant"]))
    assert weights == pytest.approx({0: 2.0, 1: 2 / 3})


# The order of an epoch


def test_shuffle_epochs_contains_each_image_once() -> None:
    orders = shuffle_epochs(9, seed=4, first_epoch=0, last_epoch=3)
    assert orders.shape == (3, 9)
    assert (np.sort(orders, axis=1) == np.arange(9)).all()


def test_shuffle_epochs_orders_differ() -> None:
    first, second = shuffle_epochs(50, seed=4, first_epoch=0, last_epoch=2)
    assert (first != second).any()


def test_shuffle_epochs_is_independent_of_first_epoch() -> None:
    all_epochs = shuffle_epochs(9, seed=4, first_epoch=0, last_epoch=6)
    np.testing.assert_array_equal(
        shuffle_epochs(9, seed=4, first_epoch=3, last_epoch=6), all_epochs[3:]
    )


def test_shuffle_epochs_empty_range_is_empty() -> None:
    assert shuffle_epochs(9, seed=4, first_epoch=2, last_epoch=2).shape == (0, 9)


# Batches


def test_training_dataset_batches_have_shape_and_range() -> None:
    found = make_batches(0, 2)
    assert [len(x) for x, _ in found] == [3, 3, 1] * 2  # ceil(7 / 3) = 3 batches per epoch
    for x, y in found:
        assert (x.shape[1:], x.dtype) == ((*SIZE, 3), np.float32)
        assert (y.shape[1:], y.dtype) == ((2,), np.float32)
        assert x.min() >= 0.0
        assert x.max() <= 255.0
        assert x.max() > 1.5


def test_training_dataset_labels_match_images() -> None:
    gray = np.repeat(np.arange(N, dtype=np.uint8) * 30, 20 * 30 * 3).reshape(N, 20, 30, 3)
    identity = np.eye(N, dtype=np.float32)
    dataset = training_dataset(
        gray, identity, SIZE, batch_size=N, seed=0, first_epoch=0, last_epoch=1
    )
    ((x, y),) = dataset
    order = y.numpy().argmax(axis=1)
    assert sorted(order) == list(range(N))
    # Brightness shifts an image by at most 0.1 * 255, and images differ by 30.
    np.testing.assert_allclose(x.numpy().mean(axis=(1, 2, 3)), order * 30, atol=25.6)


def test_training_dataset_equal_seeds_give_equal_batches() -> None:
    for (x, y), (x_again, y_again) in zip(make_batches(0, 1), make_batches(0, 1), strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_training_dataset_other_seed_gives_other_batches() -> None:
    assert not np.array_equal(make_batches(0, 1)[0][0], make_batches(0, 1, seed=2)[0][0])


def test_training_dataset_resumed_run_equals_end_of_complete_run() -> None:
    all_epochs, tail = make_batches(0, 3), make_batches(2, 3)
    for (x, y), (x_tail, y_tail) in zip(all_epochs[-3:], tail, strict=True):
        np.testing.assert_array_equal(x, x_tail)
        np.testing.assert_array_equal(y, y_tail)


def test_training_dataset_accepts_largest_seed() -> None:
    assert len(make_batches(999, 1000, seed=2**31 - 1)) == 3


def test_validation_dataset_is_ordered_and_not_augmented() -> None:
    found = list(validation_dataset(make_images(), make_labels(), batch_size=4))
    x, y = (np.concatenate([batch[i].numpy() for batch in found]) for i in (0, 1))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, make_images())
    np.testing.assert_array_equal(y, make_labels())


def test_validation_dataset_weights_balance_classes() -> None:
    (batch,) = validation_dataset(make_images(), make_labels(), batch_size=N)
    _, y, weights = (array.numpy() for array in batch)
    np.testing.assert_allclose(weights @ y, [N / 2, N / 2], rtol=1e-6)


# Augmentation


def test_training_size_is_a_quarter_larger() -> None:
    assert training_size((224, 320)) == (280, 400)


def test_augment_depends_on_seed() -> None:
    np.testing.assert_array_equal(augment_first(1), augment_first(1))
    assert not np.array_equal(augment_first(1), augment_first(2))


def test_augment_keeps_range_and_size() -> None:
    for seed in range(16):
        x = augment_first(seed)
        assert (x.shape, x.dtype) == ((*SIZE, 3), np.float32)
        assert 0.0 <= x.min() <= x.max() <= 255.0


def test_augment_black_and_white_stay_similar() -> None:
    for value in (0, 255):
        flat = np.full((20, 30, 3), value, np.uint8)
        for seed in range(8):
            x = augment(flat, SIZE, tf.constant([seed, 0], tf.int64)).numpy()
            np.testing.assert_allclose(x, value, atol=25.6)
