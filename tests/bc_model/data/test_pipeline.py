"""Pictures to batches: the serving road, the order of an epoch, and what can be repeated."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bc_model.data.dataset import read_dataset
from bc_model.data.images import preprocess_image, read_image
from bc_model.data.pipeline import (
    augment,
    class_weights,
    epoch_orders,
    load_pixels,
    one_hot,
    training_dataset,
    training_size,
    validation_dataset,
)
from bc_model.errors import ImageError

SIZE = (16, 24)
N = 7


def images(n: int = N, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Return smooth noise: neighbouring pixels alike, as in tissue."""
    coarse = np.random.default_rng(0).uniform(0, 255, (n, 5, 5, 3)).astype(np.float32)
    return tf.image.resize(coarse, size).numpy().astype(np.uint8)


def labels(n: int = N) -> np.ndarray:
    return one_hot(["benign" if i % 3 == 0 else "malignant" for i in range(n)])


def batches(first_epoch: int, last_epoch: int, *, seed: int = 1) -> list[tuple]:
    dataset = training_dataset(
        images(),
        labels(),
        SIZE,
        batch_size=3,
        seed=seed,
        first_epoch=first_epoch,
        last_epoch=last_epoch,
    )
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def augmented(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return augment(images()[0], size, tf.constant([seed, 0], tf.int64)).numpy()


# The first half of preprocessing


@pytest.mark.parametrize("image_size", [(32, 32), (24, 48), (80, 120)])
def test_one_function_does_the_first_half_for_training_and_serving_alike(
    drawn_set: Path, image_size: tuple[int, int]
) -> None:
    paths = list(read_dataset(drawn_set).images["path"])[::7]
    pixels = load_pixels(drawn_set, paths, image_size)
    for path, loaded in zip(paths, pixels, strict=True):
        np.testing.assert_array_equal(
            loaded, preprocess_image(read_image(drawn_set / path), image_size)
        )


def test_pixels_are_loaded_in_the_order_of_the_paths(drawn_set: Path) -> None:
    paths = list(read_dataset(drawn_set).images["path"])
    forwards, backwards = (load_pixels(drawn_set, p, (32, 32)) for p in (paths, paths[::-1]))
    np.testing.assert_array_equal(forwards, backwards[::-1])


def test_loading_tells_its_progress(drawn_set: Path) -> None:
    told = []
    paths = list(read_dataset(drawn_set).images["path"])[:3]
    load_pixels(drawn_set, paths, (32, 32), progress=lambda *counts: told.append(counts))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_image_gone_since_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        load_pixels(tmp_path, ["gone.png"], (32, 32))


# Labels and weights


def test_one_hot_has_benign_first() -> None:
    expected = np.array([[0, 1], [1, 0]], np.float32)
    np.testing.assert_array_equal(one_hot(["malignant", "benign"]), expected)
    assert one_hot(["benign"]).dtype == np.float32


def test_class_weights_by_hand() -> None:
    # 1 benign of 4: 4 / (2 * 1) = 2 and 4 / (2 * 3) = 0.6667
    weights = class_weights(one_hot(["benign", "malignant", "malignant", "malignant"]))
    assert weights == pytest.approx({0: 2.0, 1: 2 / 3})


# The order of an epoch


def test_an_epoch_has_every_image_once() -> None:
    orders = epoch_orders(9, seed=4, first_epoch=0, last_epoch=3)
    assert orders.shape == (3, 9)
    assert (np.sort(orders, axis=1) == np.arange(9)).all()


def test_epochs_differ_from_one_another() -> None:
    first, second = epoch_orders(50, seed=4, first_epoch=0, last_epoch=2)
    assert (first != second).any()


def test_the_orders_of_later_epochs_do_not_depend_on_where_one_begins() -> None:
    whole = epoch_orders(9, seed=4, first_epoch=0, last_epoch=6)
    np.testing.assert_array_equal(epoch_orders(9, seed=4, first_epoch=3, last_epoch=6), whole[3:])


def test_no_epochs_are_an_empty_table() -> None:
    assert epoch_orders(9, seed=4, first_epoch=2, last_epoch=2).shape == (0, 9)


# Batches


def test_batches_have_their_shapes_and_ranges() -> None:
    found = batches(0, 2)
    assert [len(x) for x, _ in found] == [3, 3, 1] * 2  # ceil(7 / 3) = 3 batches an epoch
    for x, y in found:
        assert (x.shape[1:], x.dtype) == ((*SIZE, 3), np.float32)
        assert (y.shape[1:], y.dtype) == ((2,), np.float32)
        assert x.min() >= 0.0
        assert x.max() <= 255.0
        assert x.max() > 1.5


def test_labels_stay_with_their_images() -> None:
    gray = np.repeat(np.arange(N, dtype=np.uint8) * 30, 20 * 30 * 3).reshape(N, 20, 30, 3)
    truth = np.eye(N, dtype=np.float32)
    dataset = training_dataset(gray, truth, SIZE, batch_size=N, seed=0, first_epoch=0, last_epoch=1)
    ((x, y),) = dataset
    order = y.numpy().argmax(axis=1)
    assert sorted(order) == list(range(N))
    # Brightness shifts a picture by at most 0.1 * 255 and clips; neighbours are 30 apart.
    np.testing.assert_allclose(x.numpy().mean(axis=(1, 2, 3)), order * 30, atol=25.6)


def test_a_seed_gives_the_same_batches_again() -> None:
    for (x, y), (x_again, y_again) in zip(batches(0, 1), batches(0, 1), strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_another_seed_gives_other_batches() -> None:
    assert not np.array_equal(batches(0, 1)[0][0], batches(0, 1, seed=2)[0][0])


def test_a_resumed_run_sees_the_tail_of_the_whole_run() -> None:
    whole, tail = batches(0, 3), batches(2, 3)
    for (x, y), (x_tail, y_tail) in zip(whole[-3:], tail, strict=True):
        np.testing.assert_array_equal(x, x_tail)
        np.testing.assert_array_equal(y, y_tail)


def test_the_largest_seed_of_the_settings_works() -> None:
    assert len(batches(999, 1000, seed=2**31 - 1)) == 3


def test_validation_batches_are_plain_and_in_order() -> None:
    found = list(validation_dataset(images(), labels(), batch_size=4))
    x, y = (np.concatenate([batch[i].numpy() for batch in found]) for i in (0, 1))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, images())
    np.testing.assert_array_equal(y, labels())


def test_both_classes_weigh_the_same_in_the_validation_loss() -> None:
    (batch,) = validation_dataset(images(), labels(), batch_size=N)
    _, y, weights = (subset.numpy() for subset in batch)
    np.testing.assert_allclose(weights @ y, [N / 2, N / 2], rtol=1e-6)


# Augmentation


def test_training_images_are_kept_a_quarter_larger() -> None:
    assert training_size((224, 320)) == (280, 400)


def test_equal_seeds_give_equal_images_and_others_do_not() -> None:
    np.testing.assert_array_equal(augmented(1), augmented(1))
    assert not np.array_equal(augmented(1), augmented(2))


def test_an_augmented_image_keeps_its_range_and_size_under_every_turn() -> None:
    for seed in range(16):
        x = augmented(seed)
        assert (x.shape, x.dtype) == ((*SIZE, 3), np.float32)
        assert 0.0 <= x.min() <= x.max() <= 255.0


def test_black_and_white_stay_near_themselves() -> None:
    for value in (0, 255):
        flat = np.full((20, 30, 3), value, np.uint8)
        for seed in range(8):
            x = augment(flat, SIZE, tf.constant([seed, 0], tf.int64)).numpy()
            np.testing.assert_allclose(x, value, atol=25.6)
