"""Listing the image files of a folder."""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bc_model.data.images import list_image_files
from bc_model.errors import DataError, FolderNotFoundError


def test_list_image_files_unreadable_folder_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate the error, because the user of the tests may read all folders."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"locked cannot be read \(Permission denied\)"):
        list_image_files(tmp_path)


def test_list_image_files_too_long_name_raises() -> None:
    with pytest.raises(FolderNotFoundError, match=r"There is no folder x+ \(File name too long\)"):
        list_image_files(Path("x" * 300))


def test_list_image_files_skips_heatmaps(tmp_path: Path) -> None:
    heatmaps = (
        "a-1234567f-benign.png", "b-12345678-malignant.png", "b-12345678-malignant.npy",
        "a-1234567f-contribution.png", "b-12345678-contribution.png",
        "b-12345678-contribution.npy",
    )  # fmt: skip
    images = [
        "a-1234567f-benign.jpg", "b-malignant.png", "c-contribution.png", "c.png",
        "d-20231005-benign.png",
    ]  # fmt: skip
    for name in (*heatmaps, *images):
        (tmp_path / name).touch()
    assert [path.name for path in list_image_files(tmp_path)] == images


def test_list_image_files_skips_system_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "b.png").touch()
    assert [path.name for path in list_image_files(tmp_path)] == ["a.png"]
