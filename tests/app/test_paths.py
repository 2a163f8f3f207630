"""Paths as people type and paste them."""

from pathlib import Path

import pytest

from app.components.paths import parse_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" /data/a set ", Path("/data/a set")),
        ("'/data/a set'", Path("/data/a set")),
        ('"/data/a set"', Path("/data/a set")),
        ("~/pictures", Path.home() / "images"),
        ("'", Path("'")),
        ("''", Path("''")),  # and not the folder that the server runs in
        ("/it's", Path("/it's")),
    ],
)
def test_a_parse_path(text: str, expected: Path) -> None:
    assert parse_path(text) == expected
