"""Exact twins by what their names share."""

import shutil
from pathlib import Path

import pytest

from bc_model.data.dataset import read_dataset
from bc_model.data.duplicates import find_duplicates


@pytest.fixture
def folder(drawn_set: Path, tmp_path: Path) -> Path:
    """Copy the drawn set, and three of its pictures under other names."""
    shutil.copytree(drawn_set, tmp_path / "set")
    return tmp_path / "set"


def copy(folder: Path, of: str, name: str, place: str) -> str:
    """Copy a picture by its name; return the path of the copy."""
    (source,) = folder.rglob(of)
    target = folder / place / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    return target.relative_to(folder).as_posix()


def path_of(folder: Path, name: str) -> str:
    (found,) = folder.rglob(name)
    return found.relative_to(folder).as_posix()


def test_pairs_are_told_by_case_and_class(folder: Path) -> None:
    names = sorted(path.name for path in folder.rglob("SOB_B_A*"))
    first, second, third = names[:3]
    same = copy(folder, first, first.replace("-001", "-901"), "z/benign")
    other = copy(folder, second, "SOB_B_A-14-7777-200-001.png", "z/benign")
    malignant = copy(folder, third, "SOB_M_DC-14-8888-200-001.png", "z/malignant")

    duplicates = find_duplicates(read_dataset(folder))

    assert duplicates.counts == {
        "other class": 1,
        "other case": 1,
        "case unknown": 0,
        "same case": 1,
    }
    assert duplicates.pairs.to_dict("records") == [
        {
            "path": path_of(folder, third),
            "other": malignant,
            "distance": 0,
            "relation": "other class",
        },
        {
            "path": path_of(folder, second),
            "other": other,
            "distance": 0,
            "relation": "other case",
        },
        {
            "path": path_of(folder, first),
            "other": same,
            "distance": 0,
            "relation": "same case",
        },
    ]


def test_names_without_a_case_leave_it_open(drawn_set: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(drawn_set.rglob("SOB_B*.png"))[:2]):
        for copy_number in range(1 + number):
            target = tmp_path / "benign" / f"{number}-{copy_number}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    duplicates = find_duplicates(read_dataset(tmp_path))

    assert duplicates.pairs[["path", "other", "relation"]].to_numpy().tolist() == [
        ["benign/1-0.png", "benign/1-1.png", "case unknown"]
    ]


def test_a_set_without_duplicates_has_an_empty_table(drawn_set: Path) -> None:
    duplicates = find_duplicates(read_dataset(drawn_set))

    assert not any(duplicates.counts.values())
    assert list(duplicates.pairs.columns) == ["path", "other", "distance", "relation"]
    assert duplicates.pairs.empty
