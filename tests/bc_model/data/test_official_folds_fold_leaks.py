"""What fold files leak, against a script of ten lines that knows nothing of this program."""

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data.dataset import COLUMNS, Dataset
from bc_model.data.official_folds import (
    SiblingLeak,
    count_duplicates,
    count_siblings,
    read_fold_file,
)
from bc_model.errors import DataError

LINES = [
    "SOB_B_A-14-100AB-40-001.png|40|1|train",
    "SOB_B_A-14-100AB-100-001.png|100|1|train",
    "SOB_B_A-14-100CD-40-001.png|40|1|test",  # a sibling of 100AB, benign
    "SOB_B_A-14-100CD-200-001.png|200|1|test",  # its sibling is in training at 40 and 100 alone
    "SOB_B_F-14-200-40-001.png|40|1|test",
    "SOB_M_DC-14-300-40-001.png|40|1|train",
    "SOB_M_DC-14-300A-40-001.png|40|1|test",  # a sibling of 300, malignant
    "SOB_M_LC-14-400-40-001.png|40|1|test",
]


def script(path: Path, magnification: str) -> tuple[int, int, int, int]:
    """Count what `count_siblings` counts, from the lines of the file and nothing else."""
    name = re.compile(r"\w+_([BM])_\w+-\d\d-(\d+)[A-Z]*-(\d+)-\d+\.png\|.*\|(train|test)")
    rows = [name.fullmatch(line).groups() for line in path.read_text().splitlines()]
    seen = {number for _, number, _, side in rows if side == "train"}
    count = Counter()
    for kind, number, zoom, side in rows:
        if side == "test" and magnification in ("all", f"{zoom}X"):
            count["test"] += 1
            count["benign"] += kind == "B"
            count["shared"] += number in seen
            count["benign shared"] += kind == "B" and number in seen
    return count["test"], count["shared"], count["benign"], count["benign shared"]


def numbers(leak: SiblingLeak) -> tuple[int, int, int, int]:
    return leak.test, leak.shared, leak.benign_test, leak.benign_shared


def write(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "dsfold1.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_siblings_counted_by_hand(tmp_path: Path) -> None:
    leaks = count_siblings(read_fold_file(write(tmp_path, LINES)))
    assert {key: numbers(leak) for key, leak in leaks.items()} == {
        "all": (5, 3, 3, 2),
        "40X": (4, 2, 2, 1),
        "100X": (0, 0, 0, 0),
        "200X": (1, 1, 1, 1),
    }
    assert (leaks["all"].proportion, leaks["all"].benign_proportion) == (3 / 5, 2 / 3)


def test_a_proportion_of_nothing_is_not_defined(tmp_path: Path) -> None:
    leak = count_siblings(read_fold_file(write(tmp_path, LINES)))["100X"]
    assert (leak.proportion, leak.benign_proportion) == (None, None)


def test_the_script_agrees_on_the_small_file(tmp_path: Path) -> None:
    path = write(tmp_path, LINES)
    for key, leak in count_siblings(read_fold_file(path)).items():
        assert numbers(leak) == script(path, key)


@pytest.mark.real
@pytest.mark.parametrize("fold", range(1, 6))
def test_the_official_files_leak_what_the_script_says(real_data: Path, fold: int) -> None:
    path = real_data / f"folds/dsfold{fold}.txt"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    folds = read_fold_file(path)
    leaks = count_siblings(folds)
    assert (folds.fold, len(folds.names)) == (fold, 7909)
    assert list(leaks) == ["all", "40X", "100X", "200X", "400X"]
    for key, leak in leaks.items():
        assert numbers(leak) == script(path, key)
    # The ranges that the documents state, as whole percents.
    assert 27 <= round(100 * leaks["all"].proportion) <= 39
    assert 37 <= round(100 * leaks["all"].benign_proportion) <= 76


# Twins among the pictures that are present


def manifest_of(kept: dict[str, str], duplicates: dict[str, str] | None = None) -> Dataset:
    """Build a manifest of file names with their pixels, and of twins with the name kept."""
    rows = [
        {"path": f"x/{name}", "sha256": pixels, "class": "benign" if "_B_" in name else "malignant"}
        for name, pixels in kept.items()
    ]
    images = pd.DataFrame(rows, columns=COLUMNS)
    pairs = [(f"y/{name}", f"x/{of}") for name, of in (duplicates or {}).items()]
    return Dataset(
        Path("set"),
        images,
        pd.DataFrame(columns=["path", "reason", "detail"]),
        pd.DataFrame(pairs, columns=["path", "twin_of"], dtype="str"),
    )


def test_a_duplicate_in_training_under_another_name_is_counted(tmp_path: Path) -> None:
    folds = read_fold_file(write(tmp_path, LINES))
    dataset = manifest_of(
        {
            "SOB_B_A-14-100AB-40-001.jpg": "a",  # train, and its twin 200 is in test
            "SOB_B_A-14-100CD-40-001.jpg": "b",  # test
            "SOB_M_LC-14-400-40-001.jpg": "c",  # test
            "SOB_M_LC-14-400-40-099.jpg": "d",  # not listed
        },
        {"SOB_B_F-14-200-40-001.jpg": "SOB_B_A-14-100AB-40-001.jpg"},
    )
    duplicates = count_duplicates(folds, dataset)
    assert (duplicates.listed, duplicates.not_listed, duplicates.absent) == (4, 1, 4)
    assert (
        duplicates.test,
        duplicates.shared,
        duplicates.benign_test,
        duplicates.benign_shared,
    ) == (3, 1, 2, 1)


def test_duplicates_on_one_side_are_no_leak(tmp_path: Path) -> None:
    folds = read_fold_file(write(tmp_path, LINES))
    dataset = manifest_of(
        {"SOB_B_A-14-100CD-40-001.png": "a"},
        {"SOB_B_F-14-200-40-001.png": "SOB_B_A-14-100CD-40-001.png"},
    )
    duplicates = count_duplicates(folds, dataset)
    assert (duplicates.test, duplicates.shared) == (2, 0)


def test_a_fold_file_of_other_data_is_refused(tmp_path: Path) -> None:
    folds = read_fold_file(write(tmp_path, LINES))
    with pytest.raises(DataError, match=r"None of the 1 pictures under set is listed in .*dsfold1"):
        count_duplicates(folds, manifest_of({"SOB_B_A-14-999-40-001.png": "a"}))
