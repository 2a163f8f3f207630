"""The feature cache on disk: keys, completeness, disk space and use in training."""

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
from bc_model.training import feature_cache
from bc_model.training.feature_cache import (
    AugmentedImages,
    CachedFeatures,
    cache_key,
    check_disk_space,
    compute_features,
    count_bytes,
    features_file,
    make_copy_dataset,
)
from bc_model.training.feature_extraction import (
    Extractor,
    cut_at_pool,
    cut_before_block,
    make_bridge_to_pool,
    make_tensorflow_extractor,
)

SIZE = (32, 32)
N, N_COPIES = 7, 3
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


def fill(base: keras.Model, directory: Path, **changes: object) -> CachedFeatures:
    values = {"n_copies": N_COPIES, "batch_size": 3, "dtype": "float32", "directory": directory}
    return compute_features(base, AugmentedImages(PIXELS, SIZE, 5), **{**values, **changes})


def expected_features(base: keras.Model) -> np.ndarray:
    """Compute all copies at once, without the cache."""
    copies = [
        next(iter(make_copy_dataset(PIXELS, SIZE, copy=copy, seed=5, batch_size=N)))
        for copy in range(N_COPIES)
    ]
    return np.stack([base(x, training=False).numpy() for x in copies])


def read_all(cache: CachedFeatures) -> np.ndarray:
    index = np.arange(cache.n)
    return np.stack([cache.read(np.full(cache.n, copy), index) for copy in range(cache.n_copies)])


def stop_after(images: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done >= images:
            raise StopError

    return progress


def file_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


# --- Stored values ---


def test_compute_features_stores_every_copy(base: keras.Model, tmp_path: Path) -> None:
    cache = fill(base, tmp_path)
    assert cache.feature_shape == (32,)
    found = read_all(cache)
    np.testing.assert_allclose(found, expected_features(base), rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert file_names(tmp_path) == [
        *(f"copy-00{copy}.npy" for copy in range(N_COPIES)), "metadata.json",
    ]  # fmt: skip


def test_compute_features_rounds_activations_to_bfloat16(
    model: keras.Model, tmp_path: Path
) -> None:
    before, _ = cut_before_block(model, "block3") or pytest.fail("no split")
    cache = fill(before, tmp_path, dtype="bfloat16")
    assert cache.feature_shape == (8, 8, 16)
    exact = fill(before, tmp_path, dtype="float32")
    rounded = read_all(exact).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(read_all(cache), rounded)
    assert not np.array_equal(rounded, read_all(exact))
    payload = count_bytes(N, 1, cache.feature_shape, "bfloat16")
    assert payload == N * 8 * 8 * 16 * 2
    assert 0 < features_file(cache.directory, 0).stat().st_size - payload < 200


def test_compute_features_writes_metadata(base: keras.Model, tmp_path: Path) -> None:
    metadata = json.loads((fill(base, tmp_path).directory / "metadata.json").read_text())
    source = metadata.pop("source")
    assert (source["image_size"], source["augmented_copies"]) == ([32, 32], [1, 5])
    assert metadata == {
        "base": "tiny_to_pool", "images": N, "feature_shape": [32], "dtype": "float32",
        "extractor": "tensorflow-f32",
    }  # fmt: skip


# --- Missing copies ---


def counting_extractor(base: keras.Model) -> tuple[Extractor, list[int]]:
    forward, sizes = make_tensorflow_extractor(base), []

    def count(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return forward(batch)

    return Extractor(forward.name, lambda: count), sizes


def test_compute_features_with_complete_cache_computes_nothing(
    base: keras.Model, tmp_path: Path
) -> None:
    first = fill(base, tmp_path)
    extractor, sizes = counting_extractor(base)
    assert fill(base, tmp_path, extractor=extractor) == first
    assert sizes == []


def test_compute_features_with_more_copies_adds_them(base: keras.Model, tmp_path: Path) -> None:
    fill(base, tmp_path, n_copies=2)
    extractor, sizes = counting_extractor(base)
    cache = fill(base, tmp_path, extractor=extractor)
    assert sizes == [3, 3, 1]
    np.testing.assert_allclose(read_all(cache), expected_features(base), rtol=1e-4, atol=1e-5)


def test_compute_features_when_stopped_keeps_complete_copies(
    base: keras.Model, tmp_path: Path
) -> None:
    with pytest.raises(StopError):
        fill(base, tmp_path, progress=stop_after(N + 3))
    assert file_names(tmp_path) == ["copy-000.npy", "metadata.json"]
    extractor, sizes = counting_extractor(base)
    cache = fill(base, tmp_path, extractor=extractor)
    assert sizes == [3, 3, 1] * 2
    np.testing.assert_allclose(read_all(cache), expected_features(base), rtol=1e-4, atol=1e-5)


def test_compute_features_progress_counts_missing_copies(base: keras.Model, tmp_path: Path) -> None:
    fill(base, tmp_path, n_copies=1)
    counts: list[tuple[int, int]] = []
    fill(base, tmp_path, progress=lambda *count: counts.append(count))
    assert counts == [(done, 14) for done in (0, 3, 6, 7, 10, 13, 14)]


def test_compute_features_with_truncated_file_computes_it_again(
    base: keras.Model, tmp_path: Path
) -> None:
    cache = fill(base, tmp_path)
    path = features_file(cache.directory, 1)
    path.write_bytes(path.read_bytes()[:-4])
    extractor, sizes = counting_extractor(base)
    fill(base, tmp_path, extractor=extractor)
    assert sizes == [3, 3, 1]
    np.testing.assert_allclose(read_all(cache), expected_features(base), rtol=1e-4, atol=1e-5)


def test_compute_features_deletes_only_old_temporary_files(
    base: keras.Model, tmp_path: Path
) -> None:
    directory = fill(base, tmp_path, n_copies=1).directory
    old, young = directory / ".old.tmp", directory / ".young.tmp"
    for path in (old, young):
        path.write_bytes(b"incomplete")
    os.utime(old, (time.time() - 3600,) * 2)
    fill(base, tmp_path)
    assert (old.exists(), young.exists()) == (False, True)


def test_compute_features_from_cached_features_equals_one_base(
    model: keras.Model, tmp_path: Path
) -> None:
    base, _ = cut_before_block(model, "block3") or pytest.fail("no split")
    bridge = make_bridge_to_pool(model, base)
    first = fill(base, tmp_path)
    second = compute_features(
        bridge, first, n_copies=N_COPIES, batch_size=4, dtype="float32", directory=tmp_path
    )
    direct = fill(cut_at_pool(model)[0], tmp_path)
    np.testing.assert_allclose(read_all(second), read_all(direct), rtol=1e-5, atol=1e-6)
    assert second.directory not in (first.directory, direct.directory)
    other = fill(base, tmp_path, dtype="bfloat16")
    assert cache_key(bridge, other, dtype="float32") != cache_key(bridge, first, dtype="float32")


# --- Keys ---


def key(base: keras.Model, pixels: np.ndarray = PIXELS, **changes: object) -> str:
    source = {"image_size": SIZE, "seed": 5}
    source |= {name: changes.pop(name) for name in source if name in changes}
    options = {"dtype": "float32", "extractor_name": "a", **changes}
    return cache_key(base, AugmentedImages(pixels, **source), **options)


def test_cache_key_of_equal_inputs_is_equal(base: keras.Model, model: keras.Model) -> None:
    assert key(base) == key(cut_at_pool(model)[0], PIXELS.copy())
    assert len(key(base)) == 64


def test_cache_key_changes_with_one_pixel(base: keras.Model) -> None:
    other = PIXELS.copy()
    other[-1, -1, -1, -1] ^= 1
    assert key(base, other) != key(base)


def test_cache_key_changes_with_image_order(base: keras.Model) -> None:
    assert key(base, PIXELS[::-1]) != key(base)


@pytest.mark.parametrize(
    "change",
    [{"image_size": (40, 40)}, {"seed": 6}, {"dtype": "bfloat16"}, {"extractor_name": "b"}],
)
def test_cache_key_changes_with_every_option(change: dict) -> None:
    any_size, _ = cut_at_pool(build_model("tiny", image_size=None))
    assert key(any_size, **change) != key(any_size)


def test_cache_key_changes_with_weights() -> None:
    model = build_model("tiny", image_size=SIZE)
    base, _ = cut_at_pool(model)
    before = key(base)
    bias, *rest = model.get_layer("block1_bn").get_weights()
    bias[3] += 1e-6
    model.get_layer("block1_bn").set_weights([bias, *rest])
    assert key(base) != before


def test_cache_key_depends_on_the_base_but_not_on_the_head(
    model: keras.Model, base: keras.Model
) -> None:
    before = key(base)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, bias + 1.0])
    assert key(base) == before
    block3, _ = cut_before_block(model, "block3") or pytest.fail("no split")
    assert key(block3) != before


# --- Disk space ---


def set_free_space(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_bytes))


