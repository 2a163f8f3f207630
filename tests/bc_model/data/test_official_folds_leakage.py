"""The leakage of fold files, compared with an independent script."""

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from bc_model.data.dataset import COLUMNS, Dataset
from bc_model.data.official_folds import (
    SectionLeakage,
    count_duplicate_leakage,
    count_section_leakage,
    read_fold_file,
)
from bc_model.errors import DataError

LINES = [
    "SOB_B_A-14-100AB-40-001.png|40|1|train",
    "SOB_B_A-14-100AB-100-001.png|100|1|train",
    "SOB_B_A-14-100CD-40-001.png|40|1|test",  # another section of case 100, benign
    "SOB_B_A-14-100CD-200-001.png|200|1|test",  # the case is in training at 40X and 100X only
    "SOB_B_F-14-200-40-001.png|40|1|test",
    "SOB_M_DC-14-300-40-001.png|40|1|train",
    "SOB_M_DC-14-300A-40-001.png|40|1|test",  # another section of case 300, malignant
    "SOB_M_LC-14-400-40-001.png|40|1|test",
]


def count_by_script(path: Path, magnification: str) -> tuple[int, int, int, int]:
    """Return the result of `count_section_leakage` from the lines of the file alone."""
    name = re.compile(r"\w+_([BM])_\w+-\d\d-(\d+)[A-Z]*-(\d+)-\d+\.png\|.*\|(train|test)")
    rows = [name.fullmatch(line).groups() for line in path.read_text().splitlines()]
    training_cases = {number for _, number, _, subset in rows if subset == "train"}
    count = Counter()
    for label, number, zoom, subset in rows:
        if subset == "test" and magnification in ("all", f"{zoom}X"):
            count["test"] += 1
            count["benign"] += label == "B"
            count["shared"] += number in training_cases
            count["benign_shared"] += label == "B" and number in training_cases
    return count["test"], count["shared"], count["benign"], count["benign_shared"]


def to_tuple(leakage: SectionLeakage) -> tuple[int, int, int, int]:
    return leakage.n_test, leakage.n_shared, leakage.n_benign_test, leakage.n_benign_shared


def write(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "dsfold1.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_count_section_leakage_returns_manual_counts(tmp_path: Path) -> None:
    leakage = count_section_leakage(read_fold_file(write(tmp_path, LINES)))
    assert {key: to_tuple(section_leakage) for key, section_leakage in leakage.items()} == {
        "all": (5, 3, 3, 2),
        "40X": (4, 2, 2, 1),
        "100X": (0, 0, 0, 0),
        "200X": (1, 1, 1, 1),
    }
    assert (leakage["all"].proportion, leakage["all"].benign_proportion) == (3 / 5, 2 / 3)


def test_proportion_without_test_images_is_none(tmp_path: Path) -> None:
    section_leakage = count_section_leakage(read_fold_file(write(tmp_path, LINES)))["100X"]
    assert (section_leakage.proportion, section_leakage.benign_proportion) == (None, None)


def test_count_section_leakage_agrees_with_script(tmp_path: Path) -> None:
    path = write(tmp_path, LINES)
    for key, section_leakage in count_section_leakage(read_fold_file(path)).items():
        assert to_tuple(section_leakage) == count_by_script(path, key)


@pytest.mark.real
@pytest.mark.parametrize("fold", range(1, 6))
def test_count_section_leakage_official_files_agree_with_script(real_data: Path, fold: int) -> None:
    path = real_data / f"folds/dsfold{fold}.txt"
    if not path.is_file():
        pytest.skip(f"{path} does not exist")
    folds = read_fold_file(path)
    leakage = count_section_leakage(folds)
    assert (folds.fold, len(folds.names)) == (fold, 7909)
    assert list(leakage) == ["all", "40X", "100X", "200X", "400X"]
    for key, section_leakage in leakage.items():
        assert to_tuple(section_leakage) == count_by_script(path, key)
    # The ranges in the documentation, as integer percentages.
    assert 27 <= round(100 * leakage["all"].proportion) <= 39
    assert 37 <= round(100 * leakage["all"].benign_proportion) <= 76


# Duplicates in a dataset


def make_dataset(kept: dict[str, str], duplicates: dict[str, str] | None = None) -> Dataset:
    """Return a dataset of file names with their pixels, and of duplicates with the kept name."""
    rows = [
        {"path": f"x/{name}", "sha256": pixels, "class": "benign" if "_B_" in name else "malignant"}
        for name, pixels in kept.items()
    ]
    images = pd.DataFrame(rows, columns=COLUMNS)
    pairs = [(f"y/{name}", f"x/{original}") for name, original in (duplicates or {}).items()]
    return Dataset(
        Path("set"),
        images,
        pd.DataFrame(columns=["path", "reason", "detail"]),
        pd.DataFrame(pairs, columns=["path", "duplicate_of"], dtype="str"),
    )


def test_count_duplicate_leakage_duplicate_in_training_is_counted(tmp_path: Path) -> None:
    folds = read_fold_file(write(tmp_path, LINES))
    dataset = make_dataset(
        {
            "SOB_B_A-14-100AB-40-001.jpg": "a",  # in training, and its duplicate 200 in test
            "SOB_B_A-14-100CD-40-001.jpg": "b",  # test
            "SOB_M_LC-14-400-40-001.jpg": "c",  # test
            "SOB_M_LC-14-400-40-099.jpg": "d",  # not listed
        },
        {"SOB_B_F-14-200-40-001.jpg": "SOB_B_A-14-100AB-40-001.jpg"},
    )
    duplicates = count_duplicate_leakage(folds, dataset)
    assert (duplicates.n_listed, duplicates.n_unlisted, duplicates.n_missing) == (4, 1, 4)
    assert (
        duplicates.n_test,
        duplicates.n_shared,
        duplicates.n_benign_test,
        duplicates.n_benign_shared,
    ) == (3, 1, 2, 1)


def test_count_duplicate_leakage_duplicates_in_test_are_not_counted(tmp_path: Path) -> None:
    folds = read_fold_file(write(tmp_path, LINES))
    dataset = make_dataset(
        {"SOB_B_A-14-100CD-40-001.png": "a"},
        {"SOB_B_F-14-200-40-001.png": "SOB_B_A-14-100CD-40-001.png"},
    )
    duplicates = count_duplicate_leakage(folds, dataset)
    assert (duplicates.n_test, duplicates.n_shared) == (2, 0)


def test_count_duplicate_leakage_other_dataset_is_refused(tmp_path: Path) -> None:
    folds = read_fold_file(write(tmp_path, LINES))
    with pytest.raises(DataError, match=r"dsfold1\.txt lists none of the 1 images"):
        count_duplicate_leakage(folds, make_dataset({"SOB_B_A-14-999-40-001.png": "a"}))
