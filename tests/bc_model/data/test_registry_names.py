"""Names of registered datasets."""

import pytest

from bc_model.data.registry import check_name, is_name, suggest_name
from bc_model.errors import DataError


@pytest.mark.parametrize("name", ["BreaKHis_v1", "a", "2024.set", "x" * 80])
def test_check_name_valid_name_is_unchanged(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../a", "a b", "x" * 81, "end.", "CON"])
def test_check_name_invalid_on_any_system_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(DataError, match="Invalid dataset name"):
        check_name(name)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/BreaKHis_v1", "BreaKHis_v1"),
        ("/data/BreaKHis_v1/", "BreaKHis_v1"),
        ("C:\\Users\\me\\my set.zip", "my-set"),
        ("BreaKHis_v1.tar.gz", "BreaKHis_v1"),
        ("ÄÖ images.TGZ", "images"),
        ("nul.zip", ""),
        ("...", ""),
        ("", ""),
        ("y" * 79 + " z.zip", "y" * 79),
    ],
)
def test_suggest_name_returns_valid_name_or_nothing(source: str, name: str) -> None:
    assert suggest_name(source) == name
    assert name == "" or is_name(name)
