"""Fold files in the dataset registry."""

from pathlib import Path

import pytest

from bc_model.data.official_folds import (
    list_fold_files,
    read_fold_file,
    store_fold_contents,
    store_fold_files,
)
from bc_model.errors import SplitError

GOOD = b"SOB_B_A-14-1-40-001.png|40|1|train\nSOB_B_A-14-2-40-001.png|40|1|test\n"
OTHER = GOOD.replace(b"|1|", b"|2|")


def test_store_fold_contents_keeps_name_and_content(tmp_path: Path) -> None:
    (stored,) = store_fold_contents([("dsfold1.txt", GOOD)], tmp_path)

    assert stored.name == "dsfold1.txt"
    assert read_fold_file(stored).fold == 1
    assert list_fold_files(tmp_path) == [stored]


def test_store_fold_contents_same_name_with_other_content_gets_number(tmp_path: Path) -> None:
    (first,) = store_fold_contents([("dsfold1.txt", GOOD)], tmp_path)

    assert store_fold_contents([("dsfold1.txt", GOOD)], tmp_path) == [first]
    assert store_fold_contents([("dsfold1.txt", OTHER)], tmp_path)[0].name == "dsfold1-2.txt"
    assert first.read_bytes() == GOOD


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/ü.txt", "", ".hidden.txt", "x" * 300])
def test_store_fold_contents_unsafe_name_stays_in_folder(tmp_path: Path, name: str) -> None:
    (stored,) = store_fold_contents([(name, GOOD)], tmp_path)

    assert stored.parent == tmp_path / ".folds"
    assert list_fold_files(tmp_path) == [stored]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"notes\.txt is not a fold file\. It is empty"),
        (b"\xff\xfe", r"notes\.txt is not a fold file\. It is not UTF-8 text"),
        (b"hello\n", r"notes\.txt is not a fold file\. Line 1: expected name"),
    ],
)
def test_store_fold_contents_other_content_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(SplitError, match=message):
        store_fold_contents([("notes.txt", content)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_store_fold_files_stores_all_files_of_folder_in_order(tmp_path: Path) -> None:
    source = tmp_path / "official"
    source.mkdir()
    for number in (10, 2, 1):
        (source / f"dsfold{number}.txt").write_bytes(GOOD.replace(b"|1|", b"|%d|" % number))
    stored = store_fold_files(source, tmp_path / "registry")

    assert [path.name for path in stored] == ["dsfold1.txt", "dsfold2.txt", "dsfold10.txt"]
    assert list_fold_files(tmp_path / "registry") == stored
    (source / "notes.txt").write_text("hello")
    with pytest.raises(SplitError, match="not a fold file"):
        store_fold_files(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_store_fold_contents_stores_all_or_none(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"notes\.txt is not a fold file"):
        store_fold_contents([("dsfold1.txt", GOOD), ("notes.txt", b"hello")], tmp_path)
    assert list(tmp_path.iterdir()) == []
    stored = store_fold_contents([("dsfold1.txt", GOOD), ("dsfold1.txt", OTHER)], tmp_path)
    assert [path.name for path in stored] == ["dsfold1.txt", "dsfold1-2.txt"]


def test_store_fold_files_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="There is no fold file"):
        store_fold_files(tmp_path / "gone.txt", tmp_path)
    with pytest.raises(SplitError, match="got 0"):
        store_fold_files(tmp_path, tmp_path)
