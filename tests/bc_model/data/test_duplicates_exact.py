"""Exact duplicates, grouped by class and case."""

import shutil
from pathlib import Path

import pytest

from bc_model.data.dataset import load_dataset
from bc_model.data.duplicates import find_duplicates


@pytest.fixture
def folder(synthetic_dataset: Path, tmp_path: Path) -> Path:
    """Return a copy of the synthetic dataset."""
    shutil.copytree(synthetic_dataset, tmp_path / "set")
    return tmp_path / "set"


def copy_image(folder: Path, source_name: str, name: str, subfolder: str) -> str:
    """Copy an image by its name, and return the path of the copy."""
    (source,) = folder.rglob(source_name)
    target = folder / subfolder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    return target.relative_to(folder).as_posix()


def find_path(folder: Path, name: str) -> str:
    (found,) = folder.rglob(name)
    return found.relative_to(folder).as_posix()


def test_find_duplicates_returns_relation_of_each_pair(folder: Path) -> None:
    names = sorted(path.name for path in folder.rglob("SOB_B_A*"))
    first, second, third = names[:3]
    same = copy_image(folder, first, first.replace("-001", "-901"), "z/benign")
    other = copy_image(folder, second, "SOB_B_A-14-7777-200-001.png", "z/benign")
    malignant = copy_image(folder, third, "SOB_M_DC-14-8888-200-001.png", "z/malignant")

    duplicates = find_duplicates(load_dataset(folder))

    assert duplicates.counts == {
        "other class": 1,
        "other case": 1,
        "case unknown": 0,
        "same case": 1,
    }
    assert duplicates.pairs.to_dict("records") == [
        {
            "path": find_path(folder, third),
            "other": malignant,
            "distance": 0,
            "relation": "other class",
        },
        {
            "path": find_path(folder, second),
            "other": other,
            "distance": 0,
            "relation": "other case",
        },
        {
            "path": find_path(folder, first),
            "other": same,
            "distance": 0,
            "relation": "same case",
        },
    ]


def test_find_duplicates_names_without_case_are_case_unknown(
    synthetic_dataset: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(sorted(synthetic_dataset.rglob("SOB_B*.png"))[:2]):
        for copy_number in range(1 + number):
            target = tmp_path / "benign" / f"{number}-{copy_number}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    duplicates = find_duplicates(load_dataset(tmp_path))

    assert duplicates.pairs[["path", "other", "relation"]].to_numpy().tolist() == [
        ["benign/1-0.png", "benign/1-1.png", "case unknown"]
    ]


def test_find_duplicates_without_duplicates_returns_empty_table(synthetic_dataset: Path) -> None:
    duplicates = find_duplicates(load_dataset(synthetic_dataset))

    assert not any(duplicates.counts.values())
    assert list(duplicates.pairs.columns) == ["path", "other", "distance", "relation"]
    assert duplicates.pairs.empty
