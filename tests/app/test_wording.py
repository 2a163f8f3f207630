"""The wording of the app: no promises, no emoji, and lists of sentences."""

import re
from pathlib import Path

import pytest

from app.components.layout import format_list

APP = Path(__file__).parents[2] / "app"
SOURCES = sorted(APP.rglob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_app_text_does_not_promise_confidence_or_absence_of_cancer(source: Path):
    text = source.read_text().lower()

    assert "confidence" not in text
    assert "no cancer" not in text


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_app_text_contains_no_emoji(source: Path):
    assert not re.search(r"[\u2600-\u27bf\U0001f000-\U0001faff]", source.read_text())


def test_format_list_with_one_sentence_is_a_paragraph():
    assert format_list([]) == ""
    assert format_list(["A [mark]."]) == r"A \[mark\]."
    assert format_list(["One.", "*Two*."]) == "- One.\n" + r"- \*Two\*."
