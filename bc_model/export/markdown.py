"""A document as Markdown, for model cards: tables and lists, no charts."""

import re

from bc_model.export.document import (
    Block,
    Charts,
    Document,
    Facts,
    Heading,
    KeyFigures,
    Notice,
    Table,
    Text,
)

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#])")


def to_markdown(document: Document) -> str:
    """Return a document as GitHub's Markdown; charts become their sentence."""
    parts = [f"# {_plain(document.title)}", _plain(document.subtitle)]
    parts += [_block(block) for block in document.blocks]
    return "\n\n".join([*parts, f"*{_plain(document.footer)}.*"]) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"## {_plain(block.text)}"
        case Text():
            return _plain(block.text)
        case Notice():
            lines = [f"> **{_plain(block.title)}**", *(f"> {_plain(s)}" for s in block.sentences)]
            return "\n>\n".join(lines)
        case KeyFigures():
            return "\n".join(
                f"- {one.name}: {one.value} ({one.interval}; {one.support})"
                for one in block.figures
            )
        case Facts():
            return "\n".join(f"- **{_plain(name)}**: {_plain(what)}" for name, what in block.pairs)
        case Table():
            ruler = ["---:" if k in block.numeric else "---" for k in range(len(block.columns))]
            rows = [block.columns, ruler, *block.rows]
            return "\n".join(
                "| " + " | ".join(c if row is ruler else _plain(c) for c in row) + " |"
                for row in rows
            )
        case Charts():
            return "\n\n".join(_plain(chart.drawing.alt) for chart in block.charts)


def _plain(text: str) -> str:
    """Escape what Markdown or HTML would read as markup, and keep it on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
