"""The shelf of data sets: names, links, what is put there whole and what is found there."""

import json
import os
import time
from pathlib import Path

import pytest

from bc_model.data.registry import (
    datasets_folder,
    free_place,
    link_folder,
    list_sets,
    open_set,
    picture_file,
    put_in_place,
    remove_set,
    staging_folder,
)
from bc_model.errors import DataError, FolderNotFound


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere/my pictures"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"x")
    return folder


def test_the_shelf_is_named_by_the_environment_or_beside_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BC_DATASETS", str(tmp_path))
    assert datasets_folder() == tmp_path
    monkeypatch.delenv("BC_DATASETS")
    assert datasets_folder() == Path(__file__).resolve().parents[3] / "data"


def test_a_folder_is_linked_and_not_copied(shelf: Path, pictures: Path) -> None:
    linked = link_folder(pictures, "mine", shelf)
    assert (linked.name, linked.pictures, linked.kind) == ("mine", pictures.resolve(), "linked")
    assert linked.added.endswith("+00:00")
    assert linked == open_set("mine", shelf)
    assert [path.name for path in shelf.rglob("*")] == ["mine", "set.json"]


def test_a_linked_folder_that_is_gone_is_known_as_gone(shelf: Path, pictures: Path) -> None:
    linked = link_folder(pictures, "mine", shelf)
    assert linked.is_there
    (pictures / "a.png").unlink()
    pictures.rmdir()
    assert not open_set("mine", shelf).is_there


def test_sets_are_listed_by_name_and_hidden_folders_are_none(shelf: Path, pictures: Path) -> None:
    link_folder(pictures, "b", shelf)
    link_folder(pictures, "A", shelf)
    (shelf / "by-hand").mkdir()
    (shelf / ".cache").mkdir()
    (shelf / "notes.txt").write_text("x")
    sets, problems = list_sets(shelf)
    assert [(one.name, one.kind) for one in sets] == [
        ("A", "linked"), ("b", "linked"), ("by-hand", "by hand"),
    ]  # fmt: skip
    assert sets[2].pictures == shelf / "by-hand"
    assert problems == []


def test_a_shelf_that_is_not_there_is_empty(shelf: Path) -> None:
    assert list_sets(shelf) == ([], [])
    assert not shelf.exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": 1, "pictures": "", "source": "", "added": ""}', "\x00"]
)
def test_a_damaged_set_is_told_and_the_others_are_listed(
    shelf: Path, pictures: Path, content: str
) -> None:
    link_folder(pictures, "good", shelf)
    link_folder(pictures, "bad", shelf)
    (shelf / "bad/set.json").write_text(content)
    sets, problems = list_sets(shelf)
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
def test_a_name_that_cannot_be_one(shelf: Path, pictures: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be the name of a data set"):
        link_folder(pictures, name, shelf)
    with pytest.raises(DataError, match="cannot be the name of a data set"):
        open_set(name, shelf)
    assert not shelf.exists()


def test_a_name_that_is_taken_in_other_letters(shelf: Path, pictures: Path) -> None:
    link_folder(pictures, "Mine", shelf)
    with pytest.raises(DataError, match=r"shelf/Mine is there already"):
        link_folder(pictures, "mine", shelf)
    assert [path.name for path in shelf.iterdir()] == ["Mine"]


def test_a_name_that_is_taken_meanwhile(shelf: Path) -> None:
    target = free_place("mine", shelf)
    staging = staging_folder(shelf)
    target.mkdir()
    with pytest.raises(DataError, match="is there already"):
        put_in_place(staging, target)
    assert list(target.iterdir()) == []


def test_no_such_folder_and_no_such_set(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderNotFound, match=r"no folder .*gone"):
        link_folder(tmp_path / "gone", "mine", shelf)
    with pytest.raises(DataError, match="There is no data set mine"):
        open_set("mine", shelf)
    assert not shelf.exists()


def test_a_folder_without_a_picture_is_not_put_on_the_shelf(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no PNG, JPEG or TIFF picture"):
        link_folder(tmp_path / "empty", "mine", shelf)
    assert not shelf.exists()


def test_removing_a_link_leaves_the_pictures(shelf: Path, pictures: Path) -> None:
    link_folder(pictures, "mine", shelf)
    remove_set("mine", shelf)
    assert list(shelf.iterdir()) == []
    assert (pictures / "a.png").read_bytes() == b"x"


def test_what_was_put_there_by_hand_is_not_removed(shelf: Path) -> None:
    (shelf / "mine").mkdir(parents=True)
    with pytest.raises(DataError, match="that this program put there"):
        remove_set("mine", shelf)
    assert (shelf / "mine").is_dir()


def test_what_a_killed_process_left_is_cleared_after_a_day(shelf: Path) -> None:
    old, young = staging_folder_in(shelf), staging_folder_in(shelf)
    (old / "pictures").mkdir()
    past = time.time() - 2 * 86_400
    os.utime(old, (past, past))
    staging_folder(shelf)
    assert not old.exists()
    assert young.exists()


def staging_folder_in(shelf: Path) -> Path:
    shelf.mkdir(exist_ok=True)
    return staging_folder(shelf)


def test_the_file_of_a_set_is_plain_json(shelf: Path, pictures: Path) -> None:
    link_folder(pictures, "mine", shelf)
    content = json.loads((shelf / "mine/set.json").read_text())
    assert content["source"] == content["pictures"] == str(pictures.resolve())


def test_a_picture_is_found_by_its_path_in_the_set(shelf: Path, pictures: Path) -> None:
    data_set = link_folder(pictures, "mine", shelf)
    assert picture_file(data_set, "a.png") == pictures.resolve() / "a.png"


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "/etc/passwd", "{root}/a.png", ".hidden.png", "gone.png", "notes.txt", "",
     "a\0.png", "..\\secret.png", "C:/a.png", "."],
)  # fmt: skip
def test_a_path_that_leads_out_or_is_no_picture_is_refused(
    shelf: Path, pictures: Path, path: str
) -> None:
    data_set = link_folder(pictures, "mine", shelf)
    for name in (".hidden.png", "notes.txt", "../secret.png"):
        (pictures / name).write_bytes(b"x")
    with pytest.raises(DataError, match="There is no picture"):
        picture_file(data_set, path.replace("{root}", str(pictures)))