@pytest.mark.parametrize(("size", "needed"), [(10**9, 15 * 10**8), (10**11, 105 * 10**9)])
def test_check_disk_space_keeps_a_reserve(
    size: int, needed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_space(monkeypatch, needed)
    check_disk_space(tmp_path / "not" / "there" / "yet", size)
    set_free_space(monkeypatch, needed - 1)
    with pytest.raises(
        RunError, match=rf"Expected {needed / 1e6:,.0f} MB of free space, got 1.* MB\. Free disk"
    ):
        check_disk_space(tmp_path, size)


def test_compute_features_with_small_disk_raises_before_computing(
    base: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_space(monkeypatch, 1000)
    extractor, sizes = counting_extractor(base)
    with pytest.raises(RunError, match=r"turn off cached features"):
        fill(base, tmp_path / "cache", extractor=extractor)
    assert (sizes, file_names(tmp_path)) == ([], [])


def test_compute_features_on_full_disk_raises_run_error(
    base: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache.os, "fsync", full)
    monkeypatch.setattr(feature_cache, "_write_metadata", lambda *_: None)
    with pytest.raises(RunError, match=r"\(No space left on device\)\. Free disk space"):
        fill(base, tmp_path)
    assert file_names(tmp_path) == []


# --- Training ---


def test_training_dataset_trains_a_tail_for_several_epochs(tmp_path: Path) -> None:
    model = build_model("tiny", image_size=SIZE, dense_units=(4,))
    unfreeze_from(model, "block3", train_batch_norm=False)
    base, tail = cut_before_block(model, "block3") or pytest.fail("no split")
    cache = fill(base, tmp_path, dtype="bfloat16")
    before = model.get_layer("block3_conv").get_weights()[0]
    tail.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    history = tail.fit(
        cache.training_dataset(LABELS, batch_size=3, seed=5, first_epoch=1, last_epoch=4),
        validation_data=cache.validation_dataset(LABELS, batch_size=3),
        initial_epoch=1, epochs=4, steps_per_epoch=3, class_weight={0: 1.0, 1: 2.0},
        shuffle=False, verbose=0,
    )  # fmt: skip
    assert len(history.history["val_loss"]) == 3
    assert not np.array_equal(model.get_layer("block3_conv").get_weights()[0], before)
