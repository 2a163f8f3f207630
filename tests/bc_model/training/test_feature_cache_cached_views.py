"""Batches from a store that was written by hand."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bc_model.data.pipeline import one_hot, shuffle_epochs, validation_dataset
from bc_model.errors import RunError
from bc_model.training import feature_cache as cached_views
from bc_model.training.feature_cache import CachedViews, decode, encode, epoch_views, view_file

N, VIEWS = 7, 3
LABELS = one_hot(["benign", "malignant", "malignant", "benign", *["malignant"] * 3])


@pytest.fixture(params=["float32", "bfloat16"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[CachedViews, np.ndarray]:
    """Return a store and the values it holds, all different from one another."""
    values = np.arange(VIEWS * N * 2, dtype=np.float32).reshape(VIEWS, N, 2, 1)  # exact in both
    for view, one in enumerate(values):
        np.save(view_file(tmp_path, view), encode(one, request.param))
    return CachedViews(tmp_path, VIEWS, N, (2, 1), request.param), values


def test_bfloat16_is_rounded_to_the_nearest_and_read_back() -> None:
    values = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -3.1, 1e30, 0.0], np.float32)
    stored = encode(values, "bfloat16")
    assert stored.dtype == np.uint16
    # 1 + 1/256 lies between 1 and 1 + 1/128, and goes to the even one; 1 + 3/256 likewise.
    assert decode(stored, "bfloat16")[:3].tolist() == [1.0, 1.0, 1.0 + 2**-6]
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(decode(stored, "bfloat16"), expected)


def test_any_image_is_read_in_any_view(stored: tuple[CachedViews, np.ndarray]) -> None:
    store, values = stored
    views, index = np.array([2, 0, 2, 1, 0]), np.array([6, 6, 0, 3, 6])
    np.testing.assert_array_equal(store.read(views, index), values[views, index])


def test_pages_that_were_read_are_given_back(
    stored: tuple[CachedViews, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[np.ndarray] = []
    monkeypatch.setattr(cached_views, "_give_back", given.append)
    stored[0].read(np.array([2, 0, 2]), np.array([6, 6, 0]))
    assert len(given) == 2  # a file each view that was read


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux alone tells of pages")
def test_giving_back_empties_the_memory_of_this_process(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.ones(2**21, np.uint8))
    mapped = np.load(tmp_path / "large.npy", mmap_mode="r")

    def resident_kb() -> int:
        lines = Path("/proc/self/smaps").read_text().split("large.npy")[1].splitlines()
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1])

    assert mapped.sum() == 2**21
    before = resident_kb()
    cached_views._give_back(mapped)
    assert before > 2000
    assert resident_kb() < 100


def test_a_view_of_another_shape_or_type_is_not_whole(
    stored: tuple[CachedViews, np.ndarray],
) -> None:
    store, values = stored
    assert [store.is_whole(view) for view in range(VIEWS + 1)] == [True, True, True, False]
    np.save(view_file(store.folder, 0), encode(values[0, :-1], store.dtype))
    np.save(view_file(store.folder, 1), values[1].astype(np.float64))
    view_file(store.folder, 2).write_bytes(b"")
    assert [store.is_whole(view) for view in range(VIEWS)] == [False] * 3


def test_every_view_is_shown_once_in_as_many_epochs() -> None:
    shown = np.stack([epoch_views(50, 4, seed=3, epoch=epoch) for epoch in range(2, 10)])
    for first in range(5):
        window = np.sort(shown[first : first + 4], axis=0)
        assert (window == np.arange(4)[:, None]).all()
    assert len(np.unique(shown[:4].T, axis=0)) > 10  # orders of their own, of 24 there are
    assert (epoch_views(50, 4, seed=4, epoch=2) != shown[0]).any()


def test_the_batches_of_each_epoch_by_hand(stored: tuple[CachedViews, np.ndarray]) -> None:
    store, features = stored
    dataset = store.training_dataset(LABELS, batch_size=3, seed=5, first_epoch=2, last_epoch=4)
    found = [(x.numpy(), y.numpy()) for x, y in dataset]
    expected = []
    for epoch, order in enumerate(shuffle_epochs(N, seed=5, first_epoch=2, last_epoch=4), start=2):
        views = epoch_views(N, VIEWS, seed=5, epoch=epoch)
        for index in (order[:3], order[3:6], order[6:]):
            x = np.array([features[views[image], image] for image in index])
            expected.append((x, LABELS[index]))
    assert len(found) == len(expected) == 6
    for (x, y), (x_expected, y_expected) in zip(found, expected, strict=True):
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(x, x_expected)
        np.testing.assert_array_equal(y, y_expected)


def test_plain_batches_are_view_0_with_the_weights_of_validation(
    stored: tuple[CachedViews, np.ndarray],
) -> None:
    store, features = stored
    pixels = np.zeros((N, 2, 2, 3), np.uint8)
    plain = store.plain(LABELS, batch_size=4)
    reference = validation_dataset(pixels, LABELS, batch_size=4)
    start = 0
    for (x, y, w), (_, y_expected, w_expected) in zip(plain, reference, strict=True):
        np.testing.assert_array_equal(x, features[0, start : start + len(x)])
        np.testing.assert_array_equal(y, y_expected)
        np.testing.assert_array_equal(w, w_expected)
        start += len(x)
    assert start == N


def test_a_continued_run_sees_the_tail_of_the_whole_run(
    stored: tuple[CachedViews, np.ndarray],
) -> None:
    store, _ = stored
    whole = list(store.training_dataset(LABELS, batch_size=4, seed=9, first_epoch=0, last_epoch=3))
    tail = list(store.training_dataset(LABELS, batch_size=4, seed=9, first_epoch=2, last_epoch=3))
    assert len(tail) == 2
    for (x, y), (x_tail, y_tail) in zip(whole[-2:], tail, strict=True):
        np.testing.assert_array_equal(x, x_tail)
        np.testing.assert_array_equal(y, y_tail)


def test_features_that_are_gone_are_said_so(stored: tuple[CachedViews, np.ndarray]) -> None:
    store, _ = stored
    view_file(store.folder, 2).unlink()
    with pytest.raises(RunError, match=r"view-002\.npy are missing or damaged"):
        store.plain(LABELS, batch_size=3)
