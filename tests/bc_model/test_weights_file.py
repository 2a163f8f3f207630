"""A file of initial weights is looked at before anything loads it."""

import zipfile
from pathlib import Path

import h5py
import pytest

from bc_model.errors import WeightsError
from bc_model.weights_file import require_weights_file


@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5"])
def test_an_hdf5_file_is_taken(tmp_path: Path, name: str) -> None:
    h5py.File(tmp_path / name, "w").close()
    require_weights_file(tmp_path / name)


def test_a_keras_file_is_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    require_weights_file(tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["gone.h5", "."])
def test_a_file_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=r"There is no weights file .*; check its path"):
        require_weights_file(tmp_path / name)


@pytest.mark.parametrize("name", ["README.md", "a.h5", "a.keras", "weights"])
@pytest.mark.parametrize("content", [b"", b"# Read me"])
def test_another_file_is_said_to_be_none(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} is not a weights file; give a .h5"):
        require_weights_file(tmp_path / name)
