"""Reading fold files, and errors with the line and the rule."""

from pathlib import Path

import pytest

from bc_model.data.official_folds import FoldFile, read_fold_file
from bc_model.errors import SplitError

GOOD = [
    "SOB_B_TA-14-3411F-40-001.png|40|2|train",
    "SOB_M_DC-14-2523-200-010.png|200|2|test",
]


def read_lines(tmp_path: Path, lines: list[str], end: str = "\n") -> FoldFile:
    path = tmp_path / "dsfold.txt"
    path.write_bytes((end.join(lines) + end).encode())
    return read_fold_file(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_read_fold_file_returns_fields_of_each_line(tmp_path: Path, end: str) -> None:
    folds = read_lines(tmp_path, GOOD, end)
    assert folds.fold == 2
    assert folds.names.to_dict("records") == [
        {
            "name": "SOB_B_TA-14-3411F-40-001.png", "key": "SOB_B_TA-14-3411F-40-1",
            "class": "benign", "case": "3411", "section": "F", "magnification": 40,
            "subset": "train",
        },
        {
            "name": "SOB_M_DC-14-2523-200-010.png", "key": "SOB_M_DC-14-2523-200-10",
            "class": "malignant", "case": "2523", "section": "", "magnification": 200,
            "subset": "test",
        },
    ]  # fmt: skip


def test_read_fold_file_accepts_missing_and_additional_line_ends(tmp_path: Path) -> None:
    for end in ("", "\n\n\n"):
        path = tmp_path / "f.txt"
        path.write_text("\n".join(GOOD) + end)
        assert len(read_fold_file(path).names) == 2


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("", "expected name|magnification|fold|train or test"),
        ("SOB_M_DC-14-2523-200-011.png|200|2", "expected name|"),
        ("SOB_M_DC-14-2523-200-011.png|200|2|test|", "expected name|"),
        ("image.png|200|2|test", "a name in the BreakHis grammar"),
        ("SOB_B_DC-14-2523-200-011.png|200|2|test", "a name in the BreakHis grammar"),
        (" SOB_M_DC-14-2523-200-011.png|200|2|test", "a name in the BreakHis grammar"),
        ("SOB_M_DC-14-2523-200-011.png|100|2|test", "the magnification of the name, 200"),
        ("SOB_M_DC-14-2523-200-011.png|200X|2|test", "the magnification of the name, 200"),
        ("SOB_M_DC-14-2523-200-011.png|200|two|test", "an integer as fold"),
        ("SOB_M_DC-14-2523-200-011.png|200||test", "an integer as fold"),
        ("SOB_M_DC-14-2523-200-011.png|200|\u0662|test", "an integer as fold"),
        ("SOB_M_DC-14-2523-200-011.png|200|3|test", "the fold of line 1, 2"),
        ("SOB_M_DC-14-2523-200-011.png|200|2|Test", "the subset train or test"),
        ("SOB_M_DC-14-2523-200-011.png|200|2|validation", "the subset train or test"),
        ("SOB_M_DC-14-2523-200-010.png|200|2|train", "each name once, and this name is on line 2"),
        ("SOB_M_DC-14-2523-200-010.png|200|2|test", "each name once, and this name is on line 2"),
        ("SOB_M_DC-14-2523-200-10.jpg|200|2|train", "each name once, and this name is on line 2"),
    ],
)
def test_read_fold_file_invalid_line_is_reported_with_rule(
    tmp_path: Path, line: str, rule: str
) -> None:
    with pytest.raises(SplitError, match=r"dsfold\.txt is not a fold file\. Line 3: ") as error:
        read_lines(tmp_path, [*GOOD, line, GOOD[0].replace("001", "002")])
    assert rule in str(error.value)


def test_read_fold_file_message_does_not_contain_the_line(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="Line 1: expected") as error:
        read_lines(tmp_path, ["password=hunter2"])
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("subset", ["train", "test"])
def test_read_fold_file_with_one_subset_is_refused(tmp_path: Path, subset: str) -> None:
    other = {"train": "test", "test": "train"}[subset]
    with pytest.raises(SplitError, match=f"No line has the subset {other}"):
        read_lines(tmp_path, [line.rpartition("|")[0] + f"|{subset}" for line in GOOD])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "It is empty"),
        (b"\n\n", "It is empty"),
        (b"\x89PNG\r\n\xff\xfe", "It is not UTF-8 text"),
    ],
)
def test_read_fold_file_other_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.txt"
    path.write_bytes(content)
    with pytest.raises(SplitError, match=rf"f\.txt is not a fold file\. {message}"):
        read_fold_file(path)


def test_read_fold_file_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "BreaKHis_v1.tar.gz"
    with path.open("wb") as stream:
        stream.truncate(5 * 2**20)
    with pytest.raises(SplitError, match="Larger than 4 MB"):
        read_fold_file(path)


def test_read_fold_file_missing_file_or_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"There is no fold file .*gone\.txt"):
        read_fold_file(tmp_path / "gone.txt")
    with pytest.raises(SplitError, match="cannot be read"):
        read_fold_file(tmp_path)
