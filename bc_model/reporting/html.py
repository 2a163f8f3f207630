"""A document as text: one self-contained HTML file, or Markdown."""

import re
from functools import cache
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from bc_model.reporting.document import (
    Block,
    Charts,
    Document,
    Facts,
    Heading,
    KeyMetrics,
    Notice,
    Table,
    Text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#])")
_GROUP_ID = re.compile(r'<g id="[^"]*"')


def to_html(document: Document) -> str:
    """Return a document as the text of one HTML file, which loads and runs nothing."""
    return _template().render(document=document)


def to_markdown(document: Document) -> str:
    """Return a document as GitHub Markdown, with the alternative text of each chart."""
    parts = [f"# {_plain(document.title)}", _plain(document.subtitle)]
    parts += [_markdown_block(block) for block in document.blocks]
    return "\n\n".join([*parts, f"*{_plain(document.footer)}.*"]) + "\n"


def _markdown_block(block: Block) -> str:
    match block:
        case Heading():
            return f"## {_plain(block.text)}"
        case Text():
            return _plain(block.text)
        case Notice():
            lines = [f"> **{_plain(block.title)}**", *(f"> {_plain(s)}" for s in block.sentences)]
            return "\n>\n".join(lines)
        case KeyMetrics():
            return "\n".join(
                f"- {one.name}: {one.value} ({one.interval}; {one.support})"
                for one in block.metrics
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
            return "\n\n".join(_plain(chart.alt_text) for chart in block.charts)


def _plain(text: str) -> str:
    """Escape the markup of Markdown and HTML in a text, and put it on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bc_model.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = _inline_svg
    return environment.get_template("document.html.j2")


def _inline_svg(figure: "Figure") -> Markup:
    """Return a figure as an ``<svg>`` element; matplotlib escapes its texts."""
    from bc_model.reporting.plots import figure_to_svg

    text = figure_to_svg(figure).decode("utf-8")
    # Several figures of a page would have the same names for their groups.
    return Markup(_GROUP_ID.sub("<g", text[text.index("<svg") :].rstrip()))
