"""Pixels read once are remembered, and never for a file that has changed."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data import dataset as module
from bc_model.data.dataset import Dataset, PixelCache, read_dataset
from bc_model.data.synthetic import write_synthetic

OLD_NS = 1_700_000_000_000_000_000


def age(folder: Path) -> None:
    """Make files as old as they are on a person's disk; fresh ones are not remembered."""
    for path in folder.rglob("*.png"):
        os.utime(path, ns=(OLD_NS, OLD_NS))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_synthetic(tmp_path / "set", n_cases=2, images_per_case=2, size=(32, 48))
    age(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache/of"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that names of decoded pictures are added to."""
    names: list[str] = []
    read = module.read_image

    def watched(path: Path) -> object:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(module, "read_picture", watched)
    return names


def assert_same(first: Dataset, second: Dataset) -> None:
    for name in ("images", "excluded", "duplicates"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))


def test_a_second_look_decodes_nothing_and_finds_the_same(
    images: Path, cache: Path, reads: list[str]
) -> None:
    first = read_dataset(images, cache=cache)
    assert len(reads) == 4
    assert_same(read_dataset(images, cache=cache), first)
    assert len(reads) == 4
    assert_same(read_dataset(images), first)
    assert len(reads) == 8


def test_a_changed_file_is_read_again(images: Path, cache: Path, reads: list[str]) -> None:
    first = read_dataset(images, cache=cache)
    path, other = sorted(images.rglob("*.png"))[:2]
    path.write_bytes(other.read_bytes())
    reads.clear()
    second = read_dataset(images, cache=cache)
    assert reads == [path.name]
    assert len(second.images) == len(first.images) - 1  # the two are twins now


def test_a_file_that_only_its_time_tells_is_read_again(
    images: Path, cache: Path, reads: list[str]
) -> None:
    read_dataset(images, cache=cache)
    path = min(images.rglob("*.png"))
    os.utime(path, ns=(OLD_NS, OLD_NS + 1))
    reads.clear()
    read_dataset(images, cache=cache)
    assert reads == [path.name]


def test_a_fresh_file_is_not_trusted(images: Path, cache: Path, reads: list[str]) -> None:
    path = min(images.rglob("*.png"))
    os.utime(path)
    read_dataset(images, cache=cache)
    reads.clear()
    read_dataset(images, cache=cache)
    assert reads == [path.name]


def test_files_that_are_gone_are_forgotten(images: Path, cache: Path) -> None:
    read_dataset(images, cache=cache)
    path = min(images.rglob("*.png"))
    path.unlink()
    read_dataset(images, cache=cache)
    (file,) = cache.iterdir()
    assert len(json.loads(file.read_text())["files"]) == 3


def test_a_stopped_look_forgets_nothing(images: Path, cache: Path, reads: list[str]) -> None:
    read_dataset(images, cache=cache)
    first = min(images.rglob("*.png"))
    os.utime(first, ns=(OLD_NS, OLD_NS + 1))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_dataset(images, cache=cache, progress=stop)
    (file,) = cache.iterdir()
    files = json.loads(file.read_text())["files"]
    assert len(files) == 4
    assert files[first.relative_to(images).as_posix()][1] == OLD_NS + 1
    reads.clear()
    read_dataset(images, cache=cache)
    assert reads == []


def test_a_bad_image_is_told_again_at_each_look(images: Path, cache: Path) -> None:
    path = min(images.rglob("*.png"))
    path.write_bytes(b"not a picture")
    age(images)
    for _ in range(2):
        dataset = read_dataset(images, cache=cache)
        assert list(dataset.excluded["reason"]) == ["unreadable"]


def test_two_folders_have_two_caches(images: Path, cache: Path) -> None:
    read_dataset(images, cache=cache)
    read_dataset(images / "histology_slides", cache=cache)
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
def test_a_damaged_cache_is_ignored_and_replaced(
    images: Path, cache: Path, reads: list[str], damage: object
) -> None:
    first = read_dataset(images, cache=cache)
    (file,) = cache.iterdir()
    whole = file.read_text()
    file.write_text(damage(whole))
    assert file.read_text() != whole
    assert_same(read_dataset(images, cache=cache), first)
    assert len(reads) == 8
    assert file.read_text() == whole


def test_a_cache_that_cannot_be_written_is_told_and_no_more(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    dataset = read_dataset(images, cache=tmp_path / "file")
    assert len(dataset.images) == 4
    assert "cannot be written" in caplog.text


def test_nothing_new_writes_nothing(images: Path, cache: Path) -> None:
    read_dataset(images, cache=cache)
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    read_dataset(images, cache=cache)
    assert file.stat().st_mtime_ns == before
    assert PixelCache(cache, images).path == file
