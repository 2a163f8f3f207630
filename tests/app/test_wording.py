"""The wording of the app: no promises, no emoji, and lists of sentences."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.components.layout import format_list

APP = Path(__file__).parents[2] / "app"
SOURCES = sorted(APP.rglob("*.py"))
LABELED_WIDGETS = frozenset(
    {
        "button", "checkbox", "download_button", "expander", "file_uploader",
        "form_submit_button", "multiselect", "number_input", "pills", "popover",
        "segmented_control", "select_slider", "selectbox", "show_action_button", "slider",
        "text_input", "toggle",
    }
)  # fmt: skip


def list_calls(source: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the name of each called function or method, with the call."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def get_text(node: ast.expr) -> str:
    """Return the text of a string literal, or an empty string."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


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


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_labels_have_at_most_three_words(source: Path):
    labels = [
        get_text(call.args[0])
        for name, call in list_calls(source)
        if name in LABELED_WIDGETS and call.args
    ]
    assert [label for label in labels if len(label.split()) > 3] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_help_texts_have_at_most_fifteen_words(source: Path):
    texts = [
        get_text(keyword.value)
        for _, call in list_calls(source)
        for keyword in call.keywords
        if keyword.arg == "help"
    ]
    assert [text for text in texts if len(text.split()) > 15] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_texts_contain_no_command_line_flag(source: Path):
    texts = [
        text
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.expr) and "<style>" not in (text := get_text(node))
    ]
    assert [text for text in texts if re.search(r"(^|\s)--[a-z]", text)] == []
