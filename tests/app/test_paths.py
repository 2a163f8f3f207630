"""Paths that users type and paste."""

from pathlib import Path

import pytest

from app.components.paths import parse_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" /data/a dataset ", Path("/data/a dataset")),
        ("'/data/a dataset'", Path("/data/a dataset")),
        ('"/data/a dataset"', Path("/data/a dataset")),
        ("~/images", Path.home() / "images"),
        ("'", Path("'")),
        ("''", Path("''")),  # Not the working directory of the server.
        ("/it's", Path("/it's")),
    ],
)
def test_parse_path_returns_the_path(text: str, expected: Path) -> None:
    assert parse_path(text) == expected
