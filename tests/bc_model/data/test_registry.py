"""The dataset registry: linked, listed, located and removed datasets."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bc_model.data.registry import (
    datasets_dir,
    find_images_dir,
    link_folder,
    list_datasets,
    locate_image,
    open_dataset,
    publish_dataset,
    remove_dataset,
    require_free_name,
    staging_folder,
)
from bc_model.errors import DataError, FolderNotFoundError


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere/my images"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"x")
    return folder


def test_datasets_dir_is_environment_variable_or_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path))
    assert datasets_dir() == tmp_path
    monkeypatch.delenv("BC_DATASETS")
    assert datasets_dir() == Path(__file__).resolve().parents[3] / "data"


def test_link_folder_does_not_copy_images(registry: Path, images: Path) -> None:
    linked = link_folder(images, "mine", registry)
    assert (linked.name, linked.images_dir, linked.kind) == ("mine", images.resolve(), "linked")
    assert linked.added.endswith("+00:00")
    assert linked == open_dataset("mine", registry)
    assert [path.name for path in registry.rglob("*")] == ["mine", "dataset.json"]


def test_is_available_deleted_linked_folder_is_false(registry: Path, images: Path) -> None:
    linked = link_folder(images, "mine", registry)
    assert linked.is_available
    (images / "a.png").unlink()
    images.rmdir()
    assert not open_dataset("mine", registry).is_available


def test_list_datasets_sorts_by_name_without_hidden_folders(registry: Path, images: Path) -> None:
    link_folder(images, "b", registry)
    link_folder(images, "A", registry)
    (registry / "manual").mkdir()
    (registry / ".cache").mkdir()
    (registry / "notes.txt").write_text("x")
    datasets, problems = list_datasets(registry)
    assert [(dataset.name, dataset.kind) for dataset in datasets] == [
        ("A", "linked"), ("b", "linked"), ("manual", "unmanaged"),
    ]  # fmt: skip
    assert datasets[2].images_dir == registry / "manual"
    assert problems == []


def test_list_datasets_missing_registry_is_empty(registry: Path) -> None:
    assert list_datasets(registry) == ([], [])
    assert not registry.exists()


VALID = {"kind": "stored", "images": "images", "source": "a.zip", "added": "2026-01-01T00:00:00"}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"\x00", b"\xff", b"[" * 100_000,
        *(
            json.dumps(VALID | change).encode()
            for change in (
                {"kind": 1}, {"kind": "other"}, {"images": None}, {"added": "yesterday"},
                {"skipped": [["a"]]}, {"skipped": {"a": "b"}}, {"notes": [1]}, {"sha256": 5},
            )
        ),
    ],
)  # fmt: skip
def test_list_datasets_damaged_dataset_is_reported_and_others_listed(
    registry: Path, images: Path, content: bytes
) -> None:
    link_folder(images, "good", registry)
    link_folder(images, "bad", registry)
    (registry / "bad/dataset.json").write_bytes(content)
    datasets, problems = list_datasets(registry)
    assert [dataset.name for dataset in datasets] == ["good"]
    assert len(problems) == 1
    assert "dataset 'bad' is damaged" in problems[0]


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".x", "a/b", "a\\b", "../x", "C:", "a b", "x.", "nul", "COM1.png", "é",
        "a" * 81,
    ],
)  # fmt: skip
def test_registry_invalid_name_is_refused(registry: Path, images: Path, name: str) -> None:
    with pytest.raises(DataError, match="Invalid dataset name"):
        link_folder(images, name, registry)
    with pytest.raises(DataError, match="Invalid dataset name"):
        open_dataset(name, registry)
    assert not registry.exists()


def test_link_folder_name_taken_in_other_case_is_refused(registry: Path, images: Path) -> None:
    link_folder(images, "Mine", registry)
    with pytest.raises(DataError, match=r"registry/Mine already exists"):
        link_folder(images, "mine", registry)
    assert [path.name for path in registry.iterdir()] == ["Mine"]


def test_publish_dataset_name_taken_in_the_meantime_is_refused(registry: Path) -> None:
    target = require_free_name("mine", registry)
    with staging_folder(target) as staging:
        target.mkdir()
        with pytest.raises(DataError, match="already exists"):
            publish_dataset(staging, target, kind="stored", images="images", source="")
    assert list(target.iterdir()) == []


def test_staging_folder_after_exception_is_deleted(registry: Path) -> None:
    target = require_free_name("mine", registry)

    def fail() -> None:
        with staging_folder(target) as staging:
            (staging / "a.png").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(registry.iterdir()) == []


def test_find_images_dir_prefers_existing_folder(registry: Path, images: Path) -> None:
    link_folder(images, "mine", registry)
    assert find_images_dir("mine", registry) == images.resolve()
    assert find_images_dir(images, registry) == images
    assert find_images_dir("other", registry) == Path("other")


def test_registry_missing_folder_or_dataset_raises(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match=r"folder .*gone"):
        link_folder(tmp_path / "gone", "mine", registry)
    with pytest.raises(DataError, match="There is no dataset 'mine'"):
        open_dataset("mine", registry)
    assert not registry.exists()


def test_link_folder_without_images_is_refused(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no images"):
        link_folder(tmp_path / "empty", "mine", registry)
    assert not registry.exists()


def test_remove_dataset_linked_folder_keeps_images(registry: Path, images: Path) -> None:
    link_folder(images, "mine", registry)
    remove_dataset("mine", registry)
    assert list(registry.iterdir()) == []
    assert (images / "a.png").read_bytes() == b"x"


def test_remove_dataset_unmanaged_folder_is_refused(registry: Path) -> None:
    (registry / "mine").mkdir(parents=True)
    with pytest.raises(DataError, match="was added manually"):
        remove_dataset("mine", registry)
    assert (registry / "mine").is_dir()


def test_staging_folder_deletes_folders_older_than_one_day(registry: Path) -> None:
    registry.mkdir()
    old, young = registry / ".add-1", registry / ".add-2"
    (old / "images").mkdir(parents=True)
    young.mkdir()
    past = time.time() - 2 * 86_400
    os.utime(old, (past, past))
    with staging_folder(registry / "mine"):
        assert not old.exists()
        assert young.exists()


def test_link_folder_writes_json_description(registry: Path, images: Path) -> None:
    link_folder(images, "mine", registry)
    content = json.loads((registry / "mine/dataset.json").read_text())
    assert content["source"] == content["images"] == str(images.resolve())


def test_locate_image_returns_file_in_dataset(registry: Path, images: Path) -> None:
    dataset = link_folder(images, "mine", registry)
    assert locate_image(dataset, "a.png") == images.resolve() / "a.png"


def test_locate_image_link_out_of_a_stored_copy_is_refused(registry: Path, images: Path) -> None:
    dataset = link_folder(images, "mine", registry)
    (images / "inner.png").symlink_to("a.png")
    (images / "link.png").symlink_to(images.parent / "secret.png")
    (images.parent / "secret.png").write_bytes(b"x")
    assert locate_image(dataset, "link.png").name == "link.png"  # Folders of links are common.
    stored = replace(dataset, kind="stored")
    assert locate_image(stored, "inner.png").name == "inner.png"
    with pytest.raises(DataError, match="does not contain the image"):
        locate_image(stored, "link.png")


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "/etc/passwd", "{root}/a.png", ".hidden.png", "gone.png", "notes.txt", "",
     "a\0.png", "..\\secret.png", "C:/a.png", "."],
)  # fmt: skip
def test_locate_image_unsafe_path_or_other_file_is_refused(
    registry: Path, images: Path, path: str
) -> None:
    dataset = link_folder(images, "mine", registry)
    for name in (".hidden.png", "notes.txt", "../secret.png"):
        (images / name).write_bytes(b"x")
    with pytest.raises(DataError, match="does not contain the image"):
        locate_image(dataset, path.replace("{root}", str(images)))
