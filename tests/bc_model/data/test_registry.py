"""The shelf of data sets: names, links, what is put there whole and what is found there."""

import json
import os
import time
from pathlib import Path

import pytest

from bc_model.data.registry import (
    datasets_folder,
    free_place,
    image_file,
    link_folder,
    list_datasets,
    open_dataset,
    put_in_place,
    remove_dataset,
    staging_folder,
)
from bc_model.errors import DataError, FolderNotFoundError


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere/my pictures"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"x")
    return folder


def test_the_registry_is_named_by_the_environment_or_beside_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path))
    assert datasets_folder() == tmp_path
    monkeypatch.delenv("BC_DATASETS")
    assert datasets_folder() == Path(__file__).resolve().parents[3] / "data"


def test_a_folder_is_linked_and_not_copied(registry: Path, images: Path) -> None:
    linked = link_folder(images, "mine", registry)
    assert (linked.name, linked.images, linked.kind) == ("mine", images.resolve(), "linked")
    assert linked.added.endswith("+00:00")
    assert linked == open_dataset("mine", registry)
    assert [path.name for path in registry.rglob("*")] == ["mine", "set.json"]


def test_a_linked_folder_that_is_gone_is_known_as_gone(registry: Path, images: Path) -> None:
    linked = link_folder(images, "mine", registry)
    assert linked.is_there
    (images / "a.png").unlink()
    images.rmdir()
    assert not open_dataset("mine", registry).is_there


def test_sets_are_listed_by_name_and_hidden_folders_are_none(registry: Path, images: Path) -> None:
    link_folder(images, "b", registry)
    link_folder(images, "A", registry)
    (registry / "by-hand").mkdir()
    (registry / ".cache").mkdir()
    (registry / "notes.txt").write_text("x")
    sets, problems = list_datasets(registry)
    assert [(one.name, one.kind) for one in sets] == [
        ("A", "linked"), ("b", "linked"), ("by-hand", "by hand"),
    ]  # fmt: skip
    assert sets[2].images == registry / "by-hand"
    assert problems == []


def test_a_registry_that_is_not_there_is_empty(registry: Path) -> None:
    assert list_datasets(registry) == ([], [])
    assert not registry.exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": 1, "pictures": "", "source": "", "added": ""}', "\x00"]
)
def test_a_damaged_set_is_told_and_the_others_are_listed(
    registry: Path, images: Path, content: str
) -> None:
    link_folder(images, "good", registry)
    link_folder(images, "bad", registry)
    (registry / "bad/set.json").write_text(content)
    sets, problems = list_datasets(registry)
    assert [one.name for one in sets] == ["good"]
    assert len(problems) == 1
    assert "data set bad is damaged" in problems[0]


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".x", "a/b", "a\\b", "../x", "C:", "a b", "x.", "nul", "COM1.png", "é",
        "a" * 81,
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_one(registry: Path, images: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be the name of a data set"):
        link_folder(images, name, registry)
    with pytest.raises(DataError, match="cannot be the name of a data set"):
        open_dataset(name, registry)
    assert not registry.exists()


def test_a_name_that_is_taken_in_other_letters(registry: Path, images: Path) -> None:
    link_folder(images, "Mine", registry)
    with pytest.raises(DataError, match=r"shelf/Mine is there already"):
        link_folder(images, "mine", registry)
    assert [path.name for path in registry.iterdir()] == ["Mine"]


def test_a_name_that_is_taken_meanwhile(registry: Path) -> None:
    target = free_place("mine", registry)
    staging = staging_folder(registry)
    target.mkdir()
    with pytest.raises(DataError, match="is there already"):
        put_in_place(staging, target)
    assert list(target.iterdir()) == []


def test_no_such_folder_and_no_such_set(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderNotFoundError, match=r"no folder .*gone"):
        link_folder(tmp_path / "gone", "mine", registry)
    with pytest.raises(DataError, match="There is no data set mine"):
        open_dataset("mine", registry)
    assert not registry.exists()


def test_a_folder_without_a_image_is_not_put_on_the_registry(
    registry: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no PNG, JPEG or TIFF picture"):
        link_folder(tmp_path / "empty", "mine", registry)
    assert not registry.exists()


def test_removing_a_link_leaves_the_images(registry: Path, images: Path) -> None:
    link_folder(images, "mine", registry)
    remove_dataset("mine", registry)
    assert list(registry.iterdir()) == []
    assert (images / "a.png").read_bytes() == b"x"


def test_what_was_put_there_by_hand_is_not_removed(registry: Path) -> None:
    (registry / "mine").mkdir(parents=True)
    with pytest.raises(DataError, match="that this program put there"):
        remove_dataset("mine", registry)
    assert (registry / "mine").is_dir()


def test_what_a_killed_process_left_is_cleared_after_a_day(registry: Path) -> None:
    old, young = staging_folder_in(registry), staging_folder_in(registry)
    (old / "images").mkdir()
    past = time.time() - 2 * 86_400
    os.utime(old, (past, past))
    staging_folder(registry)
    assert not old.exists()
    assert young.exists()


def staging_folder_in(registry: Path) -> Path:
    registry.mkdir(exist_ok=True)
    return staging_folder(registry)


def test_the_file_of_a_set_is_plain_json(registry: Path, images: Path) -> None:
    link_folder(images, "mine", registry)
    content = json.loads((registry / "mine/set.json").read_text())
    assert content["source"] == content["images"] == str(images.resolve())


def test_a_image_is_found_by_its_path_in_the_set(registry: Path, images: Path) -> None:
    dataset = link_folder(images, "mine", registry)
    assert image_file(dataset, "a.png") == images.resolve() / "a.png"


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "/etc/passwd", "{root}/a.png", ".hidden.png", "gone.png", "notes.txt", "",
     "a\0.png", "..\\secret.png", "C:/a.png", "."],
)  # fmt: skip
def test_a_path_that_leads_out_or_is_no_image_is_refused(
    registry: Path, images: Path, path: str
) -> None:
    dataset = link_folder(images, "mine", registry)
    for name in (".hidden.png", "notes.txt", "../secret.png"):
        (images / name).write_bytes(b"x")
    with pytest.raises(DataError, match="There is no picture"):
        image_file(dataset, path.replace("{root}", str(images)))
