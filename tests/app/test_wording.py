"""The words of the interface: what must not be said, and how."""

import re
from pathlib import Path

import pytest

from app.components.layout import format_list

APP = Path(__file__).parents[2] / "app"
SOURCES = sorted(APP.rglob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_page_promises_confidence_or_the_absence_of_cancer(source: Path):
    text = source.read_text().lower()

    assert "confidence" not in text
    assert "no cancer" not in text


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_emoji(source: Path):
    assert not re.search(r"[\u2600-\u27bf\U0001f000-\U0001faff]", source.read_text())


def test_one_sentence_is_no_list():
    assert format_list([]) == ""
    assert format_list(["A [mark]."]) == r"A \[mark\]."
    assert format_list(["One.", "*Two*."]) == "- One.\n" + r"- \*Two\*."
