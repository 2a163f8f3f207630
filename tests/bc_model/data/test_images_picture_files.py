"""Which files are pictures: what is passed over, and what is refused."""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bc_model.data.images import image_files
from bc_model.errors import DataError, FolderNotFoundError


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may read everything, so that the system's answer is stood in for."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"locked cannot be read \(Permission denied\), so what is"):
        image_files(tmp_path)


def test_a_name_that_is_too_long_is_no_folder() -> None:
    with pytest.raises(FolderNotFoundError, match=r"There is no folder x+ \(File name too long\)"):
        image_files(Path("x" * 300))


def test_heatmaps_of_explained_images_are_none_of_the_set(tmp_path: Path) -> None:
    heatmaps = ("a-1234567f-benign.png", "b-12345678-malignant.png", "b-12345678-malignant.npy")
    images = ["a-1234567f-benign.jpg", "b-malignant.png", "c.png", "d-20231005-benign.png"]
    for name in (*heatmaps, *images):
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)] == images


def test_folders_of_the_system_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "b.png").touch()
    assert [path.name for path in image_files(tmp_path)] == ["a.png"]
