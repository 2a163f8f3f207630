"""The language of the project: one standard term per concept (see docs/glossary.md)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

STRUCK_WORDS = {
    *("picture", "pictures", "passport", "passports", "verdict", "verdicts", "cutoff", "cutoffs"),
    *("twin", "twins", "shelf", "shelves", "drawn", "told", "anew", "heed", "heeds", "heeded"),
    *("whoever", "somebody", "flatter", "flatters", "flattered"),
}
STRUCK_PHRASES = re.compile(
    r"cut-offs?\b|in the box\b|sibling sections?\b|held against\b|stands? back\b|"
    r"\bleaky\b(?!.?relu)",
    re.IGNORECASE,
)
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def sources() -> list[Path]:
    """Return the files whose language is checked; the appendix of the model log is history."""
    code = [
        path
        for folder in ("app", "bc_model")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".pyi", ".j2", ".css", ".js"}
    ]
    docs = [path for path in (ROOT / "docs").rglob("*.md") if "model-log" not in path.name]
    return sorted([*code, *docs, ROOT / "README.md"])


def struck(text: str) -> list[str]:
    """Return the struck words in a text, inside identifiers as well."""
    words = [word for word in WORD.findall(text) if word.lower() in STRUCK_WORDS]
    return words + STRUCK_PHRASES.findall(text)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_contains_no_struck_words(path: Path) -> None:
    found = [
        f"line {number}: {word}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for word in struck(line)
    ]
    assert found == []


def test_file_names_contain_no_struck_words() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in sources()]
    assert [name for name in names if struck(name)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("read_picture", ["picture"]),
        ("PictureError", ["Picture"]),
        ("a leaky split", ["leaky"]),
        ("leaky ReLU", []),
        ("LeakyReLU", []),
        ("the cut-off of the box", ["cut-off"]),
        ("the image", []),
    ],
)
def test_struck_finds_words_inside_identifiers(text: str, found: list[str]) -> None:
    assert struck(text) == found
