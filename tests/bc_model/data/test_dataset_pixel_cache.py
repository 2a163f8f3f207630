"""Pixels read once are remembered, and never for a file that has changed."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data import dataset as module
from bc_model.data.dataset import Manifest, PixelCache, read_manifest
from bc_model.data.synthetic import write_synthetic

OLD_NS = 1_700_000_000_000_000_000


def age(folder: Path) -> None:
    """Make files as old as they are on a person's disk; fresh ones are not remembered."""
    for path in folder.rglob("*.png"):
        os.utime(path, ns=(OLD_NS, OLD_NS))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_synthetic(tmp_path / "set", n_cases=2, pictures_per_case=2, size=(32, 48))
    age(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache/of"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that names of decoded pictures are added to."""
    names: list[str] = []
    read = module.read_picture

    def watched(path: Path) -> object:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(module, "read_picture", watched)
    return names


def assert_same(first: Manifest, second: Manifest) -> None:
    for name in ("pictures", "rejected", "twins"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))


def test_a_second_look_decodes_nothing_and_finds_the_same(
    pictures: Path, cache: Path, reads: list[str]
) -> None:
    first = read_manifest(pictures, cache=cache)
    assert len(reads) == 4
    assert_same(read_manifest(pictures, cache=cache), first)
    assert len(reads) == 4
    assert_same(read_manifest(pictures), first)
    assert len(reads) == 8


def test_a_changed_file_is_read_again(pictures: Path, cache: Path, reads: list[str]) -> None:
    first = read_manifest(pictures, cache=cache)
    path, other = sorted(pictures.rglob("*.png"))[:2]
    path.write_bytes(other.read_bytes())
    reads.clear()
    second = read_manifest(pictures, cache=cache)
    assert reads == [path.name]
    assert len(second.pictures) == len(first.pictures) - 1  # the two are twins now


def test_a_file_that_only_its_time_tells_is_read_again(
    pictures: Path, cache: Path, reads: list[str]
) -> None:
    read_manifest(pictures, cache=cache)
    path = min(pictures.rglob("*.png"))
    os.utime(path, ns=(OLD_NS, OLD_NS + 1))
    reads.clear()
    read_manifest(pictures, cache=cache)
    assert reads == [path.name]


def test_a_fresh_file_is_not_trusted(pictures: Path, cache: Path, reads: list[str]) -> None:
    path = min(pictures.rglob("*.png"))
    os.utime(path)
    read_manifest(pictures, cache=cache)
    reads.clear()
    read_manifest(pictures, cache=cache)
    assert reads == [path.name]


def test_files_that_are_gone_are_forgotten(pictures: Path, cache: Path) -> None:
    read_manifest(pictures, cache=cache)
    path = min(pictures.rglob("*.png"))
    path.unlink()
    read_manifest(pictures, cache=cache)
    (file,) = cache.iterdir()
    assert len(json.loads(file.read_text())["files"]) == 3


def test_a_stopped_look_forgets_nothing(pictures: Path, cache: Path, reads: list[str]) -> None:
    read_manifest(pictures, cache=cache)
    first = min(pictures.rglob("*.png"))
    os.utime(first, ns=(OLD_NS, OLD_NS + 1))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_manifest(pictures, cache=cache, progress=stop)
    (file,) = cache.iterdir()
    files = json.loads(file.read_text())["files"]
    assert len(files) == 4
    assert files[first.relative_to(pictures).as_posix()][1] == OLD_NS + 1
    reads.clear()
    read_manifest(pictures, cache=cache)
    assert reads == []


def test_a_bad_picture_is_told_again_at_each_look(pictures: Path, cache: Path) -> None:
    path = min(pictures.rglob("*.png"))
    path.write_bytes(b"not a picture")
    age(pictures)
    for _ in range(2):
        manifest = read_manifest(pictures, cache=cache)
        assert list(manifest.rejected["reason"]) == ["unreadable"]


def test_two_folders_have_two_caches(pictures: Path, cache: Path) -> None:
    read_manifest(pictures, cache=cache)
    read_manifest(pictures / "histology_slides", cache=cache)
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
    pictures: Path, cache: Path, reads: list[str], damage: object
) -> None:
    first = read_manifest(pictures, cache=cache)
    (file,) = cache.iterdir()
    whole = file.read_text()
    file.write_text(damage(whole))
    assert file.read_text() != whole
    assert_same(read_manifest(pictures, cache=cache), first)
    assert len(reads) == 8
    assert file.read_text() == whole


def test_a_cache_that_cannot_be_written_is_told_and_no_more(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    manifest = read_manifest(pictures, cache=tmp_path / "file")
    assert len(manifest.pictures) == 4
    assert "cannot be written" in caplog.text


def test_nothing_new_writes_nothing(pictures: Path, cache: Path) -> None:
    read_manifest(pictures, cache=cache)
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    read_manifest(pictures, cache=cache)
    assert file.stat().st_mtime_ns == before
    assert PixelCache(cache, pictures).path == file
