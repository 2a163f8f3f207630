"""The store of features: what names it, what survives a stop, and what a batch holds."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import keras
import ml_dtypes
import numpy as np
import pytest

from bc_model.data.pipeline import one_hot
from bc_model.errors import RunError
from bc_model.model import build_model, unfreeze_from
from bc_model.training import feature_cache as cache
from bc_model.training.feature_cache import (
    CachedViews,
    ImageViews,
    cache_key,
    check_room,
    compute,
    needed_bytes,
    view_dataset,
    view_file,
)
from bc_model.training.feature_extraction import (
    Extractor,
    cut_at_pool,
    cut_before,
    from_there_to_pool,
    tensorflow_base,
)

SIZE = (32, 32)
N, VIEWS = 7, 3
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 40, 40, 3), np.uint8)
LABELS = one_hot(["benign", "malignant", "malignant", "benign", *["malignant"] * 3])


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_model("tiny", image_size=SIZE, dense_units=(4,))


@pytest.fixture(scope="module")
def base(model: keras.Model) -> keras.Model:
    return cut_at_pool(model)[0]


def fill(base: keras.Model, folder: Path, **changes: object) -> CachedViews:
    values = {"augmented_copies": VIEWS, "batch_size": 3, "dtype": "float32", "folder": folder}
    return compute(base, ImageViews(PIXELS, SIZE, 5), **{**values, **changes})


def expected_features(base: keras.Model) -> np.ndarray:
    """Compute all views at once, by hand."""
    views = [
        next(iter(view_dataset(PIXELS, SIZE, view=view, seed=5, batch_size=N)))
        for view in range(VIEWS)
    ]
    return np.stack([base(x, training=False).numpy() for x in views])


def everything(store: CachedViews) -> np.ndarray:
    index = np.arange(store.n)
    return np.stack([store.read(np.full(store.n, view), index) for view in range(store.views)])


def stop_after(images: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= images:
            raise StopError

    return progress


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --- What is stored ---


def test_a_store_holds_the_features_of_every_view(base: keras.Model, tmp_path: Path) -> None:
    store = fill(base, tmp_path)
    assert store.feature_shape == (32,)
    found = everything(store)
    np.testing.assert_allclose(found, expected_features(base), rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert names(tmp_path) == ["about.json", *(f"view-00{view}.npy" for view in range(VIEWS))]


def test_activations_are_kept_as_bfloat16(model: keras.Model, tmp_path: Path) -> None:
    before, _ = cut_before(model, "block3") or pytest.fail("no cut")
    store = fill(before, tmp_path, dtype="bfloat16")
    assert store.feature_shape == (8, 8, 16)
    whole = fill(before, tmp_path, dtype="float32")
    rounded = everything(whole).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(everything(store), rounded)
    assert not np.array_equal(rounded, everything(whole))
    payload = needed_bytes(N, 1, store.feature_shape, "bfloat16")
    assert payload == N * 8 * 8 * 16 * 2
    assert 0 < view_file(store.folder, 0).stat().st_size - payload < 200


def test_the_store_says_what_it_holds(base: keras.Model, tmp_path: Path) -> None:
    about = json.loads((fill(base, tmp_path).folder / "about.json").read_text())
    source = about.pop("computed_from")
    assert (source["image_size"], source["augmented_copies"]) == ([32, 32], [1, 5])
    assert about == {
        "base": "tiny_to_pool", "images": N, "feature_shape": [32], "dtype": "float32",
        "computed_by": "tensorflow-f32",
    }  # fmt: skip


# --- Computed once ---


def counting(base: keras.Model) -> tuple[Extractor, list[int]]:
    forward, sizes = tensorflow_base(base), []

    def count(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return forward(batch)

    return Extractor(forward.name, lambda: count), sizes


def test_a_second_call_computes_nothing(base: keras.Model, tmp_path: Path) -> None:
    first = fill(base, tmp_path)
    extract, sizes = counting(base)
    assert fill(base, tmp_path, extract=extract) == first
    assert sizes == []


def test_more_views_are_added_to_those_there_are(base: keras.Model, tmp_path: Path) -> None:
    fill(base, tmp_path, views=2)
    extract, sizes = counting(base)
    store = fill(base, tmp_path, extract=extract)
    assert sizes == [3, 3, 1]
    np.testing.assert_allclose(everything(store), expected_features(base), rtol=1e-4, atol=1e-5)


def test_a_stop_keeps_whole_views_and_no_part_of_one(base: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        fill(base, tmp_path, progress=stop_after(N + 3))
    assert names(tmp_path) == ["about.json", "view-000.npy"]
    extract, sizes = counting(base)
    store = fill(base, tmp_path, extract=extract)
    assert sizes == [3, 3, 1] * 2
    np.testing.assert_allclose(everything(store), expected_features(base), rtol=1e-4, atol=1e-5)


def test_progress_counts_what_is_missing(base: keras.Model, tmp_path: Path) -> None:
    fill(base, tmp_path, views=1)
    told: list[tuple[int, int]] = []
    fill(base, tmp_path, progress=lambda *count: told.append(count))
    assert told == [(done, 14) for done in (0, 3, 6, 7, 10, 13, 14)]


def test_a_truncated_view_is_computed_again(base: keras.Model, tmp_path: Path) -> None:
    store = fill(base, tmp_path)
    path = view_file(store.folder, 1)
    path.write_bytes(path.read_bytes()[:-4])
    extract, sizes = counting(base)
    fill(base, tmp_path, extract=extract)
    assert sizes == [3, 3, 1]
    np.testing.assert_allclose(everything(store), expected_features(base), rtol=1e-4, atol=1e-5)


def test_only_old_leftovers_are_swept(base: keras.Model, tmp_path: Path) -> None:
    folder = fill(base, tmp_path, views=1).folder
    old, young = folder / ".old.tmp", folder / ".young.tmp"
    for left in (old, young):
        left.write_bytes(b"part of a view")
    os.utime(old, (time.time() - 3600,) * 2)
    fill(base, tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_store_is_the_source_of_the_next(model: keras.Model, tmp_path: Path) -> None:
    near, _ = cut_before(model, "block3") or pytest.fail("no cut")
    behind = from_there_to_pool(model, near)
    first = fill(near, tmp_path)
    second = compute(behind, first, views=VIEWS, batch_size=4, dtype="float32", folder=tmp_path)
    whole = fill(cut_at_pool(model)[0], tmp_path)
    np.testing.assert_allclose(everything(second), everything(whole), rtol=1e-5, atol=1e-6)
    assert second.folder not in (first.folder, whole.folder)
    other = fill(near, tmp_path, dtype="bfloat16")
    assert cache_key(behind, other, dtype="float32") != cache_key(behind, first, dtype="float32")


# --- What names a store ---


def key(base: keras.Model, pixels: np.ndarray = PIXELS, **changes: object) -> str:
    source = {"image_size": SIZE, "seed": 5}
    source |= {name: changes.pop(name) for name in source if name in changes}
    how = {"dtype": "float32", "extractor_name": "a", **changes}
    return cache_key(base, ImageViews(pixels, **source), **how)


def test_the_key_is_the_same_for_the_same(base: keras.Model, model: keras.Model) -> None:
    assert key(base) == key(cut_at_pool(model)[0], PIXELS.copy())
    assert len(key(base)) == 64


def test_one_changed_value_of_one_pixel_is_another_store(base: keras.Model) -> None:
    other = PIXELS.copy()
    other[-1, -1, -1, -1] ^= 1
    assert key(base, other) != key(base)


def test_the_order_of_the_images_counts(base: keras.Model) -> None:
    assert key(base, PIXELS[::-1]) != key(base)


@pytest.mark.parametrize(
    "change",
    [{"image_size": (40, 40)}, {"seed": 6}, {"dtype": "bfloat16"}, {"extractor_name": "b"}],
)
def test_every_setting_is_another_store(change: dict) -> None:
    any_size, _ = cut_at_pool(build_model("tiny", image_size=None))
    assert key(any_size, **change) != key(any_size)


def test_other_weights_are_another_store() -> None:
    model = build_model("tiny", image_size=SIZE)
    base, _ = cut_at_pool(model)
    before = key(base)
    bias, *rest = model.get_layer("block1_bn").get_weights()
    bias[3] += 1e-6
    model.get_layer("block1_bn").set_weights([bias, *rest])
    assert key(base) != before


def test_the_head_is_not_part_of_it_and_the_place_is(model: keras.Model, base: keras.Model) -> None:
    before = key(base)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, bias + 1.0])
    assert key(base) == before
    block3, _ = cut_before(model, "block3") or pytest.fail("no cut")
    assert key(block3) != before


# --- Room on the disk ---


def set_free(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_bytes))


@pytest.mark.parametrize(("size", "needed"), [(10**9, 15 * 10**8), (10**11, 105 * 10**9)])
def test_a_margin_is_kept(
    size: int, needed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, needed)
    check_room(tmp_path / "not" / "there" / "yet", size)
    set_free(monkeypatch, needed - 1)
    with pytest.raises(
        RunError,
        match=r"takes 10*,000\.0 MB, .*\d GB more are kept free.* has 1.* GB free; make",
    ):
        check_room(tmp_path, size)


def test_a_full_disk_is_said_before_anything_is_computed(
    base: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, 1000)
    extract, sizes = counting(base)
    with pytest.raises(RunError, match=r"turn off cache_features"):
        fill(base, tmp_path / "cache", extract=extract)
    assert (sizes, names(tmp_path)) == ([], [])


def test_a_disk_that_fills_up_is_one_sentence(
    base: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    monkeypatch.setattr(cache, "_write_about", lambda *_: None)
    with pytest.raises(RunError, match=r"\(No space left on device\); make room there"):
        fill(base, tmp_path)
    assert names(tmp_path) == []


# --- Used ---


def test_a_tail_trains_on_them_for_several_epochs(tmp_path: Path) -> None:
    model = build_model("tiny", image_size=SIZE, dense_units=(4,))
    unfreeze_from(model, "block3", train_batch_norm=False)
    base, tail = cut_before(model, "block3") or pytest.fail("no cut")
    store = fill(base, tmp_path, dtype="bfloat16")
    before = model.get_layer("block3_conv").get_weights()[0]
    tail.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    history = tail.fit(
        store.training_dataset(LABELS, batch_size=3, seed=5, first_epoch=1, last_epoch=4),
        validation_data=store.plain(LABELS, batch_size=3),
        initial_epoch=1, epochs=4, steps_per_epoch=3, class_weight={0: 1.0, 1: 2.0},
        shuffle=False, verbose=0,
    )  # fmt: skip
    assert len(history.history["val_loss"]) == 3
    assert not np.array_equal(model.get_layer("block3_conv").get_weights()[0], before)
