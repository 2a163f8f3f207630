"""Fold files: every line as it must be, or a sentence that names the line and the rule."""

from pathlib import Path

import pytest

from bc_model.data.official_folds import FoldFile, read_fold_file
from bc_model.errors import SplitError

GOOD = [
    "SOB_B_TA-14-3411F-40-001.png|40|2|train",
    "SOB_M_DC-14-2523-200-010.png|200|2|test",
]


def read(tmp_path: Path, lines: list[str], end: str = "\n") -> FoldFile:
    path = tmp_path / "dsfold.txt"
    path.write_bytes((end.join(lines) + end).encode())
    return read_fold_file(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_says_what_its_name_says(tmp_path: Path, end: str) -> None:
    folds = read(tmp_path, GOOD, end)
    assert folds.fold == 2
    assert folds.names.to_dict("records") == [
        {
            "name": "SOB_B_TA-14-3411F-40-001.png", "key": "SOB_B_TA-14-3411F-40-1",
            "class": "benign", "case": "3411", "section": "F", "magnification": 40, "side": "train",
        },
        {
            "name": "SOB_M_DC-14-2523-200-010.png", "key": "SOB_M_DC-14-2523-200-10",
            "class": "malignant", "case": "2523", "section": "", "magnification": 200,
            "side": "test",
        },
    ]  # fmt: skip


def test_a_file_may_end_without_a_line_end_or_with_empty_lines(tmp_path: Path) -> None:
    for end in ("", "\n\n\n"):
        path = tmp_path / "f.txt"
        path.write_text("\n".join(GOOD) + end)
        assert len(read_fold_file(path).names) == 2


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("", "it must read name|magnification|fold|train or test"),
        ("SOB_M_DC-14-2523-200-011.png|200|2", "it must read"),
        ("SOB_M_DC-14-2523-200-011.png|200|2|test|", "it must read"),
        ("picture.png|200|2|test", "must follow the BreakHis grammar"),
        ("SOB_B_DC-14-2523-200-011.png|200|2|test", "must follow the BreakHis grammar"),
        (" SOB_M_DC-14-2523-200-011.png|200|2|test", "must follow the BreakHis grammar"),
        ("SOB_M_DC-14-2523-200-011.png|100|2|test", "must be the name's, 200"),
        ("SOB_M_DC-14-2523-200-011.png|200X|2|test", "must be the name's, 200"),
        ("SOB_M_DC-14-2523-200-011.png|200|two|test", "the fold must be a whole number"),
        ("SOB_M_DC-14-2523-200-011.png|200||test", "the fold must be a whole number"),
        ("SOB_M_DC-14-2523-200-011.png|200|\u0662|test", "the fold must be a whole number"),
        ("SOB_M_DC-14-2523-200-011.png|200|3|test", "of one fold, and line 1 says 2"),
        ("SOB_M_DC-14-2523-200-011.png|200|2|Test", "must be train or test"),
        ("SOB_M_DC-14-2523-200-011.png|200|2|validation", "must be train or test"),
        ("SOB_M_DC-14-2523-200-010.png|200|2|train", "stands once, and this one is on line 2"),
        ("SOB_M_DC-14-2523-200-010.png|200|2|test", "stands once, and this one is on line 2"),
        ("SOB_M_DC-14-2523-200-10.jpg|200|2|train", "stands once, and this one is on line 2"),
    ],
)
def test_a_wrong_line_is_named_with_its_rule(tmp_path: Path, line: str, rule: str) -> None:
    with pytest.raises(SplitError, match=r"dsfold\.txt is not a fold file: line 3 says") as told:
        read(tmp_path, [*GOOD, line, GOOD[0].replace("001", "002")])
    assert rule in str(told.value)
    assert repr(line) in str(told.value)


def test_a_line_without_end_is_shown_in_part(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"line 1 says 'x{77}\.\.\.'"):
        read(tmp_path, ["x" * 10_000])


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_file_of_one_side_is_none(tmp_path: Path, side: str) -> None:
    other = {"train": "test", "test": "train"}[side]
    with pytest.raises(SplitError, match=f"none of its lines says {other}"):
        read(tmp_path, [line.rpartition("|")[0] + f"|{side}" for line in GOOD])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "it is empty"), (b"\n\n", "it is empty"), (b"\x89PNG\r\n\xff\xfe", "it is not text")],
)
def test_other_files_are_not_fold_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "f.txt"
    path.write_bytes(content)
    with pytest.raises(SplitError, match=rf"f\.txt is not a fold file: {said}"):
        read_fold_file(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "BreaKHis_v1.tar.gz"
    with path.open("wb") as stream:
        stream.truncate(33 * 2**20)
    with pytest.raises(SplitError, match="more than 32 MB"):
        read_fold_file(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"no fold file .*gone\.txt"):
        read_fold_file(tmp_path / "gone.txt")
    with pytest.raises(SplitError, match="cannot be read"):
        read_fold_file(tmp_path)
