"""The fingerprint cache: unchanged files are not decoded again."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data import hashing
from bc_model.data.dataset import Dataset, load_dataset
from bc_model.data.hashing import FingerprintCache
from bc_model.data.synthetic import generate_dataset

OLD_NS = 1_700_000_000_000_000_000


def set_old_time(folder: Path) -> None:
    """Set an old modification time, because fresh files are not cached."""
    for path in folder.rglob("*.png"):
        os.utime(path, ns=(OLD_NS, OLD_NS))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    generate_dataset(tmp_path / "set", n_cases=2, images_per_case=2, size=(32, 48))
    set_old_time(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache/folder"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that receives the names of decoded images."""
    names: list[str] = []
    read_image = hashing.read_image

    def read_and_log(path: Path, **options: object) -> object:
        names.append(path.name)
        return read_image(path, **options)

    monkeypatch.setattr(hashing, "read_image", read_and_log)
    return names


def assert_same(first: Dataset, second: Dataset) -> None:
    for name in ("images", "excluded", "duplicates"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))


def test_cache_second_reading_decodes_nothing_and_is_equal(
    images: Path, cache: Path, reads: list[str]
) -> None:
    first = load_dataset(images, cache_dir=cache)
    assert len(reads) == 4
    assert_same(load_dataset(images, cache_dir=cache), first)
    assert len(reads) == 4
    assert_same(load_dataset(images), first)
    assert len(reads) == 8


def test_cache_changed_file_is_decoded_again(images: Path, cache: Path, reads: list[str]) -> None:
    first = load_dataset(images, cache_dir=cache)
    path, other = sorted(images.rglob("*.png"))[:2]
    path.write_bytes(other.read_bytes())
    reads.clear()
    second = load_dataset(images, cache_dir=cache)
    assert reads == [path.name]
    assert len(second.images) == len(first.images) - 1  # The two files are duplicates now.


def test_cache_file_with_new_time_is_decoded_again(
    images: Path, cache: Path, reads: list[str]
) -> None:
    load_dataset(images, cache_dir=cache)
    path = min(images.rglob("*.png"))
    os.utime(path, ns=(OLD_NS, OLD_NS + 1))
    reads.clear()
    load_dataset(images, cache_dir=cache)
    assert reads == [path.name]


def test_cache_fresh_file_is_not_cached(images: Path, cache: Path, reads: list[str]) -> None:
    path = min(images.rglob("*.png"))
    os.utime(path)
    load_dataset(images, cache_dir=cache)
    reads.clear()
    load_dataset(images, cache_dir=cache)
    assert reads == [path.name]


def test_cache_deleted_files_are_dropped(images: Path, cache: Path) -> None:
    load_dataset(images, cache_dir=cache)
    path = min(images.rglob("*.png"))
    path.unlink()
    load_dataset(images, cache_dir=cache)
    (file,) = cache.iterdir()
    assert len(json.loads(file.read_text())["files"]) == 3


def test_cache_stopped_reading_keeps_all_entries(
    images: Path, cache: Path, reads: list[str]
) -> None:
    load_dataset(images, cache_dir=cache)
    first = min(images.rglob("*.png"))
    os.utime(first, ns=(OLD_NS, OLD_NS + 1))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_dataset(images, cache_dir=cache, progress=stop)
    (file,) = cache.iterdir()
    files = json.loads(file.read_text())["files"]
    assert len(files) == 4
    assert files[first.relative_to(images).as_posix()][1] == OLD_NS + 1
    reads.clear()
    load_dataset(images, cache_dir=cache)
    assert reads == []


def test_cache_unreadable_image_is_reported_each_time(images: Path, cache: Path) -> None:
    path = min(images.rglob("*.png"))
    path.write_bytes(b"not an image")
    set_old_time(images)
    for _ in range(2):
        dataset = load_dataset(images, cache_dir=cache)
        assert list(dataset.excluded["reason"]) == ["unreadable"]


def test_cache_two_folders_have_two_files(images: Path, cache: Path) -> None:
    load_dataset(images, cache_dir=cache)
    load_dataset(images / "histology_slides", cache_dir=cache)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-40],
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"decoder"', '"encoder"'),
        lambda text: text.replace("Pillow", "Pillow 1"),
        lambda text: text.replace(f"{OLD_NS},", f'"{OLD_NS}",'),
        lambda text: text.replace(",48,32,", ",48,"),
        lambda text: text.replace(",48,32,", ",48,-32,"),
        lambda text: text.replace(",48,32,", ",48,32.0,"),
        lambda text: text.replace(',"', ',"../'),
    ],
)
def test_cache_damaged_file_is_ignored_and_replaced(
    images: Path, cache: Path, reads: list[str], damage: object
) -> None:
    first = load_dataset(images, cache_dir=cache)
    (file,) = cache.iterdir()
    content = file.read_text()
    file.write_text(damage(content))
    assert file.read_text() != content
    assert_same(load_dataset(images, cache_dir=cache), first)
    assert len(reads) == 8
    assert file.read_text() == content


def test_cache_write_error_is_logged_only(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    dataset = load_dataset(images, cache_dir=tmp_path / "file")
    assert len(dataset.images) == 4
    assert "cannot be written" in caplog.text


def test_cache_without_changes_is_not_written(images: Path, cache: Path) -> None:
    load_dataset(images, cache_dir=cache)
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    load_dataset(images, cache_dir=cache)
    assert file.stat().st_mtime_ns == before
    assert FingerprintCache(cache, images).path == file
