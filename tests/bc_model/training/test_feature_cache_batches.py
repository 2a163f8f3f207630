"""Batches of cached features with known values."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bc_model.data.pipeline import one_hot, shuffle_epochs, validation_dataset
from bc_model.errors import RunError
from bc_model.training import feature_cache
from bc_model.training.feature_cache import (
    CachedFeatures,
    choose_copies,
    decode,
    encode,
    features_file,
)

N, N_COPIES = 7, 3
LABELS = one_hot(["benign", "malignant", "malignant", "benign", *["malignant"] * 3])


@pytest.fixture(params=["float32", "bfloat16"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[CachedFeatures, np.ndarray]:
    """Return a cache and its values, which are all different."""
    values = np.arange(N_COPIES * N * 2, dtype=np.float32).reshape(N_COPIES, N, 2, 1)  # Exact.
    for copy, features in enumerate(values):
        np.save(features_file(tmp_path, copy), encode(features, request.param))
    return CachedFeatures(tmp_path, N_COPIES, N, (2, 1), request.param), values


def test_encode_rounds_to_the_nearest_bfloat16() -> None:
    values = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -3.1, 1e30, 0.0], np.float32)
    stored = encode(values, "bfloat16")
    assert stored.dtype == np.uint16
    # 1 + 1/256 is halfway between 1 and 1 + 1/128, so the even one is next; so is 1 + 3/256.
    assert decode(stored, "bfloat16")[:3].tolist() == [1.0, 1.0, 1.0 + 2**-6]
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(decode(stored, "bfloat16"), expected)


def test_read_returns_the_copy_of_each_image(stored: tuple[CachedFeatures, np.ndarray]) -> None:
    cache, values = stored
    copies, index = np.array([2, 0, 2, 1, 0]), np.array([6, 6, 0, 3, 6])
    np.testing.assert_array_equal(cache.read(copies, index), values[copies, index])


def test_read_releases_the_pages_of_each_file(
    stored: tuple[CachedFeatures, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[np.ndarray] = []
    monkeypatch.setattr(feature_cache, "_release_pages", released.append)
    stored[0].read(np.array([2, 0, 2]), np.array([6, 6, 0]))
    assert len(released) == 2


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="requires Linux")
def test_release_pages_frees_the_memory_of_this_process(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.ones(2**21, np.uint8))
    mapped = np.load(tmp_path / "large.npy", mmap_mode="r")

    def resident_kb() -> int:
        lines = Path("/proc/self/smaps").read_text().split("large.npy")[1].splitlines()
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1])

    assert mapped.sum() == 2**21
    before = resident_kb()
    feature_cache._release_pages(mapped)
    assert before > 2000
    assert resident_kb() < 100


def test_is_complete_with_another_shape_or_dtype_is_false(
    stored: tuple[CachedFeatures, np.ndarray],
) -> None:
    cache, values = stored
    assert [cache.is_complete(copy) for copy in range(N_COPIES + 1)] == [True, True, True, False]
    np.save(features_file(cache.directory, 0), encode(values[0, :-1], cache.dtype))
    np.save(features_file(cache.directory, 1), values[1].astype(np.float64))
    features_file(cache.directory, 2).write_bytes(b"")
    assert [cache.is_complete(copy) for copy in range(N_COPIES)] == [False] * 3


def test_choose_copies_uses_each_copy_once_per_cycle() -> None:
    chosen = np.stack([choose_copies(50, 4, seed=3, epoch=epoch) for epoch in range(2, 10)])
    for first in range(5):
        window = np.sort(chosen[first : first + 4], axis=0)
        assert (window == np.arange(4)[:, None]).all()
    assert len(np.unique(chosen[:4].T, axis=0)) > 10  # Of 24 possible orders.
    assert (choose_copies(50, 4, seed=4, epoch=2) != chosen[0]).any()


def test_training_dataset_returns_the_expected_batches(
    stored: tuple[CachedFeatures, np.ndarray],
) -> None:
    cache, features = stored
    dataset = cache.training_dataset(LABELS, batch_size=3, seed=5, first_epoch=2, last_epoch=4)
    found = [(x.numpy(), y.numpy()) for x, y in dataset]
    expected = []
    for epoch, order in enumerate(shuffle_epochs(N, seed=5, first_epoch=2, last_epoch=4), start=2):
        copies = choose_copies(N, N_COPIES, seed=5, epoch=epoch)
        for index in (order[:3], order[3:6], order[6:]):
            x = np.array([features[copies[image], image] for image in index])
            expected.append((x, LABELS[index]))
    assert len(found) == len(expected) == 6
    for (x, y), (x_expected, y_expected) in zip(found, expected, strict=True):
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(x, x_expected)
        np.testing.assert_array_equal(y, y_expected)


def test_validation_dataset_returns_copy_0_with_class_weights(
    stored: tuple[CachedFeatures, np.ndarray],
) -> None:
    cache, features = stored
    pixels = np.zeros((N, 2, 2, 3), np.uint8)
    batches = cache.validation_dataset(LABELS, batch_size=4)
    reference = validation_dataset(pixels, LABELS, batch_size=4)
    start = 0
    for (x, y, w), (_, y_expected, w_expected) in zip(batches, reference, strict=True):
        np.testing.assert_array_equal(x, features[0, start : start + len(x)])
        np.testing.assert_array_equal(y, y_expected)
        np.testing.assert_array_equal(w, w_expected)
        start += len(x)
    assert start == N


def test_training_dataset_of_later_epochs_is_the_end_of_all_epochs(
    stored: tuple[CachedFeatures, np.ndarray],
) -> None:
    cache, _ = stored
    every = list(cache.training_dataset(LABELS, batch_size=4, seed=9, first_epoch=0, last_epoch=3))
    tail = list(cache.training_dataset(LABELS, batch_size=4, seed=9, first_epoch=2, last_epoch=3))
    assert len(tail) == 2
    for (x, y), (x_tail, y_tail) in zip(every[-2:], tail, strict=True):
        np.testing.assert_array_equal(x, x_tail)
        np.testing.assert_array_equal(y, y_tail)


def test_validation_dataset_without_a_file_raises_run_error(
    stored: tuple[CachedFeatures, np.ndarray],
) -> None:
    cache, _ = stored
    features_file(cache.directory, 2).unlink()
    with pytest.raises(RunError, match=r"copy-002\.npy are missing or damaged"):
        cache.validation_dataset(LABELS, batch_size=3)
