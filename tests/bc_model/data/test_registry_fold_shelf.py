"""Fold files on the shelf: only good ones, each content once, under a name of its own."""

from pathlib import Path

import pytest

from bc_model.data.official_folds import read_fold_file
from bc_model.data.registry import (
    keep_fold_contents,
    keep_fold_file,
    keep_fold_files,
    list_fold_files,
)
from bc_model.errors import SplitError

GOOD = b"SOB_B_A-14-1-40-001.png|40|1|train\nSOB_B_A-14-2-40-001.png|40|1|test\n"
OTHER = GOOD.replace(b"|1|", b"|2|")


def test_a_file_is_kept_by_its_name_and_can_be_read(tmp_path: Path) -> None:
    kept = keep_fold_file(GOOD, "dsfold1.txt", tmp_path)

    assert kept.name == "dsfold1.txt"
    assert read_fold_file(kept).fold == 1
    assert list_fold_files(tmp_path) == [kept]


def test_the_same_file_again_is_the_same_and_another_one_gets_a_number(tmp_path: Path) -> None:
    first = keep_fold_file(GOOD, "dsfold1.txt", tmp_path)

    assert keep_fold_file(GOOD, "dsfold1.txt", tmp_path) == first
    assert keep_fold_file(OTHER, "dsfold1.txt", tmp_path).name == "dsfold1-2.txt"
    assert first.read_bytes() == GOOD


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/ü.txt", "", ".hidden.txt", "x" * 300])
def test_a_name_never_leads_out(tmp_path: Path, name: str) -> None:
    kept = keep_fold_file(GOOD, name, tmp_path)

    assert kept.parent == tmp_path / ".folds"
    assert list_fold_files(tmp_path) == [kept]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "notes.txt is not a fold file: it is empty"),
        (b"\xff\xfe", "notes.txt is not a fold file: it is not text"),
        (b"hello\n", "notes.txt is not a fold file: line 1 says 'hello'"),
    ],
)
def test_what_is_no_fold_file_is_not_kept(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SplitError, match=said):
        keep_fold_file(content, "notes.txt", tmp_path)
    assert list((tmp_path / ".folds").iterdir()) == []


def test_the_files_of_a_folder_are_kept_together_in_their_order(tmp_path: Path) -> None:
    source = tmp_path / "official"
    source.mkdir()
    for number in (10, 2, 1):
        (source / f"dsfold{number}.txt").write_bytes(GOOD.replace(b"|1|", b"|%d|" % number))
    kept = keep_fold_files(source, tmp_path / "shelf")

    assert [path.name for path in kept] == ["dsfold1.txt", "dsfold2.txt", "dsfold10.txt"]
    assert list_fold_files(tmp_path / "shelf") == kept
    (source / "notes.txt").write_text("hello")
    with pytest.raises(SplitError, match="not a fold file"):
        keep_fold_files(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_of_contents_that_come_together_all_are_kept_or_none(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"notes\.txt is not a fold file"):
        keep_fold_contents([("dsfold1.txt", GOOD), ("notes.txt", b"hello")], tmp_path)
    assert list((tmp_path / ".folds").iterdir()) == []
    kept = keep_fold_contents([("dsfold1.txt", GOOD), ("dsfold1.txt", OTHER)], tmp_path)
    assert [path.name for path in kept] == ["dsfold1.txt", "dsfold1-2.txt"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="There is no fold file"):
        keep_fold_files(tmp_path / "gone.txt", tmp_path)
    with pytest.raises(SplitError, match="holds 0 text files"):
        keep_fold_files(tmp_path, tmp_path)
